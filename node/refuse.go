package node

import (
	"errors"
	"fmt"

	"github.com/yinqiao/yinqiao/catalog"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

// Refusal says who refused, which rule, and what would satisfy it.
type Refusal struct {
	By       string // party ID
	RuleCode string // stable
	Text     string
	Local    bool // a rule of the node's own policy or state: peers learn the class only
	Security bool // forged, altered or replayed: recorded as a security event
	// Attempt is, with rule "attempt", the last that has begun at By.
	Attempt int64
}

func (r *Refusal) Error() string {
	if r.Text == "" {
		return fmt.Sprintf("%s refused (rule %s)", r.By, r.RuleCode)
	}
	return fmt.Sprintf("%s refused: %s (rule %s)", r.By, r.Text, r.RuleCode)
}

// Code is the stable class of a refusal.
func (*Refusal) Code() string { return "refused" }

// Rule is the stable code of the rule.
func (r *Refusal) Rule() string { return r.RuleCode }

// Who is the party that refused.
func (r *Refusal) Who() string { return r.By }

func (n *Node) refuse(rule, format string, a ...any) *Refusal {
	return &Refusal{By: n.cfg.Party, RuleCode: rule, Text: fmt.Sprintf(format, a...)}
}

func (n *Node) refuseLocal(rule, format string, a ...any) *Refusal {
	r := n.refuse(rule, format, a...)
	r.Local = true
	return r
}

func (n *Node) refuseSecurity(rule, format string, a ...any) *Refusal {
	r := n.refuse(rule, format, a...)
	r.Security = true
	return r
}

// asRefusal turns any admission error into a refusal: rules of the catalog
// keep their code, everything else is internal and stays home.
func (n *Node) asRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	var rule *catalog.RuleError
	if errors.As(err, &rule) {
		return &Refusal{By: n.cfg.Party, RuleCode: rule.Rule, Text: rule.Text, Security: rule.Security}
	}
	if errors.Is(err, catalog.ErrUnreachable) {
		return &Refusal{By: n.cfg.Party, RuleCode: "platform_unreachable", Text: "the platform cannot be reached, and without it no job starts and no result is released"}
	}
	return &Refusal{By: n.cfg.Party, RuleCode: "internal", Text: err.Error(), Local: true}
}

// forPeer is what a peer may know of a refusal.
func (r *Refusal) forPeer() *peerv1.Refusal {
	p := &peerv1.Refusal{Party: r.By, Rule: r.RuleCode}
	if r.Local {
		p.Rule = "local_policy"
		if r.RuleCode == "internal" {
			p.Rule = "internal"
		}
		return p
	}
	p.Text, p.Attempt = r.Text, r.Attempt
	return p
}

func fromPeer(party string, p *peerv1.Refusal) *Refusal {
	return &Refusal{By: party, RuleCode: clip(p.GetRule(), 64), Text: clip(p.GetText(), 512), Attempt: p.GetAttempt()}
}

// clip bounds text that came from a peer and drops what a terminal would obey.
func clip(s string, n int) string {
	out := make([]rune, 0, min(len(s), n))
	for _, r := range s {
		if len(out) == n {
			break
		}
		if r >= ' ' && r != 0x7f {
			out = append(out, r)
		}
	}
	return string(out)
}

// failure is how a run ended: a stable class and words for the operator.
type failure struct {
	class  string
	reason string
}

func (f *failure) Error() string { return f.reason }

// Code is the stable class.
func (f *failure) Code() string { return f.class }

func fail(class, format string, a ...any) *failure {
	return &failure{class: class, reason: fmt.Sprintf(format, a...)}
}
