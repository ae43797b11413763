package app

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/app/files"
	"github.com/yinqiao/yinqiao/app/ui"
	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node"
	"github.com/yinqiao/yinqiao/node/dataset"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

func (c *cli) scenarioCommand() *cobra.Command {
	var keep string
	run := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Run a whole line on this machine: platform, nodes, request, grant, job, receipts",
		Long: `Starts a platform and one node per party as processes of their own, each with its
home folder, keys and TLS on loopback, walks the whole line that the scenario
file describes, and prints a report. docs/scenario.md describes the file.`,
		Example: `  yinqiao scenario run examples/credit
  yinqiao scenario run examples/credit --keep /tmp/credit
  yinqiao scenario run examples/statistics --keep /tmp/statistics
  yinqiao scenario run examples/credit --json`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.runScenario(cmd.Context(), args[0], keep)
		},
	}
	run.Flags().StringVar(&keep, "keep", "", "leave homes, logs and results in this new folder")
	run.Flags().BoolVar(&c.json, "json", false, "print one JSON object on standard output")
	return group("scenario", "Try it: run a whole line of parties on this machine", run)
}

// outcome is what a scenario run prints with --json; docs/scenario.md
// documents it.
type outcome struct {
	Job        string         `json:"job"`
	Kind       string         `json:"kind"`
	Choice     string         `json:"choice,omitempty"`
	State      string         `json:"state"`
	Seconds    float64        `json:"seconds"`
	Bytes      int64          `json:"bytes"`
	Parties    []outcomeParty `json:"parties"`
	CommonRows int64          `json:"common_rows"`
	Grant      outcomeGrant   `json:"grant"`
	Result     map[string]any `json:"result"`
	Receipt    outcomeReceipt `json:"receipt"`
}

type outcomeParty struct {
	ID   string `json:"id"`
	Rows int64  `json:"rows"`
}

type outcomeGrant struct {
	ID       string `json:"id"`
	UsesLeft int64  `json:"uses_left"`
}

type outcomeReceipt struct {
	Digest string       `json:"digest"`
	Logs   []outcomeLog `json:"logs"`
}

type outcomeLog struct {
	Party string `json:"party"`
	Index uint64 `json:"index"`
}

func (c *cli) runScenario(ctx context.Context, path, keep string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "scenario.yaml")
	}
	s, err := files.Read[files.Scenario](path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not there: name a scenario file, or a folder with a scenario.yaml", path)
	}
	if err != nil {
		return err
	}
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := c.preflight(s, base); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	kept := keep != ""
	if !kept {
		if keep, err = os.MkdirTemp("", "yinqiao-"); err != nil {
			return err
		}
		defer os.RemoveAll(keep)
	} else {
		if keep, err = filepath.Abs(keep); err != nil {
			return err
		}
		if err := os.Mkdir(keep, 0o700); err != nil {
			return fmt.Errorf("--keep wants a folder that does not exist yet: %w", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &scenarioRun{cli: c, scenario: s, base: base, dir: keep, kept: kept, out: c.err, end: cancel}
	if c.json {
		r.out = io.Discard
	} else if !ui.IsTerminal(c.err) {
		r.out = &watchedWriter{c.err, cancel}
	}
	o, err := r.walk(ctx)
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errNobodyReads) || errors.Is(cause, errEnded)) {
		err = cause
	}
	err = errors.Join(err, r.stop())
	if err != nil {
		return err
	}
	if c.json {
		b, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.out, "%s\n", b); err != nil {
			return err
		}
	} else {
		r.print(c.out, o)
	}
	return check(s.Expect, o.Result)
}

var errNobodyReads = errors.New("nobody reads the output any more")

// watchedWriter ends a run whose steps nobody can read.
type watchedWriter struct {
	io.Writer
	end context.CancelCauseFunc
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		w.end(fmt.Errorf("%w: %w", errNobodyReads, err))
	}
	return n, err
}

// scenarioRun is one run of one scenario.
type scenarioRun struct {
	*cli
	scenario *files.Scenario
	base     string // paths of the scenario are relative to it
	dir      string
	kept     bool // dir stays
	out      io.Writer
	end      context.CancelCauseFunc
	procs    []*process
	nodes    map[string]nodev1.OperatorClient // as operators
	approver map[string]nodev1.OperatorClient
	closers  []func()
	view     *nodev1.JobView
	grant    *nodev1.RequestSummary
	seconds  float64
	tables   []shownTable
	files    [][]string // of each recipient that has more than values: its folder, and their names
}

