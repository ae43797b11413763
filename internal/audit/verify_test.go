package audit

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/yinqiao/yinqiao/internal/suite"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// meaningless are the files whose content says nothing about the log: locks,
// and where the driver's cleaning goes on.
var meaningless = []string{lockName, ".state/treeState.lock", ".state/publish.lock", ".state/gcState.lock", ".state/gcState"}

// flipAll flips one bit of every stride-th byte of every file in turn, and
// wants Verify to name the file each time.
func flipAll(t *testing.T, dir string, stride func(size int) int) {
	t.Helper()
	if r := verify(t, dir); !r.OK() {
		t.Fatalf("before any flip: %+v", r.Faults)
	}
	files, flips := 0, 0
	err := walk(dir, func(rel string) error {
		if slices.Contains(meaningless, rel) {
			return nil
		}
		path := filepath.Join(dir, rel)
		whole, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for at := 0; at < len(whole); at += stride(len(whole)) {
			flips++
			bad := bytes.Clone(whole)
			bad[at] ^= 1 << (at % 8)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				return err
			}
			r := verify(t, dir)
			if !slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.File == rel }) {
				t.Errorf("%s, byte %d: not named in %v", rel, at, r.Faults)
			}
		}
		return os.WriteFile(path, whole, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); !r.OK() {
		t.Fatalf("after the flips: %+v", r.Faults)
	}
	t.Logf("%d flips in %d files", flips, files)
}

func TestEveryFlippedByteIsNamed(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, receiptLeaf("j1")) // one by one, so that older partial files are left
	add(t, l, eventLeaf(1))
	add(t, l, recordLeaf("j2"))
	closeLog(t, l)
	flipAll(t, dir, func(int) int { return 3 })
}

func TestFlippedBytesOfFullTilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	fillLog(t, l, 260)
	closeLog(t, l)
	flipAll(t, dir, func(size int) int { return size/7 + 1 })
}

// An auditor may look at a log while the node writes to it.
func TestVerifyWhileRunning(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 6 {
			if _, err := l.Append(context.Background(), eventLeaf(i)); err != nil {
				t.Error(err)
			}
		}
	}()
	for seen := uint64(0); seen < 6; {
		r := verify(t, dir)
		if !r.OK() || r.Size < seen {
			t.Fatalf("after %d entries: %+v", seen, r)
		}
		seen = r.Size
	}
	<-done
}

