package align

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// cutAt fails every channel of partition p and later ones.
func cutAt(p int) sessiontest.Net {
	return sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		var at int
		if _, err := fmt.Sscanf(l.Label, "part-%05d", &at); err == nil && at >= p {
			return broken{ch}
		}
		return ch
	}}
}

var errCut = errors.New("the line was cut")

type broken struct{ session.Channel }

func (broken) Send(context.Context, []byte) error   { return errCut }
func (broken) Recv(context.Context) ([]byte, error) { return nil, errCut }

// resumable is a run in parts partitions whose attempts share scratch space.
type resumable struct {
	attempt
	open   *openProtocol
	xs, ys []row
	parts  int
}

func newResumable(t *testing.T, join, dup string) *resumable {
	r := rand.New(rand.NewPCG(21, 22))
	x := &resumable{open: &openProtocol{}, xs: randomRows(r, 300, 250, dup == duplicatesJoin), ys: randomRows(r, 280, 250, dup == duplicatesJoin)}
	e := x.open.engine()
	e.memoryRows = 100
	x.attempt = attempt{
		engines: [2]*engine{e, x.open.engine()}, files: [2]scratch.Files{scratch.Memory(), scratch.Memory()},
		sources: [2]table.Source{tableOf(t, x.xs), tableOf(t, x.ys)}, specs: [2]job.Spec{specOf(params("both", join, dup, 50), nil)},
	}
	return x
}

// fail runs an attempt that ends when partition k is due, and counts partitions.
func (x *resumable) fail(t *testing.T, k int) {
	t.Helper()
	x.net = cutAt(k)
	before := x.open.sessions.Load()
	_, out := x.run(t)
	if err := sessiontest.Cause(out); !errors.Is(err, errCut) {
		t.Fatalf("the attempt ended with %v", err)
	}
	if n := x.open.sessions.Load() - before; n > int64(k)+1 {
		t.Fatalf("%d sessions before partition %d", n, k)
	}
	x.net = sessiontest.Net{}
	for i := range x.files {
		if names, err := x.files[i].Names(outcomePrefix); err != nil || len(names) != k {
			t.Fatalf("p%d has outcomes %v, %v", i, names, err)
		}
	}
}

// succeed runs an attempt to its end, and returns how many sessions it had.
func (x *resumable) succeed(t *testing.T, join string) int {
	t.Helper()
	before := x.open.sessions.Load()
	results, out := x.run(t)
	sessiontest.NoErrors(t, out)
	want, common := sqlJoin(join, x.xs, x.ys)
	if got := pairsOf(t, results); !slices.Equal(got, want) {
		t.Errorf("got %d rows, want %d", len(got), len(want))
	}
	if results[0].Counts[job.CountCommon] != common {
		t.Errorf("%d common keys, want %d", results[0].Counts[job.CountCommon], common)
	}
	names, err := x.files[0].Names(outcomePrefix)
	if err != nil {
		t.Fatal(err)
	}
	x.parts = len(names)
	return int(x.open.sessions.Load() - before)
}

// Partitions that both sides finished are not run again, one of which keeps its
// files sealed on disk.
func TestResumeKeepsFinishedPartitions(t *testing.T) {
	for _, join := range []string{joinInner, joinFull} {
		for _, dup := range duplicates {
			x := newResumable(t, join, dup)
			if dup == duplicatesRefuse && len(x.xs) != 250 {
				t.Fatalf("%d rows", len(x.xs))
			}
			dir, err := scratch.OpenDir(t.TempDir(), make([]byte, scratch.KeySize), 0)
			if err != nil {
				t.Fatal(err)
			}
			x.files[1] = dir
			x.fail(t, 3)
			x.fail(t, 5)
			if n := x.succeed(t, join); x.parts < 8 || n != x.parts-5 {
				t.Errorf("%s, %s: %d sessions, of %d partitions 5 were finished", join, dup, n, x.parts)
			}
		}
	}
}

// A run that fails after all partitions has nothing but the end to do again.
func TestResumeAfterTheLastPartition(t *testing.T) {
	x := newResumable(t, joinFull, duplicatesJoin)
	last := 0
	x.net = sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == "p1" && l.Label == "" {
			return sessiontest.Tamper(ch, func(i int, p []byte) [][]byte {
				last = i
				if i == 3 { // bind, hello, input, count
					p[len(p)-1] ^= 1
				}
				return [][]byte{p}
			})
		}
		return ch
	}}
	_, out := x.run(t)
	if err := sessiontest.Cause(out); !errors.Is(err, ErrDisagree) && !errors.Is(err, ErrMessage) || last < 3 {
		t.Fatalf("%v after message %d", err, last)
	}
	x.net = sessiontest.Net{}
	if n := x.succeed(t, joinFull); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// An outcome that one side lost, or that is damaged, is made again, and so is