func (r *scenarioRun) step(format string, a ...any) { fmt.Fprintf(r.out, "· "+format+"\n", a...) }

// walk takes the scenario down the whole line.
func (r *scenarioRun) walk(ctx context.Context) (*outcome, error) {
	s := r.scenario
	if s.Name != "" {
		fmt.Fprintf(r.out, "%s\n", s.Name)
	}
	if err := r.startPlatform(ctx); err != nil {
		return nil, err
	}
	r.nodes, r.approver = map[string]nodev1.OperatorClient{}, map[string]nodev1.OperatorClient{}
	for _, p := range s.Parties {
		if err := r.startNode(ctx, p); err != nil {
			return nil, fmt.Errorf("%s: %w", p.ID, err)
		}
	}
	for _, p := range s.Parties {
		for _, e := range p.Entries {
			reply, err := r.nodes[p.ID].RegisterEntry(ctx, &nodev1.RegisterEntryRequest{Entry: e.Message(), Dataset: e.Dataset})
			if err != nil {
				return nil, fmt.Errorf("%s: register %s: %w", p.ID, e.Code, err)
			}
			r.step("%s registers %s (%s), %d items; the rows stay", p.ID, reply.GetCode(), e.Name, len(e.Items))
		}
	}
	if err := r.obtainGrant(ctx); err != nil {
		return nil, err
	}
	if err := r.compute(ctx); err != nil {
		return nil, err
	}
	return r.collect(ctx)
}

// obtainGrant files the request and has every provider approve it.
func (r *scenarioRun) obtainGrant(ctx context.Context) error {
	by := r.nodes[r.scenario.Request.By]
	m, err := r.scenario.Request.Message(time.Now(), entryFinder(ctx, by))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	created, err := by.CreateRequest(ctx, &nodev1.CreateRequestRequest{Request: m})
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	q := created.GetRequest()
	r.step("%s files request %s for %q", r.scenario.Request.By, q.GetRequest().GetId(), m.GetPurpose())
	for _, party := range slices.Clone(q.GetAwaiting()) {
		op, ok := r.approver[party]
		if !ok {
			return fmt.Errorf("request: waits for %s, which is not in the scenario", party)
		}
		d, err := op.DecideRequest(ctx, &nodev1.DecideRequestRequest{RequestId: q.GetRequest().GetId(), Approve: true, Digest: q.GetDigest()})
		if err != nil {
			return fmt.Errorf("%s: approve: %w", party, err)
		}
		q = d.GetRequest()
		r.step("%s signs its approval", party)
	}
	if q.GetState() != catalogv1.RequestState_REQUEST_STATE_GRANTED {
		return fmt.Errorf("request %s is %s, not granted", q.GetRequest().GetId(), requestState(q.GetState()))
	}
	r.grant = q
	l := q.GetRequest().GetLimits()
	terms := fmt.Sprintf("%d run", l.GetMaxRuns())
	if l.GetMaxRuns() != 1 {
		terms += "s"
	}
	if l.GetMinIntersection() > 0 {
		terms += fmt.Sprintf(", intersection of at least %d", l.GetMinIntersection())
	}
	if release := releaseTerms(catalog.ReleaseOf(l.GetRelease())); release != "" {
		terms += "; releases: " + release
	}
	r.step("the platform grants it: %s, %s", q.GetGrantId(), terms)
	return nil
}

// compute submits the job and follows it.
func (r *scenarioRun) compute(ctx context.Context) error {
	begin := time.Now()
	by := r.nodes[r.scenario.Request.By]
	sub, err := by.SubmitJob(ctx, r.scenario.Job.Message(r.grant.GetGrantId()))
	if err != nil {
		return fmt.Errorf("job: %w", err)
	}
	r.step("every node checks the grant for itself and signs the contract of job %s", sub.GetJob())
	bar := ui.NewProgress(r.out, r.json)
	for id := sub.GetJob(); err == nil && id != ""; id = r.view.GetNext() { // a job may be begun again by itself
		r.view, err = follow(ctx, by, id, func(v *nodev1.JobView) {
			bar.UpdatePace(stageOf(v), v.GetDone(), v.GetTotal(), v.GetRate(), v.GetRemainingSeconds())
		})
	}
	bar.Close()
	r.seconds = time.Since(begin).Seconds()
	if err != nil {
		return fmt.Errorf("job: %w", err)
	}
	return errors.Join(jobError(r.view), r.ownWords(ctx))
}

