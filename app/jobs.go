package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/files"
	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/node"
	"github.com/yinqiao/yinqiao/node/api"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

func (c *cli) jobCommand() *cobra.Command {
	var grant string
	var detach bool
	submit := &cobra.Command{
		Use:   "submit [JOB.yaml]",
		Short: "Propose a job to every party of a grant, and watch it run",
		Example: `  yinqiao job submit --grant G-2026-0001 job.yaml
  yinqiao job submit --grant G-2026-0001 --detach`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j := &files.Job{}
			if len(args) == 1 {
				var err error
				if j, err = files.Read[files.Job](args[0]); err != nil {
					return err
				}
			}
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				if j.Protocol == node.ProtocolAuto && !c.json {
					fmt.Fprintln(c.err, "asking the parties for the sizes of their data, to choose a kind…")
				}
				r, err := op.SubmitJob(ctx, j.Message(grant))
				if err != nil {
					return err
				}
				if detach {
					return c.print(map[string]any{"job": r.GetJob()}, r.GetJob())
				}
				if !c.json {
					fmt.Fprintf(c.err, "every party has signed the contract of job %s\n", r.GetJob())
				}
				return c.watch(ctx, op, r.GetJob())
			})
		},
	}
	submit.Flags().StringVar(&grant, "grant", "", "the grant's ID")
	submit.Flags().BoolVar(&detach, "detach", false, "print the job's ID and return at once")
	_ = submit.MarkFlagRequired("grant")

	watch := &cobra.Command{
		Use: "watch JOB", Short: "Follow a job until it ends", Args: oneArgument,
		Example: "  yinqiao job watch J-abc",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				return c.watch(ctx, op, args[0])
			})
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "Show the jobs this node took part in", Args: cobra.NoArgs,
		Example: "  yinqiao job list",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.ListJobs(ctx, &nodev1.ListJobsRequest{})
				if err != nil {
					return err
				}
				if c.json {
					objects := make([]jobObject, 0, len(r.GetJobs()))
					for _, v := range r.GetJobs() {
						objects = append(objects, objectOf(v))
					}
					return c.print(map[string]any{"jobs": objects}, "")
				}
				t := ui.NewTable("job", "kind", "state", "class", "grant", "created", "seconds")
				for _, v := range r.GetJobs() {
					t.Add(v.GetJob(), v.GetKind(), v.GetState(), v.GetClass(), v.GetGrantId(),
						v.GetCreated().AsTime().Local().Format(time.DateTime), fmt.Sprintf("%.1f", v.GetSeconds()))
				}
				t.Print(c.out)
				return nil
			})
		},
	}
	cancel := &cobra.Command{
		Use: "cancel JOB", Short: "End a running job at every party", Args: oneArgument,
		Example: "  yinqiao job cancel J-abc",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				_, err := op.CancelJob(ctx, &nodev1.CancelJobRequest{Job: args[0]})
				return err
			})
		},
	}
	kinds := &cobra.Command{
		Use: "kinds", Short: "Show the job kinds this node knows", Args: cobra.NoArgs,
		Example: "  yinqiao job kinds",
		RunE: func(cmd *cobra.Command, args []string) error {
			t := ui.NewTable("kind", "roles", "what it does")
			objects := []map[string]any{}
			for _, name := range c.registry.Names() {
				d, _ := c.registry.Lookup(name)
				var roles []string
				for _, r := range d.Roles {
					roles = append(roles, string(r.Role))
				}
				t.Add(name, strings.Join(roles, ", "), d.Summary)
				objects = append(objects, map[string]any{"kind": name, "roles": roles, "summary": d.Summary})
			}
			if c.json {
				return c.print(map[string]any{"kinds": objects}, "")
			}
			t.Print(c.out)
			return nil
		},
	}
	cmd := group("job", "Submit, watch and cancel jobs, and read their results", submit, watch, c.resultCommand(), list, cancel, c.resumeCommand(), kinds)
	cmd.PersistentFlags().BoolVar(&c.json, "json", false, "print one JSON object on standard output")
	c.operatorFlags(cmd)
	return cmd
}

