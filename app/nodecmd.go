package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/node"
	"github.com/yinqiao/yinqiao/node/api"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

func (c *cli) nodeCommand() *cobra.Command {
	var o nodeInit
	initCmd := &cobra.Command{
		Use:   "init --invite CODE",
		Short: "Make this party's node: keys, configuration, persons; and enrol it",
		Example: `  yinqiao node init --invite CODE --listen 0.0.0.0:7443 --advertise bank.example:7443
  yinqiao node init --invite CODE --listen 127.0.0.1:7443 --home ./bank`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.home = node.Home{Dir: c.home}
			party, err := o.run(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s is enrolled; its home is %s\n", party, c.home)
			fmt.Fprintf(c.out, "next: describe your tables in %s, then `yinqiao node run%s`\n", o.home.ConfigFile(), homeArgs(c.home, "node"))
			fmt.Fprintf(c.out, "tokens of operator, approver and auditor are in %s: hand each to its person\n", filepath.Join(c.home, "tokens"))
			return nil
		},
	}
	f := initCmd.Flags()
	f.StringVar(&o.invite, "invite", "", "the one-time code that the platform handed out")
	f.StringVar(&o.listen, "listen", "0.0.0.0:7443", "where other nodes connect")
	f.StringVar(&o.advertise, "advertise", "", "host:port that the roster tells them (default: --listen)")
	f.StringVar(&o.api, "api", "127.0.0.1:7444", "where the operator API listens")
	f.StringVar(&o.metrics, "metrics", "", "where health and metrics listen, plain HTTP (default: nowhere)")
	f.StringVar(&o.name, "name", "", "the organisation's name")
	_ = initCmd.MarkFlagRequired("invite")

	run := &cobra.Command{
		Use: "run", Short: "Run the node until it is interrupted", Args: cobra.NoArgs,
		Example: "  yinqiao node run",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runNode(cmd.Context(), node.Home{Dir: c.home})
		},
	}
	doctor := &cobra.Command{
		Use: "doctor", Short: "Check clock, version, certificate, route and catalog, and name the failing side", Args: cobra.NoArgs,
		Example: "  yinqiao node doctor",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.Doctor(ctx, &nodev1.DoctorRequest{})
				if err != nil {
					return err
				}
				failed := 0
				t := ui.NewTable("", "side", "check", "detail")
				for _, k := range r.GetChecks() {
					mark := "ok"
					if !k.GetOk() {
						mark = "FAIL"
						failed++
					}
					t.Add(mark, k.GetSide(), k.GetName(), k.GetDetail())
				}
				t.Print(c.out)
				for _, k := range r.GetChecks() {
					if !k.GetOk() {
						fmt.Fprintf(c.err, "hint: %s, %s: %s\n", k.GetSide(), k.GetName(), k.GetHint())
					}
				}
				if failed > 0 {
					return fmt.Errorf("%d of %d checks failed", failed, len(r.GetChecks()))
				}
				return nil
			})
		},
	}
	info := &cobra.Command{
		Use: "info", Short: "Show who the running node is", Args: cobra.NoArgs,
		Example: "  yinqiao node info",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.Info(ctx, &nodev1.InfoRequest{})
				if err != nil {
					return err
				}
				fmt.Fprintf(c.out, "party     %s\nversion   %s\nendpoint  %s\ndatasets  %v\n", r.GetParty(), r.GetVersion(), r.GetEndpoint(), r.GetDatasets())
				return nil
			})
		},
	}
	cmd := group("node", "Make, run and check this party's node", initCmd, run, doctor, info, c.personCommand())
	c.operatorFlags(cmd)
	return cmd
}

// nodeInit makes a home and enrols it.
type nodeInit struct {
	home                                          node.Home
	invite, listen, advertise, api, metrics, name string
}

