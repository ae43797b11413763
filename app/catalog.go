package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/files"
	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/node/api"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

func (c *cli) catalogCommand() *cobra.Command {
	register := &cobra.Command{
		Use:     "register ENTRY.yaml...",
		Short:   "Register catalog entries: metadata goes to the platform, rows stay",
		Example: "  yinqiao catalog register entries/credit.yaml",
		Args:    someArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			var entries []*files.Entry
			for _, path := range args {
				e, err := files.Read[files.Entry](path)
				if err != nil {
					return err
				}
				entries = append(entries, e)
			}
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				for _, e := range entries {
					r, err := op.RegisterEntry(ctx, &nodev1.RegisterEntryRequest{Entry: e.Message(), Dataset: e.Dataset})
					if err != nil {
						return err
					}
					fmt.Fprintf(c.out, "registered %s version %d: %s rows, keys by rule %s\n", r.GetCode(), r.GetVersion(), ui.Count(r.GetRows()), r.GetKeyRule())
					for _, note := range r.GetNotes() {
						fmt.Fprintf(c.err, "note: %s\n", note)
					}
				}
				return nil
			})
		},
	}
	list := &cobra.Command{
		Use:   "list [CODE]",
		Short: "Show the catalog's current entries, or one with its items",
		Example: `  yinqiao catalog list
  yinqiao catalog list 330100020003/000007`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.ListEntries(ctx, &nodev1.ListEntriesRequest{Code: strings.Join(args, "")})
				if err != nil {
					return err
				}
				if len(args) == 1 {
					for _, e := range r.GetEntries() {
						fmt.Fprintf(c.out, "%s version %d · %s · held by %s · share type %s · grade %s\n", e.GetCode(), e.GetVersion(), e.GetName(), e.GetProvider(), e.GetShareType(), e.GetGrade())
						t := ui.NewTable("item", "type", "key", "description")
						for _, it := range e.GetItems() {
							t.Add(it.GetName(), it.GetType(), yes(it.GetKey()), it.GetDescription())
						}
						t.Print(c.out)
					}
					return nil
				}
				t := ui.NewTable("code", "version", "name", "provider", "share", "grade", "items")
				for _, e := range r.GetEntries() {
					t.Add(e.GetCode(), fmt.Sprint(e.GetVersion()), e.GetName(), e.GetProvider(), e.GetShareType(), e.GetGrade(), fmt.Sprint(len(e.GetItems())))
				}
				t.Print(c.out)
				return nil
			})
		},
	}
	cmd := group("catalog", "Register and look up catalog entries", register, list)
	c.operatorFlags(cmd)
	return cmd
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func (c *cli) requestCommand() *cobra.Command {
	var draft bool
	create := &cobra.Command{
		Use:     "create REQUEST.yaml",
		Short:   "File an exchange request with the platform",
		Example: "  yinqiao request create request.yaml",
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := files.Read[files.Request](args[0])
			if err != nil {
				return err
			}
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				m, err := q.Message(time.Now(), entryFinder(ctx, op))
				if err != nil {
					return err
				}
				r, err := op.CreateRequest(ctx, &nodev1.CreateRequestRequest{Request: m, Draft: draft})
				if err != nil {
					return err
				}
				c.showRequest(r.GetRequest())
				return nil
			})
		},
	}
	create.Flags().BoolVar(&draft, "draft", false, "keep it as a draft, to be sent by: yinqiao request submit ID")
	submit := &cobra.Command{
		Use: "submit ID", Short: "Submit a draft", Args: oneArgument,
		Example: "  yinqiao request submit R-abc",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.SubmitRequest(ctx, &nodev1.SubmitRequestRequest{RequestId: args[0]})
				if err != nil {
					return err
				}
				c.showRequest(r.GetRequest())
				return nil
			})
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "Show the requests this party has a part in", Args: cobra.NoArgs,
		Example: "  yinqiao request list",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.ListRequests(ctx, &nodev1.ListRequestsRequest{})
				if err != nil {
					return err
				}
				t := ui.NewTable("request", "state", "grant", "requester", "purpose", "awaiting")
				for _, q := range r.GetRequests() {
					t.Add(q.GetRequest().GetId(), requestState(q.GetState()), q.GetGrantId(), q.GetRequest().GetRequester(), q.GetRequest().GetPurpose(), awaited(q.GetState(), q.GetAwaiting()))
				}
				t.Print(c.out)
				return nil
			})
		},
	}
	show := &cobra.Command{
		Use: "show ID", Short: "Show what a request asks for", Args: oneArgument,
		Example: "  yinqiao request show R-abc",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.ListRequests(ctx, &nodev1.ListRequestsRequest{RequestId: args[0]})
				if err != nil {
					return err
				}
				for _, q := range r.GetRequests() {
					c.showRequest(q)
				}
				return nil
			})
		},
	}
	decide := func(use, short, example string, approve bool) *cobra.Command {
		var reason, digest string
		cmd := &cobra.Command{
			Use: use + " ID", Short: short, Args: oneArgument, Example: example,
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.call(cmd, api.Approve, func(ctx context.Context, op nodev1.OperatorClient) error {
					shown, err := op.ListRequests(ctx, &nodev1.ListRequestsRequest{RequestId: args[0]})
					if err != nil {
						return err
					}
					if len(shown.GetRequests()) != 1 {
						return fmt.Errorf("the platform has no request %s for this party", args[0])
					}
					q := shown.GetRequests()[0]
					if got := hex.EncodeToString(q.GetDigest()); digest != "" && !strings.EqualFold(digest, got) {
						return fmt.Errorf("request %s is not the one with digest %s: look at it again with `yinqiao request show`", args[0], digest)
					}
					r, err := op.DecideRequest(ctx, &nodev1.DecideRequestRequest{RequestId: args[0], Approve: approve, Reason: reason, Digest: q.GetDigest()})
					if err != nil {
						return err
					}
					c.showRequest(r.GetRequest())
					return nil
				})
			},
		}
		cmd.Flags().StringVar(&reason, "reason", "", "the legal reason; a refusal needs one")
		cmd.Flags().StringVar(&digest, "digest", "", "decide only if this is still the request's digest, as request show printed it")
		return cmd
	}
	cmd := group("request", "File, show, approve and refuse exchange requests", create, submit, list, show,
		decide("approve", "Sign this provider's approval", "  yinqiao request approve R-abc", true),
		decide("refuse", "Sign this provider's refusal; after the grant, it revokes it", `  yinqiao request refuse R-abc --reason "not for this purpose"`, false))
	c.operatorFlags(cmd)
	return cmd
}