func (c *cli) resumeCommand() *cobra.Command {
	var detach bool
	var timeout time.Duration
	resume := &cobra.Command{
		Use:   "resume JOB",
		Short: "Go on with a failed job after what every party has finished",
		Long: "Propose a further attempt at a failed job, and watch it run. What every party has finished is kept;\n" +
			"grant, parameters and data must be as they were. It spends no further use of the grant.",
		Example: `  yinqiao job resume J-abc
  yinqiao job resume J-abc --timeout 2h`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 || timeout%time.Second != 0 {
				return usagef("--timeout wants whole seconds, such as 2h or 90s")
			}
			return c.call(cmd, api.Operate, func(ctx context.Context, op nodev1.OperatorClient) error {
				r, err := op.ResumeJob(ctx, &nodev1.ResumeJobRequest{Job: args[0], TimeoutSeconds: int64(timeout / time.Second)})
				if err != nil {
					return err
				}
				if detach {
					return c.print(map[string]any{"job": r.GetJob(), "attempt": r.GetAttempt()}, r.GetJob())
				}
				if !c.json {
					fmt.Fprintf(c.err, "attempt %d of the run is job %s\n", r.GetAttempt(), r.GetJob())
				}
				return c.watch(ctx, op, r.GetJob())
			})
		},
	}
	resume.Flags().BoolVar(&detach, "detach", false, "print the new job's ID and return at once")
	resume.Flags().DurationVar(&timeout, "timeout", 0, "the longest run (default: as at the first attempt)")
	return resume
}