func (o *nodeInit) run(ctx context.Context) (party string, err error) {
	invite, err := catalog.ParseInvite(o.invite)
	if err != nil {
		return "", usage{err}
	}
	cfg := node.Config{
		Party: invite.Party, Listen: o.listen, Advertise: o.advertise, API: o.api, Metrics: o.metrics,
		Platform: node.PlatformConfig{Address: invite.Address, PublicKey: node.EncodeKey(invite.PlatformKey)},
	}
	if err := cfg.Validate(); err != nil {
		return "", usage{err}
	}
	if everywhere(cfg.Advertise) {
		return "", usagef("other nodes cannot connect to %q: name a host they can reach with --advertise host:port", cfg.Advertise)
	}
	before, err := os.ReadDir(o.home.Dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew {
		return "", err
	}
	key, err := o.home.Create()
	if err != nil {
		return "", err
	}
	if _, err := catalog.Enrol(ctx, invite, key, cfg.Advertise, o.name); err != nil {
		return "", errors.Join(err, undo(o.home.Dir, before, isNew))
	}
	if err := o.home.WriteConfig(cfg); err != nil {
		return "", err
	}
	return cfg.Party, firstTokens(o.home)
}

// everywhere reports whether an address stands for every interface, which
// nobody can dial.
func everywhere(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// undo takes out of dir what was not there before, and nothing else.
func undo(dir string, before []os.DirEntry, isNew bool) error {
	if isNew {
		return os.RemoveAll(dir)
	}
	now, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range now {
		if !slices.ContainsFunc(before, func(b os.DirEntry) bool { return b.Name() == e.Name() }) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// firstTokens makes the three first persons and keeps their tokens for the one
// who set the node up.
func firstTokens(home node.Home) error {
	persons, err := api.OpenPersons(home.PersonsFile())
	if err != nil {
		return err
	}
	for role, name := range firstPersons {
		token, err := persons.Add(name, role)
		if err != nil {
			return err
		}
		path := home.TokenFile(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// persons opens the list of the node in --home.
func (c *cli) persons() (*api.Persons, error) {
	home := node.Home{Dir: c.home}
	if _, err := home.PublicKey(); err != nil {
		return nil, err
	}
	return api.OpenPersons(home.PersonsFile())
}

func (c *cli) personCommand() *cobra.Command {
	var role string
	add := &cobra.Command{
		Use: "add NAME --role operate|approve|audit", Short: "Let a person in, and print the token once", Args: oneArgument,
		Example: "  yinqiao node person add zhang.san --role approve",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := api.ParseRole(role)
			if err != nil {
				return usage{err}
			}
			persons, err := c.persons()
			if err != nil {
				return err
			}
			token, err := persons.Add(args[0], r)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.out, token)
			return nil
		},
	}
	add.Flags().StringVar(&role, "role", "", "operate, approve or audit: one person has one role")
	_ = add.MarkFlagRequired("role")
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Shut a person out", Args: oneArgument,
		Example: "  yinqiao node person remove approver",
		RunE: func(cmd *cobra.Command, args []string) error {
			persons, err := c.persons()
			if err != nil {
				return err
			}
			return persons.Remove(args[0])
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "Show who may ask this node for what", Args: cobra.NoArgs,
		Example: "  yinqiao node person list",
		RunE: func(cmd *cobra.Command, args []string) error {
			persons, err := c.persons()
			if err != nil {
				return err
			}
			ps, err := persons.List()
			if err != nil {
				return err
			}
			t := ui.NewTable("person", "role")
			for _, p := range ps {
				t.Add(p.Name, string(p.Role))
			}
			t.Print(c.out)
			return nil
		},
	}
	return group("person", "Named persons and their separated roles (三员分立)", add, remove, list)
}

// runNode runs a node with its operator API and its health endpoint.
func (c *cli) runNode(ctx context.Context, home node.Home) error {
	log := c.log()
	metrics := api.NewMetrics()
	n, err := node.Open(ctx, home, node.Options{Registry: c.registry, Version: Version, Log: log, Metrics: metrics})
	if err != nil {
		return err
	}
	defer func() {
		if err := n.Close(); err != nil {
			log.Error("close", "error", err)
		}
	}()
	cfg := n.Config()
	persons, err := api.OpenPersons(home.PersonsFile())
	if err != nil {
		return err
	}
	server, err := api.NewServer(api.Config{Node: n.Party(), Key: n.Key(), Persons: persons, Backend: n, Log: log})
	if err != nil {
		return err
	}
	peers, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for other nodes: %w", err)
	}
	operators, err := net.Listen("tcp", cfg.API)
	if err != nil {
		peers.Close()
		return fmt.Errorf("listen for operators: %w", err)
	}
	var health net.Listener
	if cfg.Metrics != "" {
		if health, err = net.Listen("tcp", cfg.Metrics); err != nil {
			return errors.Join(fmt.Errorf("listen for health checks: %w", err), operators.Close(), peers.Close())
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.Run(ctx, peers) })
	group.Go(func() error { return server.Serve(ctx, operators) })
	if health != nil {
		group.Go(func() error {
			return api.ServeMonitor(ctx, health, api.MonitorConfig{Metrics: metrics, Ready: n.Ready(), Log: log})
		})
	}
	log.Info("node runs", "party", n.Party(), "peers", peers.Addr().String(), "operators", operators.Addr().String(), "version", Version)
	err = group.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		log.Info("node stops", "after", time.Since(started).Round(time.Second).String())
		return nil
	}
	return err
}

var started = time.Now()