// all where a side has lost everything.
func TestResumeWithoutSomeFiles(t *testing.T) {
	overwrite := func(t *testing.T, f scratch.Files, name string, change func([]byte) []byte) {
		t.Helper()
		in, err := f.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		w, err := f.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(change(b)); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		lose func(t *testing.T, x *resumable)
		kept int
	}{
		"nothing": {func(*testing.T, *resumable) {}, 4},
		"one outcome": {func(t *testing.T, x *resumable) {
			if err := x.files[0].Remove(outcomeName(2)); err != nil {
				t.Fatal(err)
			}
		}, 3},
		"outcomes at both": {func(t *testing.T, x *resumable) {
			if err := errors.Join(x.files[0].Remove(outcomeName(2)), x.files[1].Remove(outcomeName(0))); err != nil {
				t.Fatal(err)
			}
		}, 2},
		"a bit": {func(t *testing.T, x *resumable) {
			overwrite(t, x.files[1], outcomeName(1), func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
		}, 3},
		"a byte at the end": {func(t *testing.T, x *resumable) {
			overwrite(t, x.files[1], outcomeName(1), func(b []byte) []byte { return b[:len(b)-1] })
		}, 3},
		"all but a little": {func(t *testing.T, x *resumable) {
			overwrite(t, x.files[0], outcomeName(1), func(b []byte) []byte { return b[:7] })
		}, 3},
		"a damaged manifest": {func(t *testing.T, x *resumable) {
			overwrite(t, x.files[0], manifestName, func(b []byte) []byte { b[40] ^= 1; return b })
		}, 0},
		"one side": {func(_ *testing.T, x *resumable) { x.files[1] = scratch.Memory() }, 0},
		"the left": {func(_ *testing.T, x *resumable) { x.files[0] = scratch.Memory() }, 0},
		"both":     {func(_ *testing.T, x *resumable) { x.files = [2]scratch.Files{scratch.Memory(), scratch.Memory()} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			x := newResumable(t, joinLeft, duplicatesJoin)
			x.fail(t, 4)
			c.lose(t, x)
			if n := x.succeed(t, joinLeft); n != x.parts-c.kept {
				t.Errorf("%d sessions of %d partitions, of which %d are kept", n, x.parts, c.kept)
			}
		})
	}
}

// Outcomes of one partition from two different attempts do not go together.
func TestResumeDoesNotMixAttempts(t *testing.T) {
	x := newResumable(t, joinInner, duplicatesRefuse)
	x.fail(t, 2)
	old, err := readAll(x.files[0], outcomeName(1), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.files[1].Remove(outcomeName(1)); err != nil {
		t.Fatal(err)
	}
	x.fail(t, 3) // makes partition 1 again
	w, err := x.files[0].Create(outcomeName(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(old); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if n := x.succeed(t, joinInner); n != x.parts-2 {
		t.Errorf("%d sessions of %d partitions", n, x.parts)
	}
}

// A party whose rows or parameters are not those of the earlier attempt ends
// before it has sent anything.
func TestResumeRefusesChangedInput(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, x *resumable){
		"a key":      func(t *testing.T, x *resumable) { x.xs[17].key = "another"; x.sources[0] = tableOf(t, x.xs) },
		"the order":  func(t *testing.T, x *resumable) { x.xs[3], x.xs[4] = x.xs[4], x.xs[3]; x.sources[0] = tableOf(t, x.xs) },
		"a row less": func(t *testing.T, x *resumable) { x.sources[0] = tableOf(t, x.xs[1:]) },
		"the join":   func(_ *testing.T, x *resumable) { x.specs[0] = specOf(params("both", "left", "refuse", 50), nil) },
	} {
		x := newResumable(t, joinInner, duplicatesRefuse)
		x.fail(t, 2)
		change(t, x)
		var view sessiontest.View
		x.net = sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
			if l.Self == "p0" {
				return sessiontest.Record(ch, &view)
			}
			return ch
		}}
		_, out := x.run(t)
		if !errors.Is(out[0].Err, ErrInputChanged) || len(view.Sent()) != 0 {
			t.Errorf("%s: %v after %d messages", name, out[0].Err, len(view.Sent()))
		}
	}
}

// A party that changed its rows and its own record of them is found by the
// other, which kept the commitment.
func TestResumeRefusesThePeersChangedInput(t *testing.T) {
	x := newResumable(t, joinInner, duplicatesRefuse)
	x.fail(t, 2)
	m, err := loadManifest(x.files[0])
	if err != nil || m == nil {
		t.Fatal(err)
	}
	x.xs[17].key = "another"
	x.sources[0] = tableOf(t, x.xs)
	set, err := readItems(t.Context(), x.sources[0], table.RuleID, m.seed, false, memoryRows, nil, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	m.digest = set.digest
	if err := m.save(x.files[0]); err != nil {
		t.Fatal(err)
	}
	before := x.open.sessions.Load()
	_, out := x.run(t)
	if !errors.Is(out[1].Err, ErrInputChanged) || !strings.Contains(out[1].Err.Error(), "p0") {
		t.Errorf("%v", out[1].Err)
	}
	if x.open.sessions.Load() != before {
		t.Error("the protocol began")
	}
}

// With the output "receiver" the sender keeps that partitions are finished, and
// nothing else of them.
func TestResumeForTheReceiverAlone(t *testing.T) {
	x := newResumable(t, joinInner, duplicatesRefuse)
	x.specs[0] = specOf(params("receiver", "inner", "refuse", 50), nil)
	x.fail(t, 4)
	sizes := map[int64]bool{}
	for p := range 4 {
		f, err := x.files[0].Open(outcomeName(p))
		if err != nil {
			t.Fatal(err)
		}
		sizes[f.Size()] = true
	}
	if len(sizes) != 1 {
		t.Errorf("the sender's outcomes differ in size: %v", sizes)
	}
	before := x.open.sessions.Load()
	results, out := x.run(t)
	sessiontest.NoErrors(t, out)
	want, _ := sqlJoin(joinInner, x.xs, x.ys)
	names, _ := x.files[1].Names(outcomePrefix)
	if n := x.open.sessions.Load() - before; len(rowsOf(t, results[1].Tables["intersection"])) != len(want) || n != int64(len(names)-4) {
		t.Errorf("%d sessions of %d, %+v", n, len(names), results[1])
	}
}