// ownWords is what a party says for itself of a job that it ended. The others,
// the one that is asked first among them, know the class alone.
func (r *scenarioRun) ownWords(ctx context.Context) error {
	if r.view.GetClass() != "peer_aborted" {
		return nil
	}
	for _, p := range r.view.GetParties() {
		op := r.nodes[p.GetParty()]
		if op == nil {
			continue
		}
		v, err := follow(ctx, op, r.view.GetJob(), func(*nodev1.JobView) {})
		if err == nil && v.GetState() == string(node.Failed) && v.GetClass() != "peer_aborted" && v.GetClass() != "peer_gone" {
			return fmt.Errorf("%s says: %s (class %s)", p.GetParty(), v.GetReason(), v.GetClass())
		}
	}
	return nil
}

// collect puts the outcome together and holds the parties' accounts against
// each other.
func (r *scenarioRun) collect(ctx context.Context) (*outcome, error) {
	v := r.view
	o := &outcome{
		Job: v.GetJob(), Kind: v.GetKind(), Choice: v.GetChoice(), State: v.GetState(), Seconds: r.seconds, CommonRows: v.GetCounts()[job.CountCommon],
		Grant:   outcomeGrant{ID: v.GetGrantId(), UsesLeft: v.GetUsesLeft()},
		Receipt: outcomeReceipt{Digest: hex.EncodeToString(v.GetReceipt().GetDigest())},
	}
	for _, p := range v.GetParties() {
		o.Parties = append(o.Parties, outcomeParty{ID: p.GetParty(), Rows: p.GetRows()})
		own, err := r.ended(ctx, p.GetParty(), v.GetJob())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.GetParty(), err)
		}
		o.Bytes += own.GetUnits()["bytes_sent"]
		if d := hex.EncodeToString(own.GetReceipt().GetDigest()); d != o.Receipt.Digest {
			return nil, fmt.Errorf("%s logged receipt %q, %s logged %q", p.GetParty(), d, r.scenario.Request.By, o.Receipt.Digest)
		}
		o.Receipt.Logs = append(o.Receipt.Logs, outcomeLog{Party: p.GetParty(), Index: own.GetReceipt().GetIndex()})
	}
	if err := r.verifyLogs(ctx, o); err != nil {
		return nil, err
	}
	result, err := releasedResult(ctx, r.nodes[r.scenario.Request.By], v.GetJob())
	if err != nil {
		return nil, err
	}
	values := result.values
	if err := r.readTables(ctx); err != nil {
		return nil, err
	}
	if r.scenario.Report.Clear {
		r.step("for comparison, the same over all rows in one place")
		clear, err := r.inTheClear(ctx)
		if err != nil {
			return nil, fmt.Errorf("in the clear: %w", err)
		}
		merge(values, clear)
	}
	o.Result = renamed(values, r.scenario.Report.Rename)
	if show := r.scenario.Report.Show; len(show) > 0 {
		maps.DeleteFunc(o.Result, func(k string, _ any) bool { return !slices.Contains(show, k) })
	}
	return o, nil
}

// ended waits for a party's own view of the job to be final.
func (r *scenarioRun) ended(ctx context.Context, party, id string) (*nodev1.JobView, error) {
	v, err := follow(ctx, r.nodes[party], id, func(*nodev1.JobView) {})
	if err != nil {
		return nil, err
	}
	return v, jobError(v)
}

// shownTable is the beginning of one result table as a recipient has it.
type shownTable struct {
	party, name string
	lines       [][]string // the header first
	more        bool
}

// readTables fetches what the report shows of every recipient's tables and
// files.
func (r *scenarioRun) readTables(ctx context.Context) error {
	n := r.scenario.Report.Tables
	if r.json || n == 0 && !r.kept {
		return nil
	}
	for _, p := range r.view.GetParties() {
		op := r.nodes[p.GetParty()]
		result, err := releasedResult(ctx, op, r.view.GetJob())
		if err != nil {
			return fmt.Errorf("%s: %w", p.GetParty(), err)
		}
		if r.kept && len(result.files) > 1 {
			r.files = append(r.files, append([]string{filepath.Join(r.dir, p.GetParty(), "results", r.view.GetJob())}, result.files...))
		}
		if n == 0 {
			continue
		}
		for _, name := range result.tables {
			var b bytes.Buffer
			if err := result.copyFile(ctx, op, name+".csv", &b); err != nil {
				return fmt.Errorf("%s: table %s: %w", p.GetParty(), name, err)
			}
			lines, err := csv.NewReader(&b).ReadAll()
			if err != nil {
				return fmt.Errorf("%s: table %s: %w", p.GetParty(), name, err)
			}
			shown := min(len(lines), n+1)
			r.tables = append(r.tables, shownTable{p.GetParty(), name, lines[:shown], shown < len(lines)})
		}
	}
	return nil
}

