package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/suite"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	// The process-wide logger behind the driver never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

func testKey(b byte) *suite.Key {
	k, err := suite.NewKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

var (
	bankKey = testKey(1)
	govKey  = testKey(2)
	keys    = map[string][]byte{"zs-bank": bankKey.Public(), "zs-gov": govKey.Public()}
)

func payload(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func receipt(job string) *auditv1.Receipt {
	return &auditv1.Receipt{
		Job: job, Session: "s-" + job, Kind: "psi.ecdh.v1",
		Parties: []*auditv1.PartyRecord{{Party: "zs-bank", Role: "receiver", Rows: 7}, {Party: "zs-gov", Role: "sender", Rows: 9}},
		Counts:  map[string]int64{"common": 5, "a": 1, "b": 2},
	}
}

func receiptLeaf(job string) *auditv1.Leaf {
	p := payload(receipt(job))
	s, err := Cosigned(p, govKey.Sign("zs-gov", suite.ContextReceipt, p), bankKey.Sign("zs-bank", suite.ContextReceipt, p))
	if err != nil {
		panic(err)
	}
	return &auditv1.Leaf{Kind: &auditv1.Leaf_Receipt{Receipt: s}}
}

func recordLeaf(job string) *auditv1.Leaf {
	p := payload(&auditv1.Record{Party: "zs-gov", Job: job, State: "failed", Class: "peer_gone"})
	return &auditv1.Leaf{Kind: &auditv1.Leaf_Record{Record: govKey.Seal("zs-gov", suite.ContextRecord, p)}}
}

func eventLeaf(n int) *auditv1.Leaf {
	p := payload(&auditv1.Event{Party: "zs-bank", Category: "refusal", Rule: "max_runs", Detail: fmt.Sprint("number ", n)})
	return &auditv1.Leaf{Kind: &auditv1.Leaf_Event{Event: bankKey.Seal("zs-bank", suite.ContextEvent, p)}}
}

func openLog(t testing.TB, dir string) *Log {
	t.Helper()
	l, err := Open(t.Context(), Config{Dir: dir, Party: "zs-bank", Key: bankKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, l) })
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func add(t testing.TB, l *Log, leaf *auditv1.Leaf) Ref {
	t.Helper()
	ref, err := l.Append(t.Context(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// fillLog appends n events at once.
func fillLog(t testing.TB, l *Log, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := l.Append(context.Background(), eventLeaf(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func config(dir string) VerifyConfig {
	return VerifyConfig{Dir: dir, Party: "zs-bank", LogKey: bankKey.Public(), PartyKeys: keys}
}

func verify(t testing.TB, dir string) Report {
	t.Helper()
	r, err := Verify(t.Context(), config(dir))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAppendReadVerify(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	if n, err := l.Size(t.Context()); err != nil || n != 0 {
		t.Fatalf("new log: %d, %v", n, err)
	}
	if r := verify(t, dir); !r.OK() || r.Size != 0 {
		t.Fatalf("empty log: %+v", r)
	}
	leaves := []*auditv1.Leaf{eventLeaf(0), receiptLeaf("j1"), recordLeaf("j2")}
	for i, leaf := range leaves {
		ref := add(t, l, leaf)
		raw, err := Encode(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if ref.Index != uint64(i) || !bytes.Equal(ref.Digest, Digest(raw)) {
			t.Errorf("leaf %d at %d", i, ref.Index)
		}
		// Published when Append returns, so that an output may be released.
		if n, err := l.Size(t.Context()); err != nil || n != uint64(i+1) {
			t.Errorf("after leaf %d: size %d, %v", i, n, err)
		}
		if in, err := VerifyInclusion(t.Context(), config(dir), ref.Digest); err != nil || in.Index != ref.Index {
			t.Errorf("inclusion of leaf %d: %+v, %v", i, in, err)
		}
	}
	got, err := l.Read(t.Context(), 1, 10)
	if err != nil || len(got) != 2 {
		t.Fatalf("read %d entries, %v", len(got), err)
	}
	for i, e := range got {
		if e.Index != uint64(i+1) || !proto.Equal(e.Leaf, leaves[i+1]) {
			t.Errorf("entry %d is another", e.Index)
		}
	}
	for _, c := range []struct {
		from  uint64
		limit int
	}{{3, 10}, {1 << 40, 1}, {0, 0}, {0, -1}} {
		if got, err := l.Read(t.Context(), c.from, c.limit); err != nil || len(got) != 0 {
			t.Errorf("read(%d, %d): %d entries, %v", c.from, c.limit, len(got), err)
		}
	}
	r := verify(t, dir)
	if !r.OK() || r.Size != 3 || r.Receipts != 1 || r.Records != 1 || r.Events != 1 {
		t.Errorf("%+v", r)
	}
}

// Two parties that log the same co-signed receipt find the same digest.
func TestSameReceiptSameDigest(t *testing.T) {
	p := payload(receipt("j"))
	a, b := bankKey.Sign("zs-bank", suite.ContextReceipt, p), govKey.Sign("zs-gov", suite.ContextReceipt, p)
	one, err1 := Cosigned(p, a, b)
	two, err2 := Cosigned(p, b, a)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	var digests [][]byte
	for i, s := range []*signv1.Signed{one, two} {
		l, err := Open(t.Context(), Config{Dir: t.TempDir(), Party: []string{"zs-bank", "zs-gov"}[i], Key: []*suite.Key{bankKey, govKey}[i]})
		if err != nil {
			t.Fatal(err)
		}
		ref := add(t, l, &auditv1.Leaf{Kind: &auditv1.Leaf_Receipt{Receipt: s}})
		digests = append(digests, ref.Digest)
		closeLog(t, l)
	}
	if !bytes.Equal(digests[0], digests[1]) {
		t.Error("the digests differ")
	}
}

func TestDuplicatesKeepTheirPlace(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	refs := make([]Ref, 12)
	var wg sync.WaitGroup
	for i := range refs {
		wg.Go(func() {
			var err error
			if refs[i], err = l.Append(context.Background(), eventLeaf(i%3)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	l = openLog(t, dir)
	for i := range refs {
		if refs[i].Index != refs[i%3].Index {
			t.Errorf("append %d went to %d, the same bytes to %d", i, refs[i].Index, refs[i%3].Index)
		}
		if again := add(t, l, eventLeaf(i%3)); again.Index != refs[i].Index {
			t.Errorf("after reopening, %d instead of %d", again.Index, refs[i].Index)
		}
	}
	if n, err := l.Size(t.Context()); err != nil || n != 3 {
		t.Errorf("%d entries (%v) for 3 leaves", n, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	unknown := protowire.AppendTag(nil, 99, protowire.VarintType)
	unknown = protowire.AppendVarint(unknown, 1)
	odd := eventLeaf(0)
	odd.GetEvent().Payload = append(odd.GetEvent().Payload, unknown...)
	big := eventLeaf(0)
	big.GetEvent().Payload = payload(&auditv1.Event{Detail: strings.Repeat("x", MaxLeaf)})
	for name, c := range map[string]struct {
		leaf *auditv1.Leaf
		err  error
	}{
		"nil":            {nil, ErrLeaf},
		"no kind":        {&auditv1.Leaf{}, ErrLeaf},
		"unknown fields": {odd, ErrLeaf},
		"no encoding":    {&auditv1.Leaf{Kind: &auditv1.Leaf_Event{Event: &signv1.Signed{Payload: []byte{0xff}}}}, ErrLeaf},
		"too large":      {big, ErrTooLarge},
	} {
		if _, err := l.Append(t.Context(), c.leaf); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, eventLeaf(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := l.Read(ctx, 0, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("read, cancelled: %v", err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir, Party: "zs-bank", Key: bankKey}); !errors.Is(err, ErrLocked) {
		t.Errorf("second opener: %v", err)
	}
	closeLog(t, l)
	if _, err := l.Append(t.Context(), eventLeaf(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	for _, party := range []string{"", "a b", "a+b", "a\nb"} {
		if _, err := Open(t.Context(), Config{Dir: t.TempDir(), Party: party, Key: bankKey}); err == nil {
			t.Errorf("party %q can name a log", party)
		}
	}
	if _, err := Open(t.Context(), Config{Dir: dir, Party: "zs-bank", Key: govKey}); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another key: %v", err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir, Party: "zs-gov", Key: bankKey}); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another party: %v", err)
	}
}

func TestCloseWaitsForAppends(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	raw, err := Encode(eventLeaf(5))
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.start(raw, Digest(raw))
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	select {
	case <-p.done:
	default:
		t.Fatal("closed before the append was done")
	}
	if r := verify(t, dir); p.err != nil || !r.OK() || r.Size != 1 {
		t.Errorf("%v, %+v", p.err, r)
	}
	l = openLog(t, t.TempDir())
	if _, err := l.start(raw, Digest(raw)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closing without time: %v", err)
	}
	closeLog(t, l) // the rest of it
}

// A log of more than a full tile, with old partial files about, verifies, reads
// and proves.
func TestFullTiles(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	first := add(t, l, eventLeaf(0))
	fillLog(t, l, 300)
	last := add(t, l, receiptLeaf("after"))
	if last.Index != 300 {
		t.Fatalf("last entry at %d", last.Index)
	}
	got, err := l.Read(t.Context(), 250, 20)
	if err != nil || len(got) != 20 || got[0].Index != 250 || got[19].Index != 269 {
		t.Errorf("read over the seam: %d entries, %v", len(got), err)
	}
	closeLog(t, l)
	if r := verify(t, dir); !r.OK() || r.Size != 301 || r.Events != 300 {
		t.Errorf("%+v", r)
	}
	for _, ref := range []Ref{first, last, {Index: 260, Digest: got[10].Digest}} {
		in, err := VerifyInclusion(t.Context(), config(dir), ref.Digest)
		if err != nil || in.Index != ref.Index || in.Size != 301 {
			t.Errorf("inclusion of %d: %+v, %v", ref.Index, in, err)
		}
	}
	if _, err := VerifyInclusion(t.Context(), config(dir), make([]byte, 32)); !errors.Is(err, ErrNotLogged) {
		t.Errorf("a digest that is not logged: %v", err)
	}
	c := config(dir)
	c.LogKey = govKey.Public()
	if _, err := VerifyInclusion(t.Context(), c, first.Digest); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another log key: %v", err)
	}
	l = openLog(t, dir)
	if again := add(t, l, receiptLeaf("after")); again.Index != 300 {
		t.Errorf("a duplicate after reopening went to %d", again.Index)
	}
	if next := add(t, l, recordLeaf("more")); next.Index != 301 {
		t.Errorf("the next entry went to %d", next.Index)
	}
}

func TestStopsAfterAFailedWrite(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	// A file where the driver wants a folder stops even root.
	if err := os.WriteFile(filepath.Join(dir, "tile"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), eventLeaf(0)); err == nil || errors.Is(err, ErrFailed) {
		t.Fatalf("the failed write: %v", err)
	}
	if _, err := l.Append(t.Context(), eventLeaf(1)); !errors.Is(err, ErrFailed) {
		t.Errorf("after it: %v", err)
	}
	closeLog(t, l)
	if err := os.Remove(filepath.Join(dir, "tile")); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	if ref := add(t, l, eventLeaf(1)); ref.Index != 0 {
		t.Errorf("after reopening: index %d", ref.Index)
	}
}

func BenchmarkAppend(b *testing.B) {
	l := openLog(b, b.TempDir())
	for i := range b.N {
		add(b, l, eventLeaf(i))
	}
}
