package catalog

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

// Bounds on documents.
const (
	maxItems        = 2000
	maxUses         = 64
	maxComputations = 32
	maxParties      = 64 // in one computation
	maxShort        = 200
	maxLong         = 2000
)

var (
	partyPattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	requestPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	kindPattern    = regexp.MustCompile(`^[a-z][a-z0-9-]*(\.[a-z0-9-]+)*\.v[0-9]{1,4}$`)
	namePattern    = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,63}$`) // roles and permissions
	// 类 (1 digit), 项 (2), 目 (3), 细目 (any number), then a sequence.
	codePattern = regexp.MustCompile(`^[0-9]{6,24}/[0-9]{1,12}$`)
)

// ItemTypes are the types an information item can have.
var ItemTypes = []string{"int", "float", "text"}

// ValidPartyID reports whether id can name a party: lower-case letters, digits
// and inner hyphens, at most 63, and not the platform's own name.
func ValidPartyID(id string) bool { return partyPattern.MatchString(id) && id != suite.Platform }

// faults collects every fault of a document, each with its field's path.
type faults struct{ list []error }

func (f *faults) add(path, format string, args ...any) {
	if len(f.list) < 50 {
		f.list = append(f.list, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
}

func (f *faults) err(what string) error {
	if len(f.list) == 0 {
		return nil
	}
	texts := make([]string, len(f.list))
	for i, e := range f.list {
		texts[i] = e.Error()
	}
	return errors.New(what + ": " + strings.Join(texts, "; "))
}

// text holds s to a length in characters and to printable text, so that a name
// cannot forge lines of a log or a terminal.
func (f *faults) text(path, s string, least, most int) {
	switch n := utf8.RuneCountInString(s); {
	case n < least:
		f.add(path, "is missing")
	case n > most:
		f.add(path, "has %d characters, at most %d are allowed", n, most)
	case !utf8.ValidString(s):
		f.add(path, "is not UTF-8")
	case s != strings.TrimSpace(s):
		f.add(path, "begins or ends with a space")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && (r != '\n' || most < maxLong) }):
		f.add(path, "holds unprintable characters")
	}
}

func (f *faults) match(path, s string, p *regexp.Regexp, want string) {
	switch {
	case s == "":
		f.add(path, "is missing")
	case !p.MatchString(s):
		f.add(path, "%q is not %s", clip(s), want)
	}
}

func (f *faults) party(path, id string) {
	switch {
	case id == "":
		f.add(path, "is missing")
	case !ValidPartyID(id):
		f.add(path, "%q is not a party ID (lower-case letters, digits, inner hyphens)", clip(id))
	}
}

func (f *faults) time(path string, t *timestamppb.Timestamp) {
	switch {
	case t == nil:
		f.add(path, "is missing")
	case t.CheckValid() != nil:
		f.add(path, "is not a date")
	}
}

func (f *faults) code(path string, t *CodeTable, field, code string) {
	if code == "" {
		f.add(path, "is missing")
	} else if _, err := t.Meaning(field, code); err != nil {
		var r *RuleError
		errors.As(err, &r)
		f.add(path, "%s", strings.TrimPrefix(r.Text, field+": "))
	}
}

// clip keeps what a stranger wrote from filling an error.
func clip(s string) string { return clipTo(s, 64) }

func clipTo(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// ValidateEntry holds an entry to the rules for entries and to the codes of
// table, and reports every fault at once with its field's path. The error is a
// RuleError.
func ValidateEntry(e *catalogv1.Entry, table *CodeTable) error {
	var f faults
	f.match("code", e.GetCode(), codePattern,
		"a catalog code: 6 to 24 digits (class, item, subject, detail), a slash and a sequence number")
	if e.GetVersion() < 1 {
		f.add("version", "must be at least 1")
	}
	f.text("name", e.GetName(), 1, maxShort)
	f.party("provider", e.GetProvider())
	f.text("provider_code", e.GetProviderCode(), 0, maxShort)
	f.text("abstract", e.GetAbstract(), 0, maxLong)
	c := e.GetClassification()
	f.text("classification.category", c.GetCategory(), 0, maxShort)
	f.text("classification.item", c.GetItem(), 0, maxShort)
	f.text("classification.subject", c.GetSubject(), 0, maxShort)
	f.text("classification.detail", c.GetDetail(), 0, maxShort)
	f.text("source_system", e.GetSourceSystem(), 1, maxShort)
	f.text("share_mode", e.GetShareMode(), 0, maxShort)
	f.text("share_condition", e.GetShareCondition(), 0, maxLong)
	if e.GetCodeTable() != table.ID() {
		f.add("code_table", "the entry was written by table %q, this platform's is %q", clip(e.GetCodeTable()), table.ID())
	} else {
		f.code("share_type", table, FieldShareType, e.GetShareType())
		f.code("update_cycle", table, FieldUpdateCycle, e.GetUpdateCycle())
		f.code("format", table, FieldFormat, e.GetFormat())
		f.code("grade", table, FieldGrade, e.GetGrade())
		if e.GetOpenAttribute() != "" {
			f.code("open_attribute", table, FieldOpenAttribute, e.GetOpenAttribute())
		}
		if share, err := table.ShareType(e.GetShareType()); err == nil && e.GetShareCondition() == "" {
			switch share {
			case ShareConditional:
				f.add("share_condition", "is missing: conditional sharing states its condition")
			case ShareNone:
				f.add("share_condition", "is missing: not sharing states its legal ground")
			}
		}
	}
	f.time("published", e.GetPublished())
	for i, r := range e.GetRelated() {
		f.match(at("related", i), r, codePattern, "a catalog code")
	}
	if n := len(e.GetItems()); n == 0 || n > maxItems {
		f.add("items", "an entry has 1 to %d items, got %d", maxItems, n)
	}
	seen := make(map[string]int)
	for i, it := range e.GetItems() {
		p := at("items", i)
		f.text(p+".name", it.GetName(), 1, maxShort)
		if first, twice := seen[it.GetName()]; twice {
			f.add(p+".name", "is that of %s too", at("items", first))
		}
		seen[it.GetName()] = i
		if !slices.Contains(ItemTypes, it.GetType()) {
			f.add(p+".type", "%q is not one of %s", clip(it.GetType()), strings.Join(ItemTypes, ", "))
		}
		f.text(p+".description", it.GetDescription(), 0, maxLong)
		if it.GetGrade() != "" && e.GetCodeTable() == table.ID() {
			f.code(p+".grade", table, FieldGrade, it.GetGrade())
		}
	}
	if err := f.err("entry " + clip(e.GetCode())); err != nil {
		rule := RuleEntry
		if e.GetCodeTable() != table.ID() {
			rule = RuleCodeTable
		}
		return Refuse(rule, "%v", err)
	}
	return nil
}

// ValidateRequest holds a request to the rules for requests, as far as they
// can be checked without the entries, and reports every fault at once with its
// field's path. The error is a RuleError.
func ValidateRequest(r *catalogv1.Request) error {
	var f faults
	f.match("id", r.GetId(), requestPattern, "a request ID (letters, digits, . _ -)")
	f.party("requester", r.GetRequester())
	f.text("purpose", r.GetPurpose(), 1, maxShort)
	f.text("scene", r.GetScene(), 1, maxShort)
	f.text("legal_basis", r.GetLegalBasis(), 1, maxLong)
	f.text("person", r.GetPerson(), 1, maxShort)
	f.time("created", r.GetCreated())

	if n := len(r.GetUses()); n == 0 || n > maxUses {
		f.add("uses", "a request uses 1 to %d entries, got %d", maxUses, n)
	}
	var entries []string
	for i, u := range r.GetUses() {
		p := at("uses", i)
		f.match(p+".entry", u.GetEntry(), codePattern, "a catalog code")
		if slices.Contains(entries, u.GetEntry()) {
			f.add(p+".entry", "is used twice")
		}
		entries = append(entries, u.GetEntry())
		if u.GetVersion() < 1 {
			f.add(p+".version", "must be at least 1")
		}
		if n := len(u.GetItems()); n == 0 || n > maxItems {
			f.add(p+".items", "1 to %d items must be named, got %d", maxItems, n)
		}
		f.unique(p+".items", u.GetItems(), func(p, s string) { f.text(p, s, 1, maxShort) })
	}

	if n := len(r.GetComputations()); n == 0 || n > maxComputations {
		f.add("computations", "a request allows 1 to %d computations, got %d", maxComputations, n)
	}
	var kinds, parties []string
	for i, c := range r.GetComputations() {
		p := at("computations", i)
		f.match(p+".kind", c.GetKind(), kindPattern, "a job kind such as psi.ecdh.v1")
		if slices.Contains(kinds, c.GetKind()) {
			f.add(p+".kind", "stands twice")
		}
		kinds = append(kinds, c.GetKind())
		if n := len(c.GetRoles()); n == 0 || n > maxParties {
			f.add(p+".roles", "1 to %d parties take part, got %d", maxParties, n)
		}
		var here []string
		for j, b := range c.GetRoles() {
			q := at(p+".roles", j)
			f.party(q+".party", b.GetParty())
			f.match(q+".role", b.GetRole(), namePattern, "a role")
			if slices.Contains(here, b.GetParty()) {
				f.add(q+".party", "has two roles")
			}
			here = append(here, b.GetParty())
		}
		parties = append(parties, here...)
		f.unique(p+".permissions", c.GetPermissions(), func(p, s string) { f.match(p, s, namePattern, "a permission") })
	}

	if n := len(r.GetRecipients()); n == 0 || n > maxParties {
		f.add("recipients", "1 to %d parties receive results, got %d", maxParties, n)
	}
	f.unique("recipients", r.GetRecipients(), func(p, s string) {
		if f.party(p, s); !slices.Contains(parties, s) {
			f.add(p, "takes part in no computation, so nothing could reach it")
		}
	})

	l := r.GetLimits()
	if l.GetMaxRuns() < 1 {
		f.add("limits.max_runs", "must be at least 1")
	}
	if l.GetMinIntersection() < 0 {
		f.add("limits.min_intersection", "must not be negative")
	}
	if l.GetMinBeforeReveal() && l.GetMinIntersection() < 1 {
		f.add("limits.min_before_reveal", "needs a min_intersection")
	}
	for _, x := range ReleaseOf(l.GetRelease()).Faults() {
		f.add("limits.release."+x.Field, "want %s", x.Want)
	}
	f.time("limits.valid_from", l.GetValidFrom())
	f.time("limits.valid_until", l.GetValidUntil())
	if l.GetValidFrom() != nil && l.GetValidUntil() != nil && !l.GetValidFrom().AsTime().Before(l.GetValidUntil().AsTime()) {
		f.add("limits.valid_until", "must be after limits.valid_from")
	}
	if err := f.err("request " + clip(r.GetId())); err != nil {
		return Refuse(RuleRequest, "%v", err)
	}
	return nil
}

func (f *faults) unique(path string, list []string, check func(path, s string)) {
	seen := make(map[string]bool, len(list))
	for i, s := range list {
		check(at(path, i), s)
		if seen[s] {
			f.add(at(path, i), "stands twice")
		}
		seen[s] = true
	}
}

// ValidateParty holds what a party says of itself to the rules.
func ValidateParty(p *catalogv1.Party) error {
	var f faults
	f.party("id", p.GetId())
	f.text("name", p.GetName(), 0, maxShort)
	f.endpoint("endpoint", p.GetEndpoint())
	if p.GetSuite() != suite.Std {
		f.add("suite", "%q is not spoken here", clip(p.GetSuite()))
	} else if len(p.GetPublicKey()) != 32 {
		f.add("public_key", "has 32 bytes, got %d", len(p.GetPublicKey()))
	}
	if err := f.err("party " + clip(p.GetId())); err != nil {
		return Refuse(RuleRoster, "%v", err)
	}
	return nil
}

func (f *faults) endpoint(path, s string) {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || perr != nil || n == 0 || len(s) > 260 ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		f.add(path, "%q is not host:port", clip(s))
	}
}
