package benchmarks

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/node/dataset"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// party is one party of a case, with its inputs ready.
type party struct {
	def     job.Definition
	c       Case
	spec    job.Spec
	self    job.Participant
	ids     []session.PartyID
	held    []table.Source    // rows in memory
	files   []dataset.Dataset // or, with CSV, in files
	cache   scratch.Files     // nil where the case is not warm
	pass    int
	closers []func()
}

// outcome is what one party did in one pass.
type outcome struct {
	PartyReport
	Counts map[string]int64 `json:"counts"`
	Tables []string         `json:"tables,omitempty"` // that were written, sorted
}

// prepare makes one party's inputs, in memory or in files. Rows that b makes as
// they are read go to files without ever being in memory together.
func prepare(ctx context.Context, def job.Definition, c Case, b job.Bench, id session.PartyID) (*party, error) {
	p := &party{def: def, c: c, spec: b.Spec, ids: partyIDs(b.Spec)}
	self, ok := b.Spec.Participant(id)
	if !ok {
		return nil, fmt.Errorf("benchmarks: %s has no party %q", def.Name, id)
	}
	p.self = self
	if len(b.Inputs[id]) != len(self.Inputs) {
		return nil, fmt.Errorf("benchmarks: %s has %d inputs of %s, its spec %d", def.Name, len(b.Inputs[id]), id, len(self.Inputs))
	}
	if c.Dir != "" {
		if err := os.MkdirAll(c.partyDir(id), 0o700); err != nil {
			return nil, err
		}
	}
	if c.Warm {
		files, done, err := newFiles(filepath.Join(c.partyDir(id), "cache"))
		if err != nil {
			return nil, err
		}
		p.cache, p.closers = files, append(p.closers, done)
	}
	if !c.CSV {
		if err := holdParty(ctx, b, id); err != nil {
			return nil, err
		}
		for _, src := range b.Inputs[id] {
			if c.Warm {
				src = known{src}
			}
			p.held = append(p.held, src)
		}
		return p, nil
	}
	for i, src := range b.Inputs[id] {
		d := dataset.Dataset{Name: "input " + strconv.Itoa(i), Driver: "csv", Path: filepath.Join(c.partyDir(id), "input-"+strconv.Itoa(i)+".csv")}
		for _, col := range src.Schema() {
			d.Columns = append(d.Columns, dataset.Column{Name: col.Name, Type: col.Type, Key: col.Key})
		}
		if _, err := writeFile(ctx, d.Path, src); err != nil {
			return nil, err
		}
		p.files = append(p.files, d)
	}
	return p, nil
}

func (p *party) close() {
	for _, f := range p.closers {
		f()
	}
}

// newFiles returns a set of files in dir as a node keeps them, sealed, and what
// removes it.
func newFiles(dir string) (scratch.Files, func(), error) {
	key := make([]byte, scratch.KeySize)
	_, _ = rand.Read(key) // never fails
	files, err := scratch.OpenDir(dir, key, 0)
	if err != nil {
		return nil, nil, err
	}
	return files, func() { _ = files.Destroy() }, nil // the run is over: nothing is lost
}

// known is a table in memory that can say at once that it is the one of the
// pass before, as a node can of a file that has not changed.
type known struct{ table.Source }

func (known) KeyFingerprint() string { return "held in memory" }

// run runs the job once, over a fresh network.
func (p *party) run(ctx context.Context, open session.Opener) (o outcome, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", p.self.Party, err)
		}
	}()
	p.pass++
	meter := session.NewMeter()
	o.Party, o.Role = p.self.Party, p.self.Role
	cpu, begin := cpuTime(), time.Now()
	s, err := session.New(ctx, session.Config{ID: "bench", Self: p.self.Party, Parties: p.ids, Open: open, Meter: meter, Progress: p.c.Progress})
	if err != nil {
		return o, err
	}
	env := job.Env{Spec: p.spec, Session: s, Inputs: p.held, Once: &job.MemoryOnce{}, Cache: p.cache}
	if p.c.CSV {
		if env.Inputs, err = p.read(ctx); err != nil {
			return o, err
		}
		files, done, err := newFiles(filepath.Join(p.c.partyDir(p.self.Party), "scratch-"+strconv.Itoa(p.pass)))
		if err != nil {
			return o, err
		}
		defer done()
		env.Scratch = files
	}
	read := time.Now()
	result, err := p.def.Run(ctx, env)
	if err != nil {
		return o, err
	}
	ran := time.Now()
	if p.c.CSV {
		for name, src := range result.Tables {
			if _, err := writeFile(ctx, p.c.resultPath(p.self.Party, name), src); err != nil {
				return o, err
			}
			o.Tables = append(o.Tables, name)
		}
		slices.Sort(o.Tables)
		o.ReadSeconds, o.WriteSeconds = read.Sub(begin).Seconds(), time.Since(ran).Seconds()
	}
	o.JobSeconds, o.Seconds = ran.Sub(read).Seconds(), time.Since(begin).Seconds()
	if p.c.Processes {
		o.CPUSeconds, o.PeakRSSBytes = (cpuTime() - cpu).Seconds(), peakRSS()
	}
	t := meter.Traffic()
	o.BytesSent, o.Rounds, o.Rows, o.Counts = t.Sent, t.Rounds, result.Rows, result.Counts
	return o, nil
}

// read opens the input files and digests their rows, as a node does before it
// runs a job.
func (p *party) read(ctx context.Context) ([]table.Source, error) {
	var sources []table.Source
	for i, d := range p.files {
		src, err := dataset.Open(ctx, d)
		if err != nil {
			return nil, err
		}
		granted, err := table.Select(src, p.self.Inputs[i].Items)
		if err != nil {
			return nil, err
		}
		read, err := dataset.Read(ctx, granted)
		if err != nil {
			return nil, err
		}
		sources = append(sources, read)
	}
	return sources, nil
}

// resultPath is where a party's result table is written.
func (c *Case) resultPath(id session.PartyID, name string) string {
	return filepath.Join(c.partyDir(id), "result-"+name+".csv")
}

// writeFile writes src to a new file and returns its size.
func writeFile(ctx context.Context, path string, src table.Source) (int64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	err = table.WriteCSV(ctx, w, src)
	if err == nil {
		err = w.Flush()
	}
	size, _ := f.Seek(0, 1)
	if end := f.Close(); err == nil {
		err = end
	}
	return size, err
}
