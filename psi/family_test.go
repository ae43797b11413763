package psi_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/psi/cardinality"
	"github.com/yinqiao/yinqiao/psi/multi"
	"github.com/yinqiao/yinqiao/psi/oprf"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// The tests of this package run every job kind of the family as a node does, by
// its Definition, and hold what comes out to the plaintext. What is inside a
// protocol is for the tests of its package.
//
// With YINQIAO_LARGE=1 in the environment they go up to 10^7 rows, and try every
// message where they otherwise sample. That takes an hour and -timeout 0; a size
// or a kind of it is chosen with -run 'TestPlaintext/10000000/psi.rr22.v1'.
var large = os.Getenv("YINQIAO_LARGE") == "1"

// kind is a job kind with what the tests need to know of it.
type kind struct {
	job.Definition
	roles []job.Role // of p0, p1, …
	all   string     // the value of the parameter output with which all get the result
	curve bool       // a row takes multiplications on a curve, and so 100 times as long as elsewhere
	joins bool       // the parameters join, duplicates and partition_rows
}

var kinds = func() []kind {
	known := map[string]kind{
		"psi.ecdh.v1":        {roles: []job.Role{align.Sender, align.Receiver}, all: "both", curve: true, joins: true},
		"psi.rr22.v1":        {roles: []job.Role{align.Sender, align.Receiver}, all: "both", joins: true},
		"psi.rr22m.v1":       {roles: []job.Role{align.Sender, align.Receiver}, all: "both", joins: true},
		"psi.oprf.v1":        {roles: []job.Role{oprf.Server, oprf.Client}, all: "both", curve: true},
		"psi.multi.v1":       {roles: []job.Role{multi.Leader, multi.Member, multi.Member}, all: "all"},
		"psi.cardinality.v1": {roles: []job.Role{cardinality.Sender, cardinality.Receiver}, all: "both", curve: true},
	}
	var ks []kind
	for _, d := range psi.Jobs() {
		k, ok := known[d.Name]
		if !ok {
			panic("no test runs " + d.Name)
		}
		k.Definition = d
		ks = append(ks, k)
	}
	return ks
}()

// only returns the kinds of these names.
func only(t testing.TB, names ...string) (ks []kind) {
	t.Helper()
	for _, k := range kinds {
		if slices.Contains(names, k.Name) {
			ks = append(ks, k)
		}
	}
	if len(ks) != len(names) {
		t.Fatalf("not all of %q are registered", names)
	}
	return ks
}

// joining returns the kinds that join.
func joining() (ks []kind) {
	for _, k := range kinds {
		if k.joins {
			ks = append(ks, k)
		}
	}
	return ks
}

// params are a job's parameters.
type params map[string]any

// spec is a job of k in which every party gets the result, unless p says
// otherwise.
func (k kind) spec(p params) job.Spec {
	q := params{"output": k.all}
	maps.Copy(q, p)
	raw, err := json.Marshal(q)
	if err != nil {
		panic(err) // a mistake in a test
	}
	s := job.Spec{Kind: k.Name, Params: raw}
	for i, id := range sessiontest.PartyIDs(len(k.roles)) {
		s.Parties = append(s.Parties, job.Participant{
			Party: id, Role: k.roles[i], Inputs: []job.Input{{Entry: "e", Version: 1, Items: []string{"id"}}},
		})
		if q["output"] == k.all {
			s.Recipients = append(s.Recipients, id)
		}
	}
	return s
}

// trial is one run of a kind: party i has sources[i].
type trial struct {
	kind
	spec    job.Spec
	specs   map[int]job.Spec // of parties that mean something else
	others  map[int]kind     // of parties that run another kind
	sources []table.Source
	// Disk of the run and what is kept between runs; nil is memory.
	files, caches []scratch.Files
	net           sessiontest.Net
	idle          time.Duration // after which a party gives up, as a node does; 0 is never
}

func (k kind) trial(p params, sources ...table.Source) trial {
	return trial{kind: k, spec: k.spec(p), sources: sources}
}

var errIdle = fmt.Errorf("idle for too long: %w", context.DeadlineExceeded)

// run runs all parties and returns what each holds and how it ended.
func (r trial) run(t testing.TB) ([]job.Result, []sessiontest.Outcome) {
	t.Helper()
	if err := r.Validate(r.spec); err != nil {
		t.Fatal(err)
	}
	results := make([]job.Result, len(r.roles))
	var parties []sessiontest.Party
	for i := range r.roles {
		env := job.Env{Spec: r.spec, Inputs: []table.Source{r.sources[i]}, Once: &job.MemoryOnce{}, Scratch: scratch.Memory(), Cache: scratch.Memory()}
		if s, other := r.specs[i]; other {
			env.Spec = s
		}
		run := r.Run
		if k, other := r.others[i]; other {
			run = k.Run
		}
		if r.files != nil {
			env.Scratch = r.files[i]
		}
		if r.caches != nil {
			env.Cache = r.caches[i]
		}
		parties = append(parties, func(ctx context.Context, s *session.Session) (err error) {
			if r.idle > 0 {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeoutCause(ctx, r.idle, errIdle)
				defer stop()
			}
			env.Session = s
			results[i], err = run(ctx, env)
			return err
		})
	}
	return results, r.net.Run(t, parties...)
}

// good is run where every party has to end well.
func (r trial) good(t testing.TB) []job.Result {
	t.Helper()
	results, out := r.run(t)
	sessiontest.NoErrors(t, out)
	return results
}

// disks returns sealed scratch space on disk for n parties, as a node gives it.
func disks(t testing.TB, n int) (ds []scratch.Files) {
	t.Helper()
	for i := range n {
		key := make([]byte, scratch.KeySize)
		_, _ = rand.Read(key) // never fails
		d, err := scratch.OpenDir(filepath.Join(t.TempDir(), strconv.Itoa(i)), key, 0)
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	return ds
}

// usage is what a run takes, of all parties together, for they share a process.
type usage struct {
	begun time.Time
	cpu   time.Duration
}

func begin(t testing.TB) usage {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	// Starts the high-water mark of resident memory anew, where that is allowed.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	return usage{time.Now(), psitest.CPU(t)}
}

// log says what the run took since begin.
func (u usage) log(t testing.TB, p people, out []sessiontest.Outcome) {
	t.Helper()
	wall, cpu := time.Since(u.begun), psitest.CPU(t)-u.cpu
	var bytes int64
	for _, o := range out {
		bytes += o.Traffic.Sent
	}
	rss := "unknown memory"
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				rss = strings.TrimSpace(rest) + " at most"
			}
		}
	}
	t.Logf("%v: %.2f s, %.2f s of processor, %s for all parties, %.1f bytes a row",
		p, wall.Seconds(), cpu.Seconds(), rss, float64(bytes)/float64(max(slices.Max(p.rows), 1)))
}