// entryFinder looks current entries up through a node.
func entryFinder(ctx context.Context, op nodev1.OperatorClient) files.Entries {
	return func(code string) (*catalogv1.Entry, error) {
		r, err := op.ListEntries(ctx, &nodev1.ListEntriesRequest{Code: code})
		if err != nil {
			return nil, err
		}
		if len(r.GetEntries()) == 0 {
			return nil, fmt.Errorf("the catalog has no entry %s", code)
		}
		return r.GetEntries()[len(r.GetEntries())-1], nil
	}
}

func requestState(s catalogv1.RequestState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "REQUEST_STATE_"))
}

// awaited says whose word a request waits for.
func awaited(s catalogv1.RequestState, providers []string) string {
	if s == catalogv1.RequestState_REQUEST_STATE_SUBMITTED {
		return "the platform"
	}
	return strings.Join(providers, ", ")
}

func (c *cli) showRequest(q *nodev1.RequestSummary) {
	r := q.GetRequest()
	fmt.Fprintf(c.out, "request %s: %s\n", r.GetId(), requestState(q.GetState()))
	line := func(k, v string) {
		if v != "" {
			fmt.Fprintf(c.out, "  %-12s %s\n", k, v)
		}
	}
	line("reason", q.GetReason())
	line("grant", q.GetGrantId())
	line("awaiting", awaited(q.GetState(), q.GetAwaiting()))
	line("digest", hex.EncodeToString(q.GetDigest()))
	line("requester", r.GetRequester())
	line("purpose", r.GetPurpose())
	line("scene", r.GetScene())
	line("legal basis", r.GetLegalBasis())
	for _, u := range r.GetUses() {
		line("uses", fmt.Sprintf("%s version %d: %s", u.GetEntry(), u.GetVersion(), strings.Join(u.GetItems(), ", ")))
	}
	for _, k := range r.GetComputations() {
		var roles []string
		for _, b := range k.GetRoles() {
			roles = append(roles, b.GetParty()+" as "+b.GetRole())
		}
		line("computes", k.GetKind()+" by "+strings.Join(roles, " and "))
		if len(k.GetPermissions()) > 0 {
			line("opens", strings.Join(k.GetPermissions(), ", "))
		}
	}
	line("recipients", strings.Join(r.GetRecipients(), ", "))
	l := r.GetLimits()
	runs := fmt.Sprintf("%d runs, ", l.GetMaxRuns())
	if l.GetMinIntersection() > 0 {
		runs += fmt.Sprintf("intersection of at least %d, ", l.GetMinIntersection())
	}
	line("limits", fmt.Sprintf("%s%s to %s", runs, l.GetValidFrom().AsTime().Format(time.DateOnly), l.GetValidUntil().AsTime().Format(time.DateOnly)))
	line("releases", releaseTerms(catalog.ReleaseOf(l.GetRelease())))
}