// jobObject is a job as --json prints it. Empty fields are left out, but for
// those that every job has.
type jobObject struct {
	Job      string           `json:"job"`
	Session  string           `json:"session"`
	Kind     string           `json:"kind"`
	Choice   string           `json:"choice,omitempty"`
	State    string           `json:"state"`
	Class    string           `json:"class,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Role     string           `json:"role"`
	Parties  []jobParty       `json:"parties"`
	Grant    outcomeGrant     `json:"grant"`
	Created  time.Time        `json:"created"`
	Finished *time.Time       `json:"finished,omitempty"`
	Seconds  float64          `json:"seconds"`
	Units    map[string]int64 `json:"units,omitempty"`
	Counts   map[string]int64 `json:"counts,omitempty"`
	// Of what the parties agreed on, hexadecimal.
	Digests map[string]string `json:"digests,omitempty"`
	Privacy *jobPrivacy       `json:"privacy,omitempty"`
	Receipt *jobReceipt       `json:"receipt,omitempty"`
	// Of a resumed job: the first attempt's job, and which attempt this is.
	Run     string `json:"run,omitempty"`
	Attempt int64  `json:"attempt,omitempty"`
	// It failed, and `job resume` can go on after what was finished.
	Resumable bool `json:"resumable,omitempty"`
	// It failed, and the node begins a further attempt by itself, or the job is
	// that of the one that followed.
	Restarts bool   `json:"restarts,omitempty"`
	Next     string `json:"next,omitempty"`
}

type jobParty struct {
	ID   string `json:"id"`
	Role string `json:"role"`
	Rows int64  `json:"rows"`
	Lost string `json:"lost,omitempty"` // the class with which it left a job that went on
}

// jobPrivacy is what a job spent of its request's privacy budget, and what was
// left then.
type jobPrivacy struct {
	Epsilon     float64 `json:"epsilon"`
	Delta       float64 `json:"delta"`
	EpsilonLeft float64 `json:"epsilon_left"`
	DeltaLeft   float64 `json:"delta_left"`
}

type jobReceipt struct {
	Digest string `json:"digest"` // hexadecimal
	Index  uint64 `json:"index"`
}

func objectOf(v *nodev1.JobView) jobObject {
	o := jobObject{
		Job: v.GetJob(), Session: v.GetSession(), Kind: v.GetKind(), Choice: v.GetChoice(), State: v.GetState(), Class: v.GetClass(), Reason: v.GetReason(),
		Role: v.GetRole(), Grant: outcomeGrant{ID: v.GetGrantId(), UsesLeft: v.GetUsesLeft()}, Created: v.GetCreated().AsTime(),
		Seconds: v.GetSeconds(), Units: v.GetUnits(), Counts: v.GetCounts(),
		Run: v.GetRun(), Attempt: v.GetAttempt(), Resumable: v.GetResumable(),
		Restarts: v.GetRestarts(), Next: v.GetNext(),
	}
	for _, p := range v.GetParties() {
		o.Parties = append(o.Parties, jobParty{ID: p.GetParty(), Role: p.GetRole(), Rows: p.GetRows(), Lost: p.GetLost()})
	}
	if f := v.GetFinished(); f != nil {
		at := f.AsTime()
		o.Finished = &at
	}
	for name, d := range v.GetDigests() {
		if o.Digests == nil {
			o.Digests = make(map[string]string)
		}
		o.Digests[name] = hex.EncodeToString(d)
	}
	if p := v.GetPrivacy(); p != nil {
		o.Privacy = &jobPrivacy{Epsilon: p.GetEpsilon(), Delta: p.GetDelta(), EpsilonLeft: p.GetEpsilonLeft(), DeltaLeft: p.GetDeltaLeft()}
	}
	if r := v.GetReceipt(); r != nil {
		o.Receipt = &jobReceipt{Digest: hex.EncodeToString(r.GetDigest()), Index: r.GetIndex()}
	}
	return o
}

func (c *cli) print(object any, text string) error {
	if !c.json {
		fmt.Fprintln(c.out, text)
		return nil
	}
	b, err := json.Marshal(object)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s\n", b)
	return nil
}

// watch follows a job, and the further attempts that go on with its run, and
// fails where the last of them fails.
func (c *cli) watch(ctx context.Context, op nodev1.OperatorClient, id string) error {
	var last *nodev1.JobView
	for id != "" {
		bar := ui.NewProgress(c.err, c.json)
		var err error
		last, err = follow(ctx, op, id, func(v *nodev1.JobView) {
			bar.UpdatePace(stageOf(v), v.GetDone(), v.GetTotal(), v.GetRate(), v.GetRemainingSeconds())
		})
		bar.Close()
		if err != nil {
			if ctx.Err() != nil {
				return goesOn{err, id, homeArgs(c.home, "node")}
			}
			return err
		}
		if id = last.GetNext(); id != "" && !c.json {
			fmt.Fprintf(c.err, "%s %s (%s); followed by %s\n", last.GetJob(), last.GetState(), last.GetReason(), id)
		}
	}
	if c.json {
		if err := c.print(objectOf(last), ""); err != nil {
			return err
		}
	} else {
		if why := last.GetChoice(); why != "" {
			fmt.Fprintf(c.out, "ran as %s (%s)\n", last.GetKind(), why)
		}
		fmt.Fprintf(c.out, "%s %s after %.1f s\n", last.GetJob(), last.GetState(), last.GetSeconds())
		if r := last.GetReceipt(); r != nil {
			fmt.Fprintf(c.out, "receipt %s at index %d of the log\n", hex.EncodeToString(r.GetDigest()), r.GetIndex())
		}
	}
	return c.jobFailure(last)
}

// stageOf is what a job is at.
func stageOf(v *nodev1.JobView) string {
	if v.GetRestarts() {
		return "wait for all parties, to begin again"
	}
	return v.GetStage()
}

// jobFailure is jobError with what to do about it.
func (c *cli) jobFailure(v *nodev1.JobView) error {
	err := jobError(v)
	if err != nil && v.GetResumable() {
		return canResume{err, v.GetJob(), homeArgs(c.home, "node")}
	}
	return err
}

// canResume is the end of a job that left what a further attempt can use.
type canResume struct {
	error
	job, home string
}

func (e canResume) Unwrap() error { return e.error }

// Hint says how to go on.
func (e canResume) Hint() string {
	return fmt.Sprintf("`yinqiao job resume %s%s` goes on after what every party has finished", e.job, e.home)
}

// goesOn is the end of watching a job that has not ended.
type goesOn struct {
	error
	job, home string
}

func (e goesOn) Unwrap() error { return e.error }

// Hint says how to come back to the job.
func (e goesOn) Hint() string {
	return fmt.Sprintf("the job goes on: `yinqiao job watch %s%s` follows it, `yinqiao job cancel %[1]s%[2]s` ends it", e.job, e.home)
}

func jobError(v *nodev1.JobView) error {
	if v.GetState() == string(node.Done) {
		return nil
	}
	how := v.GetState()
	if how != string(node.Failed) {
		how = "was " + how
	}
	return fmt.Errorf("job %s %s: %s (class %s)", v.GetJob(), how, v.GetReason(), v.GetClass())
}

// follow calls each with every view and returns the last.
func follow(ctx context.Context, op nodev1.OperatorClient, id string, each func(*nodev1.JobView)) (*nodev1.JobView, error) {
	stream, err := op.WatchJob(ctx, &nodev1.WatchJobRequest{Job: id})
	if err != nil {
		return nil, err
	}
	var last *nodev1.JobView
	for {
		v, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if last == nil {
				return nil, errors.New("the node said nothing of the job")
			}
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		last = v
		if !node.State(v.GetState()).Final() {
			each(v)
		}
	}
}
