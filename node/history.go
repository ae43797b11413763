package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/yinqiao/yinqiao/scratch"
)

// historyPatience is how long an older job waits for the history that a younger
// one holds before it ends that one. Jobs hold one across messages, so two jobs
// that began in different order at two nodes would wait for each other for ever.
const historyPatience = 10 * time.Second

// histories are the sealed files about earlier releases from each entry of this
// node. They go by the entry's code, so that they outlast its versions, and are
// never removed: what was once released can be subtracted for ever.
type histories struct {
	disk     *disk
	patience time.Duration

	mu      sync.Mutex
	entries map[string]*history
}

func newHistories(d *disk) *histories {
	return &histories{disk: d, patience: historyPatience, entries: make(map[string]*history)}
}

// of opens the folder of an entry, once for all jobs.
func (h *histories) of(entry string) (*history, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.entries[entry]; e != nil {
		return e, nil
	}
	sum := sha256.Sum256([]byte(entry))
	files, err := h.disk.sealed(filepath.Join(h.disk.historyDir, hex.EncodeToString(sum[:])), "history/"+entry)
	if err != nil {
		return nil, fmt.Errorf("node: history: %w", err)
	}
	e := &history{files: files}
	h.entries[entry] = e
	return e, nil
}

// history is the files of one entry, for one job at a time.
type history struct {
	files scratch.Files

	mu     sync.Mutex
	holder *jobHistory   // nil while no job has the files
	freed  chan struct{} // closed when the holder gives them back
}

// take gives the files to j, or returns who has them and until when.
func (e *history) take(j *jobHistory) (holder *jobHistory, freed <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.holder != nil {
		return e.holder, e.freed
	}
	e.holder, e.freed = j, make(chan struct{})
	return nil, nil
}

func (e *history) giveBack() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holder = nil
	close(e.freed)
}

// jobHistory is one job's hold on histories: of its own inputs' entries alone.
type jobHistory struct {
	all     *histories
	entries []string
	created time.Time // with job, an order of jobs that is the same at every node
	job     string
	yield   func(entry string) // ends the job, for one that is older

	mu     sync.Mutex
	closed bool
	held   map[string]*history
}

// histories returns the hold of a's job on this node's histories.
func (n *Node) histories(a *active) *jobHistory {
	c := a.contract
	j := &jobHistory{all: n.disk.histories, created: c.GetCreated().AsTime(), job: c.GetJob(), held: make(map[string]*history)}
	for _, in := range c.participant(n.cfg.Party).GetInputs() {
		j.entries = append(j.entries, in.GetEntry())
	}
	j.yield = func(entry string) {
		a.cancel(fail("history_busy", "an older job waits for the history of entry %s, which this one holds: submit it again when that one has ended", entry))
	}
	return j
}

func (j *jobHistory) older(than *jobHistory) bool {
	return cmp.Or(j.created.Compare(than.created), cmp.Compare(j.job, than.job)) < 0
}

// Hold waits until no other job has the files of entry. Whoever needs several
// holds them in ascending order. What is not given back goes back when the
// computation ends.
func (j *jobHistory) Hold(ctx context.Context, entry string) (scratch.Files, func(), error) {
	if !slices.Contains(j.entries, entry) {
		return nil, nil, fmt.Errorf("node: history of entry %s, which is no input of this party", clip(entry, 64))
	}
	e, err := j.all.of(entry)
	if err != nil {
		return nil, nil, err
	}
	patience := time.NewTimer(j.all.patience)
	defer patience.Stop()
	for {
		holder, freed := e.take(j)
		if holder == nil {
			break
		}
		if holder == j {
			return nil, nil, fmt.Errorf("node: this job has the history of entry %s already", entry)
		}
		var enough <-chan time.Time
		if j.older(holder) {
			enough = patience.C
		}
		select {
		case <-freed:
		case <-enough:
			holder.yield(entry)
			patience.Reset(j.all.patience)
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		e.giveBack()
		return nil, nil, errors.New("node: a history is held while the job computes, and it has ended")
	}
	j.held[entry] = e
	return e.files, func() { j.release(entry) }, nil
}

// release gives back the files of entry, unless that has been done.
func (j *jobHistory) release(entry string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.held[entry]; e != nil {
		delete(j.held, entry)
		e.giveBack()
	}
}

// close gives back what the computation has left held, as one that panicked
// does.
func (j *jobHistory) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for _, e := range j.held {
		e.giveBack()
	}
	clear(j.held)
}
