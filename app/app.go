// Package app is the program: its verbs, flags and exit codes, wired to the
// packages that do the work. A main of one's own calls [Main] with protocols
// of one's own, which then run like the built-in ones:
//
//	func main() { app.Main(mine.Job()) }
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/fl"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc"
	"github.com/yinqiao/yinqiao/node/api"
	"github.com/yinqiao/yinqiao/psi"
)

// Version is the program's version; releases set it at link time.
var Version = "0.1.0-dev"

// Exit codes.
const (
	exitOK      = 0
	exitFailed  = 1 // the work failed
	exitUsage   = 2 // the command line is off
	exitRefused = 3 // a node or the platform refused, naming its rule
)

// Main runs the program with the built-in job kinds and extra, and exits.
func Main(extra ...job.Definition) {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup asks to outlive the terminal
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	// A reader of the output that goes away is an error of a write, not the
	// end of a process with others to stop.
	signal.Ignore(syscall.SIGPIPE)
	code := Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, extra...)
	stop()
	os.Exit(code)
}

// Run runs one command line and returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, extra ...job.Definition) int {
	registry, err := Registry(extra...)
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\n", err)
		return exitUsage
	}
	c := &cli{registry: registry, out: stdout, err: stderr, in: stdin}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err = root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = interrupted{err}
	}
	return c.report(err)
}

// Registry returns the built-in job kinds together with extra.
func Registry(extra ...job.Definition) (*job.Registry, error) {
	defs := slices.Concat(psi.Jobs(), mpc.Jobs(), fl.Jobs())
	return job.NewRegistry(append(defs, extra...)...)
}

// cli is what every verb shares.
type cli struct {
	registry *job.Registry
	in       io.Reader
	out, err io.Writer
	home     string // the node's
	platform string // the platform's home; a variable of its own, for a flag's default is set when it is declared
	json     bool
	as       string
	verbose  bool
}

// usage marks an error of the command line itself.
type usage struct{ error }

func usagef(format string, a ...any) error { return usage{fmt.Errorf(format, a...)} }

// interrupted marks what failed because somebody ended the program.
type interrupted struct{ error }

func (interrupted) Error() string   { return "interrupted" }
func (e interrupted) Unwrap() error { return e.error }

// report prints an error as people read it and returns the exit code.
func (c *cli) report(err error) int {
	if err == nil {
		return exitOK
	}
	ui.Error(c.err, errors.New(suggestions.Replace(err.Error())))
	var hint interface{ Hint() string }
	var ended interrupted
	var on goesOn
	switch {
	case errors.As(err, &ended): // what failed because of it needs no advice
		if errors.As(err, &on) {
			ui.Hint(c.err, "%s", on.Hint())
		}
	case errors.As(err, &hint):
		ui.Hint(c.err, "%s", hint.Hint())
	}
	var u usage
	var coded interface{ Code() string }
	var rule *catalog.RuleError
	switch {
	case errors.As(err, &u), isCobraUsage(err.Error()):
		ui.Hint(c.err, "`yinqiao help` shows every verb, `yinqiao VERB --help` its flags and an example")
		return exitUsage
	case errors.As(err, &rule):
		return exitRefused
	case errors.As(err, &coded) && slices.Contains(refusals, coded.Code()):
		return exitRefused
	}
	return exitFailed
}

// suggestions puts the library's suggestions of another word into its line.
var suggestions = strings.NewReplacer("\n\nDid you mean this?\n\t", "; did you mean ", "\n\t", " or ")

// refusals are the classes of error by which a node says no.
var refusals = []string{api.Refused, api.Exhausted, api.WrongRole, api.Unauthenticated}

// isCobraUsage recognises the library's own complaints about a command line.
func isCobraUsage(text string) bool {
	for _, p := range []string{"unknown command", "unknown flag", "unknown shorthand", "required flag", "accepts ", "requires ", "flag needs", "invalid argument"} {
		if strings.HasPrefix(text, p) {
			return true
		}
	}
	return false
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "yinqiao",
		Short: "A privacy-computing node: institutions compute together, and the rows stay home",
		Long: `Yinqiao 隐桥 is a privacy-computing node. Institutions that may not show each other
their rows compute together over them, under a grant of the data platform that
every node checks for itself.

Try it:      yinqiao scenario run examples/credit
Set it up:   docs/operations.md`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       Version,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().BoolVarP(&c.verbose, "verbose", "v", false, "log in detail on stderr")
	cobra.EnableCommandSorting = false
	root.AddCommand(c.scenarioCommand(), c.nodeCommand(), c.jobCommand(), c.requestCommand(), c.catalogCommand(),
		c.auditCommand(), c.platformCommand(), c.benchCommand())
	return root
}

func (c *cli) log() *slog.Logger {
	level := slog.LevelInfo
	if c.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
}

// homeArgs is how the next command names the folder home: " --home DIR", or
// nothing where that is the default.
func homeArgs(home, which string) string {
	if home == defaultHome(which) {
		return ""
	}
	return " --home " + home
}

// homeFlag adds --home to a verb.
func homeFlag(cmd *cobra.Command, home *string, which string) {
	cmd.PersistentFlags().StringVar(home, "home", defaultHome(which), "the "+which+"'s folder")
}

func defaultHome(which string) string {
	if dir := os.Getenv("YINQIAO_HOME"); dir != "" {
		return dir
	}
	base, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(".yinqiao", which)
	}
	return filepath.Join(base, ".yinqiao", which)
}

// oneArgument asks for the argument that Use names, and for no other.
func oneArgument(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%s: one %s, and not %q as well", cmd.CommandPath(), argumentOf(cmd), args[1])
	}
	return someArguments(cmd, args)
}

// someArguments asks for one or more of what Use names.
func someArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("%s: %s is missing", cmd.CommandPath(), argumentOf(cmd))
	}
	return nil
}

// argumentOf is the argument in a verb's Use: the second word.
func argumentOf(cmd *cobra.Command) string {
	return strings.TrimSuffix(strings.Fields(cmd.Use)[1], "...")
}

// group makes a verb of verbs.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, SuggestionsMinimumDistance: 2, Args: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ")
		}
		return usage{errors.New(text)}
	}, RunE: func(cmd *cobra.Command, args []string) error {
		return cmd.Help()
	}}
	cmd.AddCommand(subs...)
	return cmd
}