// inTheClear runs the job kind's plaintext computation over all datasets.
func (r *scenarioRun) inTheClear(ctx context.Context) (map[string]any, error) {
	def, ok := r.registry.Lookup(r.view.GetKind())
	if !ok || def.Clear == nil {
		return nil, fmt.Errorf("%s has no computation in the clear", r.view.GetKind())
	}
	limits := r.grant.GetRequest().GetLimits()
	spec := job.Spec{
		Kind: def.Name, Params: r.scenario.Job.Params,
		Limits: job.Limits{
			MinIntersection: limits.GetMinIntersection(), MinBeforeReveal: limits.GetMinBeforeReveal(), Release: catalog.ReleaseOf(limits.GetRelease()),
		},
	}
	recipients := r.scenario.Job.Recipients
	if len(recipients) == 0 {
		recipients = r.grant.GetRequest().GetRecipients()
	}
	for _, p := range recipients {
		spec.Recipients = append(spec.Recipients, session.PartyID(p))
	}
	inputs := map[session.PartyID][]table.Source{}
	for _, p := range r.view.GetParties() {
		i := slices.IndexFunc(r.scenario.Parties, func(q files.Party) bool { return q.ID == p.GetParty() })
		party := r.scenario.Parties[i]
		part := job.Participant{Party: session.PartyID(party.ID), Role: job.Role(p.GetRole())}
		for _, use := range r.grant.GetRequest().GetUses() {
			j := slices.IndexFunc(party.Entries, func(e files.Entry) bool { return e.Code == use.GetEntry() })
			if j < 0 {
				continue
			}
			k := slices.IndexFunc(party.Datasets, func(d dataset.Dataset) bool { return d.Name == party.Entries[j].Dataset })
			src, err := dataset.Open(ctx, party.Datasets[k].In(r.base))
			if err != nil {
				return nil, err
			}
			granted, err := table.Select(src, use.GetItems())
			if err != nil {
				return nil, err
			}
			part.Inputs = append(part.Inputs, job.Input{Entry: use.GetEntry(), Version: use.GetVersion(), Items: use.GetItems()})
			inputs[part.Party] = append(inputs[part.Party], granted)
		}
		spec.Parties = append(spec.Parties, part)
	}
	return def.Clear(ctx, spec, inputs)
}

// merge sets b's values beside a's; maps are merged, other values replaced.
func merge(a, b map[string]any) {
	for k, v := range b {
		am, aok := a[k].(map[string]any)
		bm, bok := v.(map[string]any)
		if aok && bok {
			merge(am, bm)
		} else {
			a[k] = v
		}
	}
}

func renamed(m map[string]any, names map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if to, ok := names[k]; ok {
			k = to
		}
		if sub, ok := v.(map[string]any); ok {
			v = renamed(sub, names)
		}
		out[k] = v
	}
	return out
}

// operand is a number, or a path into the result.
func operand(text string, result map[string]any) (float64, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return f, nil
	}
	var v any = result
	for _, k := range strings.Split(text, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return 0, fmt.Errorf("the result has no %s", text)
		}
		v = m[k]
	}
	f, ok := number(v)
	if !ok {
		return 0, fmt.Errorf("the result has no number %s", text)
	}
	return f, nil
}

// number is a value of a result, decoded from JSON or computed in the clear.
func number(v any) (float64, bool) {
	switch x := v.(type) {
	case float64:
		return x, true
	case int64:
		return float64(x), true
	case int:
		return float64(x), true
	}
	return 0, false
}

// check holds the result to what the scenario expects.
func check(expect []files.Expect, result map[string]any) error {
	var errs []error
	for _, e := range expect {
		v, err := operand(e.Value, result)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if e.AtLeast != "" {
			least, err := operand(e.AtLeast, result)
			if err != nil {
				errs = append(errs, err)
			} else if !(v >= least+e.Plus) {
				errs = append(errs, fmt.Errorf("expected %s of at least %s + %g, got %.4f against %.4f", e.Value, e.AtLeast, e.Plus, v, least))
			}
			continue
		}
		near, err := operand(e.Near, result)
		if err != nil {
			errs = append(errs, err)
		} else if !(math.Abs(v-near) <= e.Within) {
			errs = append(errs, fmt.Errorf("expected %s within %g of %s, got %.4f against %.4f", e.Value, e.Within, e.Near, v, near))
		}
	}
	return errors.Join(errs...)
}
