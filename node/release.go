package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/audit"
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
	err = n.stage(ctx, c.GetJob(), out.result, commit)
	waiting()
	if err != nil {
		return err
	}
	if err := n.keepOpening(c.GetJob(), "result", commit.Opening()); err != nil {
		return err
	}
	out.record.ResultCommitment = commit.Sum()
	a.progress("sign the receipt", 0, 0)
	own := &peerv1.FinishRequest{Session: c.GetSession(), Record: out.record, Counts: out.result.Counts, Finished: timestamppb.New(n.now())}
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
	rec.Counts = r.GetCounts()
	rec.Rows = make([]int64, len(rec.Parties))
	for _, p := range r.GetParties() {
		if i := slices.Index(rec.Parties, p.GetParty()); i >= 0 {
			rec.Rows[i] = p.GetRows()
		}
	}
	if err := n.save(rec); err != nil {
		return err
	}
	return n.publish(rec.Job)
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
	if !slices.Contains(a.contract.GetRecipients(), n.cfg.Party) {
		res.Values, res.Tables = nil, nil
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

// stage writes the result where no verb looks, and commits to its bytes.
func (n *Node) stage(ctx context.Context, id string, res job.Result, commit *audit.Committer) error {
	dir := n.staging(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("node: result: %w", err)
	}
	values := res.Values
	if values == nil {
		values = map[string]any{}
	}
	b, err := json.Marshal(values) // keys are sorted
	if err != nil {
		return fmt.Errorf("node: result values: %w", err)
	}
	if err := n.writeFile(filepath.Join(dir, "values.json"), func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}); err != nil {
		return err
	}
	if err := commitTo(commit, "values", b); err != nil {
		return err
	}
	names := make([]string, 0, len(res.Tables))
	for name := range res.Tables {
		if !plainTable(name) {
			return fail("reveals", "a result table has a name that is no plain word")
		}
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		path := filepath.Join(dir, name+".csv")
		if err := n.writeFile(path, func(w io.Writer) error { return table.WriteCSV(ctx, w, res.Tables[name]) }); err != nil {
			return err
		}
		if err := commitToFile(commit, "table "+name, path); err != nil {
			return fmt.Errorf("node: result: %w", err)
		}
	}
	return nil
}

// commitTo adds one named piece to a commitment.
func commitTo(commit *audit.Committer, name string, b []byte) error {
	if _, err := fmt.Fprintf(commit, "%s %d\n", name, len(b)); err != nil {
		return err
	}
	_, err := commit.Write(b)
	return err
}

// commitToFile adds a file as a named piece to a commitment.
func commitToFile(commit *audit.Committer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(commit, "%s %d\n", name, info.Size()); err != nil {
		return err
	}
	_, err = io.Copy(commit, f)
	return err
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

// publish makes a staged result readable, atomically. What is published
// already stays as it is.
func (n *Node) publish(id string) error {
	if _, err := os.Stat(n.published(id)); err == nil {
		return nil
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
