package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/job"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// Environment of a node that runs as a process of its own: its home, where its
// job stalls ("mid", "out", "step"), and the grant it submits a job under.
const (
	envHome   = "YINQIAO_TEST_HOME"
	envStall  = "YINQIAO_TEST_STALL"
	envSubmit = "YINQIAO_TEST_SUBMIT"
)

func TestMain(m *testing.M) {
	if home := os.Getenv(envHome); home != "" {
		if err := childNode(Home{Dir: home}); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// childNode runs a node until SIGTERM, and says on standard output how far it
// is.
func childNode(home Home) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	h := &hooks{}
	stall := func(at string) func(string) {
		if os.Getenv(envStall) != at {
			return nil
		}
		return func(string) {
			fmt.Println(at)
			<-ctx.Done()
		}
	}
	h.mid, h.out = stall("mid"), stall("out")
	if f := stall("step"); f != nil {
		h.step = func(p string, i int) error {
			if i == failsAt {
				f(p)
			}
			return nil
		}
	}
	reg, err := job.NewRegistry(append(sumJobs(h), countJob(h), trioJob(h), stepJob(h), releaseJob(h), figureJob())...)
	if err != nil {
		return err
	}
	n, err := Open(ctx, home, Options{Registry: reg, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", n.cfg.Listen)
	if err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx, l) }()
	for tick := time.NewTicker(time.Millisecond); !n.up(); <-tick.C {
	}
	fmt.Println("ready")
	if grant := os.Getenv(envSubmit); grant != "" {
		r, err := n.SubmitJob(as(ctx, "op"), &nodev1.SubmitJobRequest{GrantId: grant})
		if err != nil {
			return err
		}
		fmt.Println("job", r.GetJob())
	}
	err = <-ran
	if err == nil {
		err = n.Close()
	}
	return err
}

// child is a node in a process of its own.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

// child stops a node of this process and runs it as another one.
func (w *world) child(id string, env ...string) *child {
	t := w.t
	t.Helper()
	w.stops[id]()
	c := &child{t: t, cmd: exec.Command(os.Args[0]), lines: make(chan string, 16)}
	c.cmd.Env = append(os.Environ(), append(env, envHome+"="+w.homes[id].Dir)...)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	c.cmd.Stderr = testWriter{t}
	must(t, c.cmd.Start())
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { _ = c.cmd.Process.Kill(); _ = c.cmd.Wait() })
	c.waits("ready")
	return c
}

// waits reads the child's output up to a line that begins with word, and
// returns the rest of it.
func (c *child) waits(word string) string {
	c.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case l, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("the child ended before it said %q", word)
			}
			if first, rest, _ := strings.Cut(l, " "); first == word {
				return rest
			} else if first == "error" {
				c.t.Fatalf("child: %s", rest)
			}
		case <-deadline:
			c.t.Fatalf("the child did not say %q", word)
		}
	}
}

// kill is kill -9.
func (c *child) kill() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Kill())
	_ = c.cmd.Wait()
}

