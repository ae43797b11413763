package app

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/catalog/platform"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	"google.golang.org/protobuf/proto"
)

func (c *cli) platformCommand() *cobra.Command {
	var cfg platform.Config
	initCmd := &cobra.Command{
		Use:     "init",
		Short:   "Make the platform's home: signing key, admin token, configuration",
		Example: "  yinqiao platform init --listen 0.0.0.0:7440 --advertise platform.example:7440",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cfg.Advertise == "" && everywhere(cfg.Listen) {
				return usagef("nodes cannot connect to %q: name a host they can reach with --advertise host:port", cfg.Listen)
			}
			if err := platform.Init(c.platform, cfg); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "the platform's home is %s\nnext: `yinqiao platform run%s`\n", c.platform, homeArgs(c.platform, "platform"))
			return nil
		},
	}
	f := initCmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "0.0.0.0:7440", "where nodes connect")
	f.StringVar(&cfg.Advertise, "advertise", "", "host:port that invitations name (default: where it listens)")
	f.BoolVar(&cfg.AutoAccept, "auto-accept", false, "accept requests that pass the formal checks without a person's review")

	run := &cobra.Command{
		Use: "run", Short: "Run the platform until it is interrupted", Args: cobra.NoArgs,
		Example: "  yinqiao platform run",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := platform.Open(c.platform, platform.Options{Log: c.log(), Version: Version})
			if err != nil {
				return err
			}
			defer s.Close()
			l, err := net.Listen("tcp", s.Config().Listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			c.log().Info("platform runs", "address", l.Addr().String(), "version", Version)
			return s.Serve(cmd.Context(), l)
		},
	}
	var party, name string
	var valid time.Duration
	invite := &cobra.Command{
		Use:     "invite --party ID",
		Short:   "Print a one-time code with which a party enrols; it pins the platform's key",
		Example: "  yinqiao platform invite --party zs-bank",
		Args:    cobra.NoArgs,
		RunE: c.staff(func(ctx context.Context, s *platform.Staff, _ []string) error {
			if valid < time.Second {
				return usagef("--valid: want a second or more")
			}
			code, err := s.Invite(ctx, party, name, valid)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.out, code)
			return nil
		}),
	}
	invite.Flags().StringVar(&party, "party", "", "the party's ID, for example zs-bank")
	invite.Flags().StringVar(&name, "name", "", "the organisation's name")
	invite.Flags().DurationVar(&valid, "valid", 24*time.Hour, "how long the code can be used")
	_ = invite.MarkFlagRequired("party")

	parties := &cobra.Command{
		Use: "parties", Short: "Show the roster", Args: cobra.NoArgs,
		Example: "  yinqiao platform parties",
		RunE: c.staff(func(ctx context.Context, s *platform.Staff, _ []string) error {
			ps, err := s.Parties(ctx)
			if err != nil {
				return err
			}
			t := ui.NewTable("party", "name", "endpoint", "suite", "suspended")
			for _, p := range ps {
				t.Add(p.GetId(), p.GetName(), p.GetEndpoint(), p.GetSuite(), yes(p.GetSuspended()))
			}
			t.Print(c.out)
			return nil
		}),
	}
	requests := &cobra.Command{
		Use: "requests", Short: "Show every exchange request", Args: cobra.NoArgs,
		Example: "  yinqiao platform requests",
		RunE: c.staff(func(ctx context.Context, s *platform.Staff, _ []string) error {
			vs, err := s.Requests(ctx)
			if err != nil {
				return err
			}
			t := ui.NewTable("request", "state", "grant", "requester", "purpose", "awaiting")
			for _, v := range vs {
				q := &catalogv1.Request{}
				if err := proto.Unmarshal(v.GetRequest().GetPayload(), q); err != nil {
					return fmt.Errorf("a request of the platform does not decode: %w", err)
				}
				t.Add(q.GetId(), requestState(v.GetState()), v.GetGrantId(), q.GetRequester(), q.GetPurpose(), awaited(v.GetState(), v.GetAwaiting()))
			}
			t.Print(c.out)
			return nil
		}),
	}
	cmd := group("platform", "Run the reference platform: roster, catalog, requests, grants", initCmd, run, invite, parties, requests,
		c.staffVerb("accept REQUEST", "Accept a request that waits for review", "accepted", `R-abc`, false, func(ctx context.Context, s *platform.Staff, id, reason string) error {
			_, err := s.Review(ctx, id, true, reason)
			return err
		}),
		c.staffVerb("refuse REQUEST", "Refuse a request, with its legal reason", "refused", `R-abc --reason "no legal basis"`, true, func(ctx context.Context, s *platform.Staff, id, reason string) error {
			_, err := s.Review(ctx, id, false, reason)
			return err
		}),
		c.staffVerb("revoke GRANT", "Revoke a grant: running sessions end within seconds", "revoked", `G-2026-0001 --reason "the purpose has ended"`, true, func(ctx context.Context, s *platform.Staff, id, reason string) error {
			return s.RevokeGrant(ctx, id, reason)
		}),
		c.staffVerb("revoke-entry CODE", "Revoke a catalog entry", "revoked", `330100020003/000007 --reason "wrong share type"`, true, func(ctx context.Context, s *platform.Staff, id, reason string) error {
			return s.RevokeEntry(ctx, id, reason)
		}),
		c.staffVerb("suspend PARTY", "Suspend a party: it loses its connections", "suspended", `zs-bank --reason "key lost"`, true, func(ctx context.Context, s *platform.Staff, id, reason string) error {
			return s.Suspend(ctx, id, true, reason)
		}),
		c.staffVerb("resume PARTY", "Let a suspended party in again", "let in again:", `zs-bank`, false, func(ctx context.Context, s *platform.Staff, id, reason string) error {
			return s.Suspend(ctx, id, false, reason)
		}),
	)
	homeFlag(cmd, &c.platform, "platform")
	return cmd
}

// staff runs f against the running platform of --home.
func (c *cli) staff(f func(ctx context.Context, s *platform.Staff, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := platform.OpenStaff(c.platform)
		if err != nil {
			return err
		}
		defer s.Close()
		return f(cmd.Context(), s, args)
	}
}

// staffVerb makes a verb on one ID; did is what is printed before the ID when
// it is done.
func (c *cli) staffVerb(use, short, did, example string, needsReason bool, f func(ctx context.Context, s *platform.Staff, id, reason string) error) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: oneArgument,
		RunE: c.staff(func(ctx context.Context, s *platform.Staff, args []string) error {
			if err := f(ctx, s, args[0], reason); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s %s\n", did, args[0])
			return nil
		}),
	}
	cmd.Example = "  yinqiao platform " + cmd.Name() + " " + example
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	if needsReason {
		_ = cmd.MarkFlagRequired("reason")
	}
	return cmd
}
