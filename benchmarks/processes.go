package benchmarks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yinqiao/yinqiao/benchmarks/link"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// How a run and the process of one party talk: JSON objects, the orders on the
// process's standard input, the answers on its standard output.
//
//	run                         party
//	 | setup ----------------->  |   makes its inputs
//	 | <---------------- address |   once for each pass: listens
//	 | join ------------------>  |   connects
//	 | <----------------- joined |
//	 | start ----------------->  |   runs the job
//	 | <---------------- outcome |
//	 | finish ---------------->  |   closes its end: all are done
//
// The end of its standard input ends the process, so that none outlives the
// run, however that ends. An answer with an error is the last one.

type order struct {
	Setup  *setup    `json:"setup,omitempty"`
	Join   *joinWith `json:"join,omitempty"`
	Start  bool      `json:"start,omitempty"`
	Finish bool      `json:"finish,omitempty"`
}

type setup struct {
	Job   string          `json:"job"`
	Party session.PartyID `json:"party"`
	Case  Case            `json:"case"`
	// Progress asks for answers about it, between the others.
	Progress bool `json:"progress,omitempty"`
}

type joinWith struct {
	All []link.Address `json:"all"`
	ID  string         `json:"id"`
}

type answer struct {
	Address  *link.Address `json:"address,omitempty"`
	Joined   bool          `json:"joined,omitempty"`
	Outcome  *outcome      `json:"outcome,omitempty"`
	Progress *progress     `json:"progress,omitempty"`
	Error    string        `json:"error,omitempty"`
}

