package benchmarks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/benchmarks"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi"
)

// Every protocol gives the same counts with each party in a process of its own,
// with CSV files and with a warm cache, and each party's share is told apart.
func TestProcesses(t *testing.T) {
	const rows = 1000
	for _, def := range psi.Jobs() {
		if def.Bench == nil {
			continue
		}
		t.Run(def.Name, func(t *testing.T) {
			here, err := benchmarks.Run(t.Context(), def, benchmarks.Case{N: rows, NoBaseline: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []benchmarks.Case{{Net: "none"}, {Net: "lan", CSV: true, Warm: true}} {
				c.N, c.Processes, c.NoBaseline = rows, true, true
				r, err := benchmarks.Run(t.Context(), def, c)
				if err != nil {
					t.Fatal(err)
				}
				if r.ResultRows != here.ResultRows || len(r.PerParty) != r.Parties || r.Bytes <= 0 || r.Rounds < 1 {
					t.Errorf("%+v, in one process %+v", r, here)
				}
				var cpu float64
				var peak int64
				for _, p := range r.PerParty {
					if p.Party == "" || p.Role == "" || p.Rows < 1 || p.Seconds <= 0 || p.CPUSeconds <= 0 || p.PeakRSSBytes < 1<<20 || p.BytesSent <= 0 {
						t.Errorf("%+v", p)
					}
					if c.CSV != (p.ReadSeconds > 0) {
						t.Errorf("with csv %v: %+v", c.CSV, p)
					}
					cpu += p.CPUSeconds
					peak = max(peak, p.PeakRSSBytes)
				}
				if r.CPUSeconds != cpu || r.PeakRSSBytes != peak {
					t.Errorf("%v CPU seconds and %d bytes in all, parties %+v", r.CPUSeconds, r.PeakRSSBytes, r.PerParty)
				}
			}
		})
	}
}

// What a job says of its progress reaches the run, from wherever it is.
func TestProgress(t *testing.T) {
	for _, processes := range []bool{false, true} {
		var mu sync.Mutex
		var stages []string
		_, err := benchmarks.Run(t.Context(), kind(t, "test.telling.v1"), benchmarks.Case{N: 100, Processes: processes, NoBaseline: true, Progress: func(stage string, done, total int64) {
			mu.Lock()
			defer mu.Unlock()
			stages = append(stages, fmt.Sprintf("%s %d/%d", stage, done, total))
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := "planned 7/9"
		if processes {
			want = "p1 " + want
		}
		if !slices.Contains(stages, want) {
			t.Errorf("in processes %v: no %q in %q", processes, want, stages)
		}
	}
}

// A process that is killed ends the run with an error that names it, and no
// other process is left.
func TestProcessKilled(t *testing.T) {
	for _, net := range []string{"none", "lan"} {
		_, err := benchmarks.Run(t.Context(), kind(t, "test.killed.v1"), benchmarks.Case{N: 1000, Net: net, Processes: true})
		if !errors.Is(err, benchmarks.ErrParty) || !strings.Contains(err.Error(), "p1 ended early: signal: killed") {
			t.Errorf("%s: %v", net, err)
		}
	}
}

// What a party fails of is the run's error.
func TestProcessFails(t *testing.T) {
	_, err := benchmarks.Run(t.Context(), kind(t, "test.failing.v1"), benchmarks.Case{N: 100, Processes: true})
	if !errors.Is(err, benchmarks.ErrParty) || !strings.Contains(err.Error(), "p1: "+errPlanned.Error()) {
		t.Error(err)
	}
	_, err = benchmarks.Run(t.Context(), kind(t, "psi.ecdh.v1"), benchmarks.Case{N: 100, Processes: true, Command: []string{"/nowhere/yinqiao"}})
	if err == nil || !strings.Contains(err.Error(), "start a process for p0") {
		t.Error(err)
	}
	_, err = benchmarks.Run(t.Context(), kind(t, "psi.ecdh.v1"), benchmarks.Case{N: 100, Processes: true, Command: []string{"true"}})
	if !errors.Is(err, benchmarks.ErrParty) || !strings.Contains(err.Error(), "ended early") {
		t.Error(err)
	}
}

// A run that is ended ends its processes, even one that listens to nothing.
func TestProcessesEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := benchmarks.Run(ctx, kind(t, "test.deaf.v1"), benchmarks.Case{N: 100, Processes: true})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A party's process gives up when the run that started it is gone, though its
// work hears nothing, and says what it makes of wrong orders.
func TestOrphan(t *testing.T) {
	busy, release := make(chan struct{}), make(chan struct{})
	def := kind(t, "psi.ecdh.v1")
	def.Bench = func(int64) (job.Bench, error) {
		close(busy)
		<-release
		return job.Bench{}, errPlanned
	}
	in, orders := io.Pipe()
	abandoned, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- benchmarks.ServeParty(t.Context(), func(string) (job.Definition, bool) { return def, true }, in, io.Discard, func() { close(abandoned) })
	}()
	if err := json.NewEncoder(orders).Encode(map[string]any{"setup": map[string]any{"job": def.Name, "party": "p0", "case": benchmarks.Case{N: 1}}}); err != nil {
		t.Fatal(err)
	}
	<-busy
	orders.Close()
	<-abandoned
	close(release)
	if err := <-ended; !errors.Is(err, errPlanned) {
		t.Error(err)
	}
	for _, text := range []string{
		`{"start":true}`, `{"setup":{"job":"none","party":"p0","case":{"N":1}}}`, `{"setup":{"job":"psi.ecdh.v1","party":"p7","case":{"N":10}}}`,
		`{"setup":{"job":"psi.ecdh.v1","party":"p0","case":{"N":-1}}}`, `{"setup":{"job":"psi.ecdh.v1","party":"p0","case":{"N":1}}}{"start":true}`,
	} {
		var out bytes.Buffer
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, text) }() // an error: not read to its end
		done := make(chan error, 1)
		said := &notify{w: &out, on: `"error"`, close: w}
		go func() {
			done <- benchmarks.ServeParty(t.Context(), func(name string) (job.Definition, bool) {
				return kind(t, "psi.ecdh.v1"), name == "psi.ecdh.v1"
			}, r, said, func() {})
		}()
		if err := <-done; err == nil || !strings.Contains(out.String(), `"error"`) {
			t.Errorf("%s: %v, %s", text, err, out.String())
		}
	}
}

// notify closes a pipe once a text has been written.
type notify struct {
	w     *bytes.Buffer
	on    string
	close io.Closer
}

func (n *notify) Write(p []byte) (int, error) {
	n.w.Write(p)
	if strings.Contains(n.w.String(), n.on) {
		n.close.Close()
	}
	return len(p), nil
}

// Files of a kept run stay where they were asked for, and those of another go.
func TestFiles(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	dir := filepath.Join(t.TempDir(), "kept")
	def := kind(t, "psi.ecdh.v1")
	r, err := benchmarks.Run(t.Context(), def, benchmarks.Case{N: 200, CSV: true, Dir: dir, NoBaseline: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"p0", "p1"} {
		for name, lines := range map[string]int64{"input-0.csv": 201, "result-intersection.csv": r.ResultRows + 1} {
			b, err := os.ReadFile(filepath.Join(dir, p, name))
			if err != nil || int64(bytes.Count(b, []byte("\n"))) != lines {
				t.Errorf("%s of %s: %d lines, want %d, %v", name, p, bytes.Count(b, []byte("\n")), lines, err)
			}
		}
	}
	if _, err := benchmarks.Run(t.Context(), def, benchmarks.Case{N: 200, CSV: true, Warm: true, NoBaseline: true}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