// results lists what stands in a node's result folder, staged output included.
func (w *world) results(party string) []string {
	w.t.Helper()
	var names []string
	es, err := os.ReadDir(w.homes[party].resultDir())
	must(w.t, err)
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

// records returns who left records of a session in a party's log.
func (w *world) recordsOf(party, session string) map[string]*auditv1.Record {
	w.t.Helper()
	keys := map[string][]byte{}
	for id, n := range w.nodes {
		keys[id] = n.key.Public()
	}
	out := map[string]*auditv1.Record{}
	for _, e := range w.entries(party) {
		if s := e.Leaf.GetRecord(); s != nil {
			r, err := audit.VerifyRecord(s, keys)
			must(w.t, err)
			if r.GetSession() != session {
				continue
			}
			if out[r.GetParty()] != nil {
				w.t.Errorf("%s holds two records of %s", party, r.GetParty())
			}
			out[r.GetParty()] = r
		}
	}
	return out
}

func (w *world) receiptsOf(party, jobID string) (rs []*auditv1.Receipt, raw []byte) {
	w.t.Helper()
	keys := map[string][]byte{}
	for id, n := range w.nodes {
		keys[id] = n.key.Public()
	}
	for _, e := range w.entries(party) {
		if s := e.Leaf.GetReceipt(); s != nil {
			r, err := audit.VerifyReceipt(s, keys)
			must(w.t, err)
			if r.GetJob() == jobID {
				rs, raw = append(rs, r), e.Raw
			}
		}
	}
	return rs, raw
}

// view is how a job stands in a node's store.
func (w *world) view(party, id string) *record {
	w.t.Helper()
	r, err := w.nodes[party].load(id)
	must(w.t, err)
	return r
}

// TestKillInMidProtocol: kill -9 of one node fails the job on the other side
// with its reason. The killed node comes back and accounts for the job: it has
// failed, its use is spent, nothing is half-written. Both signed records meet
// at the next job, which succeeds.
func TestKillInMidProtocol(t *testing.T) {
	for _, killed := range []string{"gov", "bank"} {
		t.Run(killed, func(t *testing.T) {
			w := newWorld(t)
			grant := w.granted(nil)
			stays := map[string]string{"gov": "bank", "bank": "gov"}[killed]
			var c *child
			var id string
			if killed == "gov" {
				c = w.child(killed, envStall+"=mid")
				var err error
				id, err = w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
				must(t, err)
			} else {
				c = w.child(killed, envStall+"=mid", envSubmit+"="+grant)
				id = c.waits("job")
			}
			c.waits("mid")
			begin := time.Now()
			c.kill()
			v := w.ended(stays, id)
			if v.GetState() != "failed" || v.GetClass() != "peer_gone" || !strings.Contains(v.GetReason(), killed) {
				t.Errorf("%s: %s, %s: %s", stays, v.GetState(), v.GetClass(), v.GetReason())
			}
			t.Logf("%s failed %.2f s after the kill: %s", stays, time.Since(begin).Seconds(), v.GetReason())

			w.start(killed)
			r := w.view(killed, id)
			if r.State != Failed || r.Class != "interrupted" || r.Reason == "" || r.Finished.IsZero() {
				t.Errorf("%s: %s, %s: %s", killed, r.State, r.Class, r.Reason)
			}
			for _, p := range []string{killed, stays} {
				if u := w.used(p, grant); u != 1 {
					t.Errorf("%s: %d uses spent, want 1", p, u)
				}
				if names := w.results(p); len(names) != 0 {
					t.Errorf("%s: output was left: %v", p, names)
				}
				if own := w.recordsOf(p, r.Session)[p]; own == nil || own.GetState() != "failed" || !own.GetRunsUsed() {
					t.Errorf("%s: own record %v", p, own)
				}
			}

			next, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
			must(t, err)
			for _, p := range []string{killed, stays} {
				if v := w.ended(p, next); v.GetState() != "done" {
					t.Errorf("%s: next job %s: %s", p, v.GetState(), v.GetReason())
				}
				rs := w.recordsOf(p, r.Session)
				if rs[killed].GetClass() != "interrupted" || rs[stays].GetClass() != "peer_gone" {
					t.Errorf("%s holds records %v", p, rs)
				}
			}
			w.settled(killed, stays)
			again, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
			must(t, err)
			w.ended(killed, again)
			w.ended(stays, again)
			w.recordsOf("bank", r.Session) // still each once
		})
	}
}

// settled checks that two parties owe each other nothing any more.
func (w *world) settled(a, b string) {
	w.t.Helper()
	for _, p := range [][2]string{{a, b}, {b, a}} {
		owed, _, err := w.nodes[p[0]].owed(p[1])
		must(w.t, err)
		if len(owed) != 0 {
			w.t.Errorf("%s still owes %s %d records", p[0], p[1], len(owed))
		}
	}
}

// TestKillWhileReleasing kills a node while it stages its output: there is no
// receipt yet, so the output never opens, and the other party names it absent.
func TestKillWhileReleasing(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	w.nodes["bank"].waits.finish = 300 * time.Millisecond
	c := w.child("gov", envStall+"=out")
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	c.waits("out")
	c.kill()
	if v := w.ended("bank", id); v.GetState() != "done" {
		t.Fatalf("bank: %s: %s", v.GetState(), v.GetReason())
	}
	w.start("gov")
	if r := w.view("gov", id); r.State != Failed || r.Class != "interrupted" {
		t.Errorf("gov: %s, %s", r.State, r.Class)
	}
	if names := w.results("gov"); len(names) != 0 {
		t.Errorf("gov: staged output was left: %v", names)
	}
	rs, _ := w.receiptsOf("bank", id)
	if len(rs) != 1 || len(rs[0].GetParties()) != 1 || len(rs[0].GetAbsent()) != 1 || rs[0].GetAbsent()[0] != "gov" {
		t.Errorf("the bank's receipt: %v", rs)
	}
}

// TestCrashAfterTheReceipt: a node that died once it had the complete receipt
// completes the release when it comes back, wherever it died.
func TestCrashAfterTheReceipt(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	w.ended("bank", id)
	w.ended("gov", id)
	_, want := w.receiptsOf("gov", id)

	// The store and folder as they stand between keeping the receipt, logging
	// it, noting it, and publishing.
	for name, rewind := range map[string]func(*record, string, string) error{
		"before it was noted": func(r *record, staged, published string) error {
			r.State, r.Staged, r.ReceiptDigest, r.ReceiptIndex, r.Counts, r.Rows, r.Finished = Running, false, nil, 0, nil, nil, time.Time{}
			return os.Rename(published, staged)
		},
		"before it was published": func(r *record, staged, published string) error {
			r.State, r.Staged = Releasing, true
			return os.Rename(published, staged)
		},
		"before the job was done": func(r *record, _, _ string) error {
			r.State, r.Staged = Releasing, true
			return nil
		},
	} {
		n := w.nodes["gov"]
		r := w.view("gov", id)
		must(t, rewind(r, n.staging(id), n.published(id)))
		must(t, n.save(r))
		w.stops["gov"]()
		w.start("gov")
		got := w.view("gov", id)
		if got.State != Done || got.Class != "" || got.Counts["rows"] != 6 || got.ReceiptDigest == nil || got.Rows[1] != 3 {
			t.Errorf("%s: %+v", name, got)
		}
		rs, raw := w.receiptsOf("gov", id)
		if len(rs) != 1 || !bytes.Equal(raw, want) {
			t.Errorf("%s: %d receipts in the log", name, len(rs))
		}
		if names := w.results("gov"); len(names) != 1 || names[0] != id {
			t.Errorf("%s: results %v", name, names)
		}
	}

	// Output that somebody removed does not keep the node from starting.
	n := w.nodes["gov"]
	r := w.view("gov", id)
	r.State = Releasing
	must(t, n.save(r))
	must(t, os.RemoveAll(n.published(id)))
	w.stops["gov"]()
	w.start("gov")
	if got := w.view("gov", id); got.State != Done {
		t.Errorf("without its output: %s", got.State)
	}
}

// TestLogFailsAtTheEnd: a node whose log takes no more entries once the receipt
// is complete keeps its output closed, and opens it after a restart.
func TestLogFailsAtTheEnd(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	w.hooks.out = func(p string) {
		if p == "gov" {
			if err := w.nodes["gov"].audit.Close(w.ctx); err != nil {
				t.Error(err)
			}
		}
	}
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("bank", id); v.GetState() != "done" {
		t.Errorf("bank: %s: %s", v.GetState(), v.GetReason())
	}
	v := w.ended("gov", id)
	if v.GetState() != string(Releasing) || !strings.Contains(v.GetReason(), "started again") {
		t.Errorf("gov: %s: %s", v.GetState(), v.GetReason())
	}
	if _, err := os.Stat(w.nodes["gov"].published(id)); err == nil {
		t.Error("gov's output is open, and its log does not have the receipt")
	}
	w.hooks.out = nil
	w.stops["gov"]()
	w.start("gov")
	if r := w.view("gov", id); r.State != Done {
		t.Errorf("gov after a restart: %s: %s", r.State, r.Reason)
	}
	if rs, _ := w.receiptsOf("gov", id); len(rs) != 1 || len(rs[0].GetAbsent()) != 0 {
		t.Errorf("gov's receipts: %v", rs)
	}
	if names := w.results("gov"); len(names) != 1 || names[0] != id {
		t.Errorf("gov's results: %v", names)
	}
}

// TestRecordAfterACrash: the crash came between a failed job's last state and
// its record; the record is made up for, once.
func TestRecordAfterACrash(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	w.hooks.err["gov"] = fs.ErrInvalid
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	w.ended("bank", id)
	w.ended("gov", id)
	r := w.view("gov", id)
	if !r.Recorded {
		t.Fatal("no record was left")
	}
	r.Recorded = false
	must(t, w.nodes["gov"].save(r))
	for range 2 {
		w.stops["gov"]()
		w.start("gov")
		if r := w.view("gov", id); !r.Recorded || w.recordsOf("gov", r.Session)["gov"] == nil {
			t.Error("the record was not made up for")
		}
	}
}

// TestStoppedInMidProtocol: SIGTERM ends a running job with its reason on both
// sides, and the process well.
func TestStoppedInMidProtocol(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	c := w.child("gov", envStall+"=mid")
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	c.waits("mid")
	must(t, c.cmd.Process.Signal(syscall.SIGTERM))
	v := w.ended("bank", id)
	if v.GetState() != "failed" || v.GetClass() != "peer_aborted" || v.GetReason() != "gov ended the job (shutdown)" {
		t.Errorf("bank: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("gov's process: %v", err)
	}
	w.start("gov")
	if r := w.view("gov", id); r.State != Failed || r.Class != "shutdown" {
		t.Errorf("gov: %s, %s: %s", r.State, r.Class, r.Reason)
	}
	if u := w.used("gov", grant); u != 1 {
		t.Errorf("gov: %d uses spent", u)
	}
}

// TestBothStopped: both nodes of this process are stopped in mid-job.
func TestBothStopped(t *testing.T) {
	w := newWorld(t)
	grant := w.granted(nil)
	entered, release := make(chan string, 2), make(chan struct{})
	w.hooks.mid = func(p string) { entered <- p; <-release }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	<-entered
	<-entered
	var stopped sync.WaitGroup
	for _, p := range []string{"bank", "gov"} {
		a := w.nodes[p].findJob(id)
		stopped.Go(w.stops[p])
		<-a.ctx.Done()
	}
	close(release)
	stopped.Wait()
	w.hooks.mid = nil
	for _, p := range []string{"bank", "gov"} {
		w.start(p)
		if r := w.view(p, id); r.State != Failed || (r.Class != "shutdown" && r.Class != "peer_aborted" && r.Class != "peer_gone") {
			t.Errorf("%s: %s, %s: %s", p, r.State, r.Class, r.Reason)
		}
	}
	next, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
	must(t, err)
	if v := w.ended("bank", next); v.GetState() != "done" {
		t.Errorf("next job: %s: %s", v.GetState(), v.GetReason())
	}
}

// TestRepeatedKills kills a node at moments all over a job's life. Whatever it
// was doing, afterwards receipt, state and output agree.
func TestRepeatedKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	w := newWorld(t)
	grant := w.granted(func(q *catalogv1.Request) { q.Limits.MaxRuns = 20 })
	w.tune = func(n *Node) {
		n.waits = waits{finish: 300 * time.Millisecond, sign: 300 * time.Millisecond}
		n.cfg.Limits.PeerIdle = 2 * time.Second
	}
	w.stops["bank"]()
	w.start("bank")
	ends := map[State]int{}
	for i := range 6 {
		c := w.child("gov")
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		<-time.After(time.Duration(i) * 15 * time.Millisecond) // the moment is the test's subject
		c.kill()
		bank := w.ended("bank", id)
		w.start("gov")
		r := w.view("gov", id)
		rs, _ := w.receiptsOf("gov", id)
		_, err = os.Stat(filepath.Join(w.homes["gov"].resultDir(), id))
		released := err == nil
		if !r.State.Final() || (r.State == Done) != released || released != (len(rs) == 1) {
			t.Errorf("kill %d: %s, released %v, %d receipts", i, r.State, released, len(rs))
		}
		if r.State == Done && bank.GetState() != "done" {
			t.Errorf("kill %d: gov is done, the bank %s", i, bank.GetState())
		}
		if _, err := os.Stat(w.nodes["gov"].staging(id)); err == nil {
			t.Errorf("kill %d: staged output was left", i)
		}
		ends[r.State]++
	}
	t.Logf("the killed node's jobs: %v", ends)
}
