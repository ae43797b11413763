package app

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/node"
	"github.com/yinqiao/yinqiao/node/api"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

func (c *cli) auditCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "Show the log: receipts, records of failed runs, refusals", Args: cobra.NoArgs,
		Example: "  yinqiao audit list",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Audit, func(ctx context.Context, op nodev1.OperatorClient) error {
				t := ui.NewTable("index", "at", "kind", "digest", "what")
				for from := uint64(0); ; {
					r, err := op.ListAudit(ctx, &nodev1.ListAuditRequest{From: from})
					if err != nil {
						return err
					}
					for _, l := range r.GetLines() {
						at, what := auditLine(l)
						t.Add(fmt.Sprint(l.GetIndex()), at, l.GetKind(), hex.EncodeToString(l.GetDigest())[:16], what)
					}
					from += uint64(len(r.GetLines()))
					if len(r.GetLines()) == 0 || from >= r.GetSize() {
						break
					}
				}
				t.Print(c.out)
				return nil
			})
		},
	}
	var dir, logKey, party string
	var parties []string
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Check a log offline: every byte, every signature, every inclusion",
		Long: `Reads a log's files and nothing else: the signed checkpoint, the tree rebuilt
from the entries, and every signature on every receipt, record and event. The
keys of the other parties come from the node's last roster, or from --party-key.`,
		Example: `  yinqiao audit verify
  yinqiao audit verify --dir ./audit --party zs-bank --log-key KEY --party-key zs-gov=KEY`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.verifyConfig(dir, party, logKey, parties)
			if err != nil {
				return err
			}
			rep, err := audit.Verify(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if c.json {
				b, err := json.Marshal(verified{rep.OK(), rep.Size, hex.EncodeToString(rep.Root), rep.Receipts, rep.Records, rep.Events, append([]audit.Fault{}, rep.Faults...)})
				if err != nil {
					return err
				}
				fmt.Fprintf(c.out, "%s\n", b)
			} else {
				for _, f := range rep.Faults {
					fmt.Fprintf(c.out, "FAULT %s\n", f)
				}
				fmt.Fprintf(c.out, "%d entries: %d receipts, %d records of failed runs, %d refusals and events\nroot %s\n",
					rep.Size, rep.Receipts, rep.Records, rep.Events, hex.EncodeToString(rep.Root))
			}
			if !rep.OK() {
				return fmt.Errorf("the log does not verify: %d faults", len(rep.Faults))
			}
			if !c.json {
				fmt.Fprintln(c.out, "the log verifies")
			}
			return nil
		},
	}
	f := verify.Flags()
	f.StringVar(&dir, "dir", "", "the log's folder (default: the node's)")
	f.StringVar(&party, "party", "", "whose log it is (default: the node's party)")
	f.StringVar(&logKey, "log-key", "", "that party's public key in base64 (default: the node's)")
	f.StringArrayVar(&parties, "party-key", nil, "ID=KEY of another party that signed entries; may be repeated")
	f.BoolVar(&c.json, "json", false, "print one JSON object on standard output")
	cmd := group("audit", "Read the audit log, and verify it offline", list, verify)
	c.operatorFlags(cmd)
	return cmd
}

// verified is what verify prints with --json.
type verified struct {
	OK       bool          `json:"ok"`
	Size     uint64        `json:"size"`
	Root     string        `json:"root"` // hexadecimal
	Receipts int           `json:"receipts"`
	Records  int           `json:"records"`
	Events   int           `json:"events"`
	Faults   []audit.Fault `json:"faults"`
}

// verifyConfig finds the folder and the keys that verify needs.
func (c *cli) verifyConfig(dir, party, logKey string, parties []string) (audit.VerifyConfig, error) {
	home := node.Home{Dir: c.home}
	cfg := audit.VerifyConfig{Dir: dir, Party: party, PartyKeys: map[string][]byte{}}
	if dir == "" || logKey == "" || party == "" {
		nc, err := home.Config()
		if err != nil {
			return cfg, err
		}
		public, err := home.PublicKey()
		if err != nil {
			return cfg, err
		}
		if dir == "" {
			cfg.Dir = home.AuditDir()
		}
		if party == "" {
			cfg.Party = nc.Party
		}
		cfg.LogKey = public
		known, err := home.KnownKeys()
		if err != nil {
			return cfg, err
		}
		for id, k := range known {
			cfg.PartyKeys[id] = k
		}
	}
	if logKey != "" {
		k, err := decodeKey(logKey)
		if err != nil {
			return cfg, usagef("--log-key: %w", err)
		}
		cfg.LogKey = k
	}
	cfg.PartyKeys[cfg.Party] = cfg.LogKey
	for _, p := range parties {
		id, text, ok := strings.Cut(p, "=")
		k, err := decodeKey(text)
		if !ok || err != nil {
			return cfg, usagef("--party-key wants ID=KEY, the key in base64")
		}
		cfg.PartyKeys[id] = k
	}
	return cfg, nil
}

func decodeKey(text string) ([]byte, error) {
	k, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(k) != 32 {
		return nil, fmt.Errorf("want 32 bytes in base64")
	}
	return k, nil
}

// auditLine says when and in a line what an entry records.
func auditLine(l *nodev1.AuditLine) (at, what string) {
	payload := l.GetSigned().GetPayload()
	when := func(t *timestamppb.Timestamp) string { return t.AsTime().Local().Format(time.DateTime) }
	switch l.GetKind() {
	case "receipt":
		r := &auditv1.Receipt{}
		if proto.Unmarshal(payload, r) == nil {
			var ps []string
			for _, p := range r.GetParties() {
				ps = append(ps, p.GetParty())
			}
			agreed := ""
			for _, name := range slices.Sorted(maps.Keys(r.GetDigests())) {
				agreed += fmt.Sprintf(", %s %x", name, r.GetDigests()[name])
			}
			return when(r.GetFinished()), fmt.Sprintf("job %s, %s, grant %s, by %s%s", r.GetJob(), r.GetKind(), r.GetGrantId(), strings.Join(ps, " and "), agreed)
		}
	case "record":
		r := &auditv1.Record{}
		if proto.Unmarshal(payload, r) == nil {
			return when(r.GetEnded()), fmt.Sprintf("job %s %s at %s (%s)", r.GetJob(), r.GetState(), r.GetParty(), r.GetClass())
		}
	case "event":
		e := &auditv1.Event{}
		if proto.Unmarshal(payload, e) == nil {
			from := ""
			if e.GetPeer() != "" {
				from = ", from " + e.GetPeer()
			}
			return when(e.GetAt()), fmt.Sprintf("%s by rule %s%s: %s", e.GetCategory(), e.GetRule(), from, e.GetDetail())
		}
	}
	return "", "does not decode"
}