// Which entry was changed is named, and whether entry or tile was.
func TestVerifyNamesTheEntry(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	for i := range 4 {
		add(t, l, eventLeaf(i))
	}
	closeLog(t, l)
	bundle, tile := "tile/entries/000.p/4", "tile/0/000.p/4"
	edit := func(rel string, f func([]byte) []byte) (undo func()) {
		path := filepath.Join(dir, rel)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	has := func(index int64, file, what string) {
		t.Helper()
		r := verify(t, dir)
		if !slices.ContainsFunc(r.Faults, func(f Fault) bool {
			return f.Index == index && f.File == file && strings.Contains(f.What, what)
		}) {
			t.Errorf("no fault for entry %d in %s with %q: %v", index, file, what, r.Faults)
		}
	}

	undo := edit(bundle, func(b []byte) []byte { return bytes.Replace(b, []byte("number 2"), []byte("number 7"), 1) })
	has(2, bundle, "the entry was changed")
	has(2, bundle, "signature")
	undo()
	undo = edit(tile, func(b []byte) []byte { b[32*3]++; return b })
	has(3, tile, "the tile was changed")
	undo()
	undo = edit(bundle, func(b []byte) []byte { return b[:len(b)-4] })
	has(3, bundle, "the entry is missing")
	undo()

	// Someone who edits entry and tile alike still meets the checkpoint.
	undo1 := edit(bundle, func(b []byte) []byte { return bytes.Replace(b, []byte("number 2"), []byte("number 7"), 1) })
	raws, _, err := readBundle(dir, 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	undo2 := edit(tile, func(b []byte) []byte { copy(b[64:], Digest(raws[2])); return b })
	has(-1, "checkpoint", "the entries do not give")
	undo1()
	undo2()

	if err := os.WriteFile(filepath.Join(dir, "tile/notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	has(-1, "tile/notes.txt", "is no file of a log")
	if err := os.Remove(filepath.Join(dir, "tile/notes.txt")); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); !r.OK() {
		t.Errorf("at the end: %v", r.Faults)
	}
}

func TestVerifyAgainstOtherKeys(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, receiptLeaf("j"))
	add(t, l, eventLeaf(0))
	closeLog(t, l)
	for name, c := range map[string]struct {
		change func(*VerifyConfig)
		fault  Fault
	}{
		"log key":     {func(c *VerifyConfig) { c.LogKey = govKey.Public() }, Fault{-1, "checkpoint", "bad checkpoint"}},
		"log name":    {func(c *VerifyConfig) { c.Party = "zs-gov" }, Fault{-1, "checkpoint", "bad checkpoint"}},
		"unknown key": {func(c *VerifyConfig) { delete(c.PartyKeys, "zs-gov") }, Fault{0, "tile/entries/000.p/2", "no key is known"}},
		"other key":   {func(c *VerifyConfig) { c.PartyKeys["zs-bank"] = govKey.Public() }, Fault{1, "tile/entries/000.p/2", "not the known one"}},
	} {
		cfg := config(dir)
		cfg.PartyKeys = map[string][]byte{"zs-bank": bankKey.Public(), "zs-gov": govKey.Public()}
		c.change(&cfg)
		r, err := Verify(t.Context(), cfg)
		if err != nil || !slices.ContainsFunc(r.Faults, func(f Fault) bool {
			return f.Index == c.fault.Index && f.File == c.fault.File && strings.Contains(f.What, c.fault.What)
		}) {
			t.Errorf("%s: %v, %v", name, err, r.Faults)
		}
	}
	if _, err := Verify(t.Context(), VerifyConfig{Dir: dir, Party: "zs-bank", LogKey: []byte{1}}); err == nil {
		t.Error("a key of one byte was taken")
	}
	if _, err := Verify(t.Context(), config(filepath.Join(dir, "nowhere"))); err == nil {
		t.Error("a folder that is not there was verified")
	}
	if r := verify(t, t.TempDir()); r.OK() {
		t.Error("an empty folder is a whole log")
	}
}

// A checkpoint can be a verified note and still not be the bytes we sign.
func TestCheckpointHasOneForm(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, eventLeaf(0))
	closeLog(t, l)
	raw, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := newVerifier("zs-bank", bankKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseCheckpoint(raw, v); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(raw), "\n")
	sig := lines[len(lines)-2]
	for name, bad := range map[string]string{
		"second signature": string(raw) + sig,
		"foreign signature": string(raw) + "— other " +
			strings.Fields(sig)[2] + "\n",
		"padding bits":  strings.Replace(string(raw), sig, loosenPadding(sig), 1),
		"extension":     strings.Replace(string(raw), "\n\n", "\nmore\n\n", 1),
		"leading zero":  strings.Replace(string(raw), "\n1\n", "\n01\n", 1),
		"cut":           string(raw[:len(raw)-1]),
		"empty":         "",
		"only newlines": "\n\n\n",
	} {
		if bad == string(raw) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := parseCheckpoint([]byte(bad), v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// loosenPadding sets the bits of the last base64 digit that carry nothing.
func loosenPadding(sig string) string {
	s := strings.TrimSuffix(sig, "\n")
	n := len(s) - 2 // the digit before one "="
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	d := strings.IndexByte(digits, s[n])
	return s[:n] + string(digits[d|1]) + s[n+1:] + "\n"
}

func TestVerifyReceipt(t *testing.T) {
	p := payload(receipt("j"))
	bank, gov := bankKey.Sign("zs-bank", suite.ContextReceipt, p), govKey.Sign("zs-gov", suite.ContextReceipt, p)
	with := func(payload []byte, sigs ...*signv1.Signature) *signv1.Signed {
		return &signv1.Signed{Payload: payload, Signatures: sigs}
	}
	absent := receipt("j")
	absent.Absent = []string{"zs-gov"}
	pa := payload(absent)
	third := receipt("j")
	third.Parties = append(third.Parties, &auditv1.PartyRecord{Party: "zs-tax"})
	twice := receipt("j")
	twice.Parties[1].Party = "zs-bank"
	nobody := receipt("j")
	nobody.Absent = []string{"zs-bank", "zs-gov"}
	otherKey := bankKey.Sign("zs-bank", suite.ContextReceipt, p)
	otherKey.PublicKey = govKey.Public()
	unknown := protowire.AppendVarint(protowire.AppendTag(bytes.Clone(p), 99, protowire.VarintType), 1)

	for name, c := range map[string]struct {
		s  *signv1.Signed
		ok bool
	}{
		"both":                 {with(p, bank, gov), true},
		"one absent":           {with(pa, bankKey.Sign("zs-bank", suite.ContextReceipt, pa)), true},
		"nil":                  {nil, false},
		"no signature":         {with(p), false},
		"one missing":          {with(p, bank), false},
		"other order":          {with(p, gov, bank), false},
		"one twice":            {with(p, bank, bank), false},
		"one too many":         {with(p, bank, gov, gov), false},
		"an absent one signed": {with(pa, bankKey.Sign("zs-bank", suite.ContextReceipt, pa), govKey.Sign("zs-gov", suite.ContextReceipt, pa)), false},
		"other context":        {with(p, bankKey.Sign("zs-bank", suite.ContextRecord, p), gov), false},
		"other payload":        {with(payload(receipt("k")), bank, gov), false},
		"wrong key":            {with(p, govKey.Sign("zs-bank", suite.ContextReceipt, p), gov), false},
		"other key beside it":  {with(p, otherKey, gov), false},
		"unknown party":        {with(payload(third), bank, gov, bank), false},
		"a party twice":        {with(payload(twice), bank, bank), false},
		"nobody finished":      {with(payload(nobody)), false},
		"unknown field":        {with(unknown, bankKey.Sign("zs-bank", suite.ContextReceipt, unknown), govKey.Sign("zs-gov", suite.ContextReceipt, unknown)), false},
	} {
		r, err := VerifyReceipt(c.s, keys)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && r.GetJob() != "j" {
			t.Errorf("%s: another receipt", name)
		}
	}
	for name, sigs := range map[string][]*signv1.Signature{
		"one missing": {bank}, "one twice": {bank, bank}, "a third": {bank, gov, govKey.Sign("zs-tax", suite.ContextReceipt, p)},
	} {
		if _, err := Cosigned(p, sigs...); err == nil {
			t.Errorf("cosigned with %s", name)
		}
	}
}

func TestVerifyRecordAndEvent(t *testing.T) {
	rec := recordLeaf("j").GetRecord()
	if r, err := VerifyRecord(rec, keys); err != nil || r.GetJob() != "j" {
		t.Errorf("record: %v", err)
	}
	if _, err := VerifyEvent(rec, keys); err == nil {
		t.Error("a record passed for an event")
	}
	rec.Signatures[0] = bankKey.Sign("zs-gov", suite.ContextRecord, rec.Payload)
	if _, err := VerifyRecord(rec, keys); err == nil {
		t.Error("a record signed by another key")
	}
	ev := eventLeaf(1).GetEvent()
	if _, err := VerifyEvent(ev, keys); err != nil {
		t.Error(err)
	}
	ev.Signatures = append(ev.Signatures, govKey.Sign("zs-gov", suite.ContextEvent, ev.Payload))
	if _, err := VerifyEvent(ev, keys); err == nil {
		t.Error("an event with a second signature")
	}
}

// Whatever stands in a folder, reading it ends in an error or in entries.
func FuzzParse(f *testing.F) {
	raw, err := Encode(receiptLeaf("j"))
	if err != nil {
		f.Fatal(err)
	}
	bundle := append([]byte{byte(len(raw) >> 8), byte(len(raw))}, raw...)
	f.Add(raw)
	f.Add(bundle)
	f.Add(append(bundle, bundle...))
	f.Add([]byte("zs-bank\n1\nAAAA\n\n— zs-bank AAAA\n"))
	v, err := newVerifier("zs-bank", bankKey.Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if leaf, err := Decode(b); err == nil {
			if leaf.GetKind() == nil {
				t.Error("decoded nothing")
			}
			VerifyReceipt(leaf.GetReceipt(), keys)
		}
		if list, err := parseBundle(b, width); err == nil && len(list) != width {
			t.Errorf("a bundle of %d", len(list))
		}
		if _, err := parseCheckpoint(b, v); err == nil {
			t.Error("a checkpoint without the key")
		}
		if r, ok := parseTilePath(string(b)); ok && r.path() != string(b) {
			t.Errorf("%q is no path of %+v", b, r)
		}
	})
}