type progress struct {
	Stage string `json:"stage"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// progressEvery spaces a process's answers about progress.
const progressEvery = time.Second

// ErrParty is wrapped by the error of a run one of whose processes ended or
// failed.
var ErrParty = errors.New("benchmarks: a party's process failed")

const (
	// endWait is how long processes may take to end by themselves once one of
	// them has failed, and tidyWait once all have finished.
	endWait  = 3 * time.Second
	tidyWait = time.Minute
	// maxStderr is how much of what a process complains of is kept.
	maxStderr = 4 << 10
)

// child is the process of one party.
type child struct {
	id     session.PartyID
	cmd    *exec.Cmd
	in     io.WriteCloser
	enc    *json.Encoder
	dec    *json.Decoder
	err    *tail
	heard  func(stage string, done, total int64) // progress; may be nil
	killed atomic.Bool                           // by this run
	died   bool                                  // it ended without an answer, and by itself
}

// tail keeps the first maxStderr bytes written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p[:min(len(p), maxStderr-t.b.Len())])
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(t.b.String()), " ")
}

// runProcesses runs each party in a process of its own. The clock runs from
// the last party's readiness to the last party's result.
func runProcesses(ctx context.Context, def job.Definition, c Case, b job.Bench) (m measured, err error) {
	command := c.Command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return m, err
		}
		command = []string{self, "bench", "party"}
	}
	life, end := context.WithCancel(ctx)
	defer end()
	var children []*child
	for _, id := range partyIDs(b.Spec) {
		ch, err := startChild(life, command, id)
		if err != nil {
			end()
			endAll(children)
			return m, err
		}
		ch.heard = c.Progress
		children = append(children, ch)
	}
	err = conduct(life, def, c, children, &m)
	wait := endWait
	if err == nil {
		wait = tidyWait
	}
	timer := time.AfterFunc(wait, end)
	ended := endAll(children)
	timer.Stop()
	switch {
	case ctx.Err() != nil:
		return m, context.Cause(ctx)
	case err == nil:
		return m, errors.Join(ended...)
	}
	// A process that ended without a word is why the others failed.
	for i, ch := range children {
		if ch.died {
			return m, fmt.Errorf("%w: %s ended early: %w", ErrParty, ch.id, orElse(ended[i], "without an error"))
		}
	}
	return m, err
}

func orElse(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}

func startChild(ctx context.Context, command []string, id session.PartyID) (*child, error) {
	ch := &child{id: id, cmd: exec.CommandContext(ctx, command[0], command[1:]...), err: new(tail)}
	ch.cmd.Stderr = ch.err
	ch.cmd.WaitDelay = endWait
	in, err := ch.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := ch.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	ch.in, ch.enc, ch.dec = in, json.NewEncoder(in), json.NewDecoder(out)
	if err := ch.cmd.Start(); err != nil {
		return nil, fmt.Errorf("benchmarks: start a process for %s: %w", id, err)
	}
	return ch, nil
}

// endAll tells every process that it is over and waits for it; it returns how
// each ended.
func endAll(children []*child) []error {
	for _, ch := range children {
		ch.in.Close()
	}
	errs := make([]error, len(children))
	for i, ch := range children {
		if err := ch.cmd.Wait(); err != nil {
			errs[i] = err
			if text := ch.err.String(); text != "" {
				errs[i] = fmt.Errorf("%w: %s", err, text)
			}
		}
	}
	return errs
}

// conduct leads the processes through all passes.
func conduct(ctx context.Context, def job.Definition, c Case, children []*child, m *measured) error {
	all := make([]link.Address, len(children))
	err := together(children, func(_ int, ch *child) error {
		return ch.tell(order{Setup: &setup{Job: def.Name, Party: ch.id, Case: c, Progress: c.Progress != nil}})
	})
	if err != nil {
		return err
	}
	for range c.passes() {
		if err := together(children, func(i int, ch *child) error {
			a, err := ch.hear(ctx)
			if err == nil && a.Address == nil {
				err = ch.unexpected()
			}
			if err != nil {
				return err
			}
			all[i] = *a.Address
			return nil
		}); err != nil {
			return err
		}
		join := &joinWith{All: all, ID: link.NewID()}
		if err := together(children, func(_ int, ch *child) error {
			if err := ch.tell(order{Join: join}); err != nil {
				return err
			}
			a, err := ch.hear(ctx)
			if err == nil && !a.Joined {
				err = ch.unexpected()
			}
			return err
		}); err != nil {
			return err
		}
		*m = measured{outcomes: make([]outcome, len(children))}
		begin := time.Now()
		if err := together(children, func(i int, ch *child) error {
			if err := ch.tell(order{Start: true}); err != nil {
				return err
			}
			a, err := ch.hear(ctx)
			if err == nil && a.Outcome == nil {
				err = ch.unexpected()
			}
			if err != nil {
				return err
			}
			m.outcomes[i] = *a.Outcome
			return nil
		}); err != nil {
			return err
		}
		m.seconds = time.Since(begin).Seconds()
		for _, o := range m.outcomes {
			m.cpu += o.CPUSeconds
			m.peak = max(m.peak, o.PeakRSSBytes)
		}
		if err := together(children, func(_ int, ch *child) error { return ch.tell(order{Finish: true}) }); err != nil {
			return err
		}
	}
	return nil
}

// together does one step with every process. Once one has failed the others
// have endWait to fail as well, and are then ended.
func together(children []*child, step func(int, *child) error) error {
	var group errgroup.Group
	var once sync.Once
	var timer *time.Timer
	errs := make([]error, len(children))
	for i, ch := range children {
		group.Go(func() error {
			if errs[i] = step(i, ch); errs[i] != nil {
				once.Do(func() {
					timer = time.AfterFunc(endWait, func() {
						for _, other := range children {
							other.killed.Store(true)
							_ = other.cmd.Process.Kill() // it may have ended
						}
					})
				})
			}
			return nil
		})
	}
	_ = group.Wait() // the steps keep their errors
	if timer != nil {
		timer.Stop()
	}
	return errors.Join(errs...)
}

func (ch *child) tell(o order) error {
	if err := ch.enc.Encode(o); err != nil {
		ch.died = !ch.killed.Load()
		return fmt.Errorf("%w: %s hears nothing: %w", ErrParty, ch.id, err)
	}
	return nil
}

// hear returns the next answer. It ends with the process, which ends with the
// run's context.
func (ch *child) hear(ctx context.Context) (answer, error) {
	for {
		var a answer
		if err := ch.dec.Decode(&a); err != nil {
			if ctx.Err() != nil {
				return a, context.Cause(ctx)
			}
			ch.died = !ch.killed.Load()
			return a, fmt.Errorf("%w: %s says no more: %w", ErrParty, ch.id, err)
		}
		switch {
		case a.Error != "":
			return a, fmt.Errorf("%w: %s", ErrParty, a.Error)
		case a.Progress == nil:
			return a, nil
		case ch.heard != nil:
			ch.heard(a.Progress.Stage, a.Progress.Done, a.Progress.Total)
		}
	}
}

func (ch *child) unexpected() error {
	return fmt.Errorf("%w: %s answers out of turn", ErrParty, ch.id)
}

// errOrphaned is why a party's process ends when its run is gone.
var errOrphaned = errors.New("benchmarks: the run that started this process is gone")

// ServeParty is the process of one party: it carries out the orders on in and
// answers on out until in ends. abandon is called when in has ended, and the
// work under way has not a moment later: it ends the process.
func ServeParty(ctx context.Context, lookup func(string) (job.Definition, bool), in io.Reader, out io.Writer, abandon func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	orders := make(chan order)
	var left *time.Timer
	read := make(chan struct{})
	go func() {
		defer close(read)
		dec := json.NewDecoder(in)
		for {
			var o order
			if dec.Decode(&o) != nil {
				left = time.AfterFunc(endWait, abandon)
				cancel(errOrphaned)
				return
			}
			select {
			case orders <- o:
			case <-ctx.Done():
			}
		}
	}()
	next := func() (order, error) {
		select {
		case o := <-orders:
			return o, nil
		case <-ctx.Done():
			return order{}, context.Cause(ctx)
		}
	}
	enc := json.NewEncoder(out)
	var mu sync.Mutex // progress comes from the job's goroutines
	say := func(a answer) error {
		mu.Lock()
		defer mu.Unlock()
		return enc.Encode(a)
	}
	err := obey(ctx, lookup, next, say)
	if err == nil {
		_, err = next() // the end of in
	}
	if err != nil && !errors.Is(err, errOrphaned) {
		_ = say(answer{Error: err.Error()})
	}
	<-read // in ends: the run closes it whatever it has heard
	left.Stop()
	if errors.Is(err, errOrphaned) {
		return nil
	}
	return err
}

// obey does what the orders say, in their order.
func obey(ctx context.Context, lookup func(string) (job.Definition, bool), next func() (order, error), say func(answer) error) error {
	o, err := next()
	if err != nil {
		return err
	}
	if o.Setup == nil {
		return errors.New("benchmarks: the first order is no setup")
	}
	def, ok := lookup(o.Setup.Job)
	if !ok {
		return fmt.Errorf("benchmarks: no job kind %s", o.Setup.Job)
	}
	c, id := o.Setup.Case, o.Setup.Party
	if o.Setup.Progress {
		var last atomic.Int64
		begin := time.Now()
		c.Progress = func(stage string, done, total int64) {
			before, now := last.Load(), time.Since(begin)
			if (before == 0 || now-time.Duration(before) >= progressEvery) && last.CompareAndSwap(before, int64(now)) {
				_ = say(answer{Progress: &progress{string(id) + " " + stage, done, total}}) // the outcome matters
			}
		}
	}
	if err := c.check(def); err != nil {
		return err
	}
	b, err := c.bench(def)
	if err != nil {
		return err
	}
	for other := range b.Inputs {
		if other != id {
			delete(b.Inputs, other)
		}
	}
	b.Baseline = nil // it may hold everybody's inputs
	p, err := prepare(ctx, def, c, b, id)
	if err != nil {
		return err
	}
	defer p.close()
	for range c.passes() {
		if err := p.servePass(ctx, next, say); err != nil {
			return err
		}
	}
	return nil
}

func (p *party) servePass(ctx context.Context, next func() (order, error), say func(answer) error) (err error) {
	end, err := link.Listen(link.Kind(p.c.Net), p.self.Party)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end.Close()) }()
	at := end.Address()
	if err := say(answer{Address: &at}); err != nil {
		return err
	}
	o, err := next()
	if err != nil {
		return err
	}
	if o.Join == nil {
		return errors.New("benchmarks: an order out of turn")
	}
	open, err := end.Join(ctx, o.Join.All, o.Join.ID)
	if err != nil {
		return err
	}
	settle()
	if err := say(answer{Joined: true}); err != nil {
		return err
	}
	if o, err = next(); err != nil {
		return err
	}
	if !o.Start {
		return errors.New("benchmarks: an order out of turn")
	}
	done, err := p.run(ctx, open)
	if err != nil {
		return err
	}
	if err := say(answer{Outcome: &done}); err != nil {
		return err
	}
	if o, err = next(); err == nil && !o.Finish {
		err = errors.New("benchmarks: an order out of turn")
	}
	return err
}
