package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/internal/figure"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/job"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
	"github.com/yinqiao/yinqiao/table"
)

// release is the last gate before an output leaves the engine: the grant is
// evaluated once more, the output is staged where nobody reads it, the receipt
// is signed by all and sequenced in the log, and only then is it published.
func (n *Node) release(ctx context.Context, a *active, out *output) error {
	c := a.contract
	a.update(func() { a.rec.State = Releasing })
	a.progress("write the output", 0, 0)
	n.metrics.JobState(string(Running), string(Releasing))
	if err := n.gate(ctx, a, &out.result); err != nil {
		return err
	}
	commit, err := audit.NewCommitter(nil, "result")
	if err != nil {
		return err
	}
	waiting := n.askToWait(ctx, a)
	err = n.stage(ctx, c, out.result, commit)
	waiting()
	if err != nil {
		return err
	}
	if err := n.keepOpening(c.GetJob(), "result", commit.Opening()); err != nil {
		return err
	}
	out.record.ResultCommitment = commit.Sum()
	a.progress("sign the receipt", 0, 0)
	own := &peerv1.FinishRequest{Session: c.GetSession(), Record: out.record, Counts: out.result.Counts, Digests: out.result.Digests, Finished: timestamppb.New(n.now())}
	var receipt *signv1.Signed
	if a.finisher != nil {
		receipt, err = n.makeReceipt(ctx, a, own, out.started)
	} else {
		receipt, err = n.joinReceipt(ctx, a, own)
	}
	if err != nil {
		return err
	}
	// From here on nothing takes the receipt back: it is kept first, so that a
	// crash at any later point ends in a released output, and the log has it
	// before the output opens.
	raw, err := proto.Marshal(receipt)
	if err != nil {
		return fmt.Errorf("node: receipt: %w", err)
	}
	if err := n.store.Put(receiptKey(c.GetSession()), raw); err != nil {
		return fmt.Errorf("node: receipt not kept, so the output stays closed: %w", err)
	}
	var rec record
	a.update(func() { a.rec.Staged, rec = true, a.rec })
	if err := n.settle(context.WithoutCancel(ctx), &rec, receipt); err != nil {
		return err
	}
	a.update(func() { a.rec = rec })
	return nil
}

func receiptKey(session string) string { return "receipt/" + session }

// settle logs a complete receipt, notes it in the job's record, and publishes
// the staged output. It may be repeated after a crash.
func (n *Node) settle(ctx context.Context, rec *record, receipt *signv1.Signed) error {
	ref, err := n.audit.Append(ctx, &auditv1.Leaf{Kind: &auditv1.Leaf_Receipt{Receipt: receipt}})
	if err != nil {
		return fmt.Errorf("node: receipt not logged, so the output stays closed: %w", err)
	}
	r, err := decodeReceipt(receipt)
	if err != nil {
		return err
	}
	rec.ReceiptDigest, rec.ReceiptIndex = ref.Digest, ref.Index
	rec.Counts, rec.Digests = r.GetCounts(), r.GetDigests()
	rec.Rows = make([]int64, len(rec.Parties))
	for _, p := range r.GetParties() {
		if i := slices.Index(rec.Parties, p.GetParty()); i >= 0 {
			rec.Rows[i] = p.GetRows()
		}
	}
	if err := n.save(rec); err != nil {
		return err
	}
	return n.publish(rec.Job, receipt, ref)
}

// gate evaluates the grant before release and keeps from this party what it
// may not receive.
func (n *Node) gate(ctx context.Context, a *active, res *job.Result) error {
	if err := n.stillGranted(ctx, a.contract.GetGrantId()); err != nil {
		return err
	}
	revealed := map[string]bool{}
	for _, d := range a.reveals {
		if d.To == "" || string(d.To) == a.rec.Role {
			revealed[d.Field] = true
		}
	}
	for _, f := range res.Fields() {
		if !revealed[f] {
			return fail("reveals", "%s returned %q, which it does not declare to reveal", a.def.Name, f)
		}
	}
	if !validDigests(res.Digests) {
		return fail("reveals", "%s returned digests that cannot stand in a receipt: at most %d of 1 to %d bytes, under plain names", a.def.Name, maxDigests, maxDigest)
	}
	if !slices.Contains(a.contract.GetRecipients(), n.cfg.Party) {
		res.Values, res.Tables, res.Figures, res.Notes = nil, nil, nil, nil
	}
	return nil
}

// askStatusAgain spaces the questions to a platform that does not answer.
const askStatusAgain = 500 * time.Millisecond

// stillGranted asks whether the grant holds. A platform that does not answer
// gets as long as a running session would give it.
func (n *Node) stillGranted(ctx context.Context, grant string) error {
	begin := n.now()
	for {
		err := n.resolver.Status(ctx, grant)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, catalog.ErrUnreachable):
			return n.asRefusal(err)
		case n.now().Sub(begin) > n.cfg.Limits.PlatformGrace:
			return fail("platform_unreachable", "the platform has not answered for %s (limits.platform_grace)", n.cfg.Limits.PlatformGrace)
		}
		pause := time.NewTimer(askStatusAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

func (n *Node) staging(id string) string   { return filepath.Join(n.home.resultDir(), "."+id) }
func (n *Node) published(id string) string { return filepath.Join(n.home.resultDir(), id) }

// stage writes the result where no verb looks, and commits to its bytes. Each
// table is a CSV file; one that is a figure is JSON and Parquet too, and a chart
// where one fits. A recipient's result has a manifest, which the receipt
// completes.
func (n *Node) stage(ctx context.Context, c *contract, res job.Result, commit *audit.Committer) error {
	st := &staged{node: n, dir: n.staging(c.GetJob()), commit: commit}
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return fmt.Errorf("node: result: %w", err)
	}
	values := res.Values
	if values == nil {
		values = map[string]any{}
	}
	if err := st.encoded(valuesFile, "values", values); err != nil {
		return err
	}
	if res.Notes != nil {
		if err := st.encoded(notesFile, "notes", res.Notes); err != nil {
			return err
		}
	}
	for name := range res.Figures {
		if res.Tables[name] == nil {
			return fail("internal", "a job kind returned a figure without its table")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(res.Tables)) {
		fig, isFigure := res.Figures[name]
		if !plainTable(name) || isFigure && slices.Contains(ownFiles, name+".json") {
			return fail("reveals", "a result table has a name that is no plain word, or the node's own")
		}
		if err := st.table(ctx, name, res.Tables[name]); err != nil {
			return err
		}
		if !isFigure {
			continue
		}
		if err := st.figure(ctx, name, res.Tables[name], fig); err != nil {
			return err
		}
	}
	if !slices.Contains(c.GetRecipients(), n.cfg.Party) {
		return nil
	}
	return n.draftManifest(st.dir, c, res.Notes, st.files)
}

// staged is a result that is being written: every file is committed to by its
// bytes, and listed.
type staged struct {
	node   *Node
	dir    string
	commit *audit.Committer
	files  []manifestFile
}

// add writes a file and commits to it under a name.
func (s *staged) add(file, as string, write func(io.Writer) error) error {
	path := filepath.Join(s.dir, file)
	if err := s.node.writeFile(path, write); err != nil {
		return err
	}
	sum := sha256.New()
	size, err := commitToFile(s.commit, as, path, sum)
	if err != nil {
		return fmt.Errorf("node: result: %w", err)
	}
	f := manifestFile{Name: file, Bytes: size, SHA256: sum.Sum(nil)}
	f.Table, f.Format, _ = resultName(file)
	s.files = append(s.files, f)
	return nil
}

// encoded adds a file of JSON.
func (s *staged) encoded(file, as string, v any) error {
	b, err := json.Marshal(v) // keys are sorted
	if err != nil {
		return fmt.Errorf("node: result %s: %w", as, err)
	}
	return s.add(file, as, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

func (s *staged) table(ctx context.Context, name string, src table.Source) error {
	return s.add(name+".csv", "table "+name, func(w io.Writer) error { return table.WriteCSV(ctx, w, src) })
}

// figure adds what a table of statistics has beside its CSV file.
func (s *staged) figure(ctx context.Context, name string, src table.Source, fig job.Figure) error {
	if err := figure.Check(src.Schema(), fig); err != nil {
		return err
	}
	err := s.add(name+".json", "table "+name+" json", func(w io.Writer) error { return figure.WriteJSON(ctx, w, src, fig) })
	if err != nil {
		return err
	}
	err = s.add(name+".parquet", "table "+name+" parquet", func(w io.Writer) error { return figure.WriteParquet(ctx, w, src) })
	if err != nil {
		return err
	}
	var svg bytes.Buffer // bounded, see figure.Chart
	fits, err := figure.Chart(ctx, &svg, src, fig)
	if err != nil || !fits {
		return err
	}
	return s.add(name+".svg", "table "+name+" svg", func(w io.Writer) error {
		_, err := w.Write(svg.Bytes())
		return err
	})
}

// commitToFile adds a file as a named piece to a commitment, writes its bytes to
// also, and returns how many they are.
func commitToFile(commit *audit.Committer, name, path string, also io.Writer) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(commit, "%s %d\n", name, info.Size()); err != nil {
		return 0, err
	}
	return io.Copy(io.MultiWriter(commit, also), f)
}

func plainTable(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return false
		}
	}
	return s != ""
}

func (n *Node) writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("node: result: %w", err)
	}
	if err := errors.Join(write(n.disk.result(f)), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("node: result: %w", err)
	}
	return nil
}

// publish completes the manifest of a staged result and makes the result
// readable, atomically. What is published already stays as it is.
func (n *Node) publish(id string, receipt *signv1.Signed, ref audit.Ref) error {
	if _, err := os.Stat(n.published(id)); err == nil {
		return nil
	}
	if err := n.completeManifest(n.staging(id), receipt, ref); err != nil {
		return err
	}
	if err := os.Rename(n.staging(id), n.published(id)); err != nil {
		return fmt.Errorf("node: release: %w", err)
	}
	return nil
}

// discardStaged removes the staged output of a run that failed before its
// receipt was logged.
func (n *Node) discardStaged(a *active, err error) {
	if err == nil || a.rec.Staged {
		return
	}
	if err := os.RemoveAll(n.staging(a.contract.GetJob())); err != nil {
		n.log.Warn("staged output not removed", slog.Any("error", err))
	}
}

// keepOpening stores what an audit needs to open a commitment; it never leaves
// this node by itself.
func (n *Node) keepOpening(id, label string, opening secret.Bytes) error {
	return n.store.Put("opening/"+id+"/"+label, opening.Reveal())
}
