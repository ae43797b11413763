package history

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/scratch"
)

func sampleRelease(seed uint64) Release {
	rng := rand.New(rand.NewPCG(seed, 1))
	rows := people(rng, 50, [3]int{3, 4, 2})
	r := tabulate(fmt.Sprintf("run %d", seed), rows, 12, func(r row) int { return r.attr[0]*4 + r.attr[1] }, []int32{0, 1, 2, 3}, []int32{3, 7, 11}, all(12))
	r.Dims = []Dim{{7, 3}, {8, 4}}
	r.Digest[0], r.Filter[31], r.Parties[1], r.Entity[2] = 9, 5, 6, 7
	r.Views = []View{{3, []uint64{1, 1 << 63}}, {9, nil}}
	for i := range r.Members {
		r.Members[i].Value = rng.Uint32()
	}
	return r
}

func TestReleasesOutliveEncoding(t *testing.T) {
	bare := Release{ID: "x", Cells: 3, Dims: []Dim{{1, 3}}, Members: []Member{{0, 1, 0}, {0, 2, 0}, {1<<64 - 1, 0, 0}}}
	total := Release{ID: "y", Cells: 1, Dims: []Dim{}, Members: []Member{}}
	for _, r := range []Release{sampleRelease(1), bare, total, {ID: "z", Members: []Member{}}} {
		got, err := decode(encode(&r))
		if err != nil || !reflect.DeepEqual(*got, r) {
			t.Errorf("%s: %+v, %v", r.ID, got, err)
		}
	}
	whole := encode(&bare)
	for n := range whole {
		if _, err := decode(whole[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(3) {
		r := sampleRelease(seed)
		f.Add(encode(&r))
	}
	f.Add(encode(&Release{ID: "z"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatalf("decoded what is no release: %v", err)
		}
		again, err := decode(encode(r))
		if err != nil || again.ID != r.ID || len(again.Members) != len(r.Members) {
			t.Fatalf("not the same twice: %v", err)
		}
		if _, err := Compare([]Release{*r}, *again, 10); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeShown(f *testing.F) {
	f.Add([]byte{5}, 3)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 0 || n > 1<<12 {
			return
		}
		if shown, err := decodeShown(b, n); err == nil && !bytes.Equal(encodeShown(shown), b) {
			t.Fatalf("%x became %x", b, encodeShown(shown))
		}
	})
}

func TestSeedIsKept(t *testing.T) {
	files := scratch.Memory()
	first, err := Seed(files, bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil || first[31] != 7 {
		t.Fatalf("%x, %v", first, err)
	}
	again, err := Seed(files, nil)
	if err != nil || again != first {
		t.Errorf("%x, %v", again, err)
	}
	if _, err := Seed(scratch.Memory(), bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("made of too little randomness: %v", err)
	}
	if err := write(files, seedFile, first[:31]); err != nil {
		t.Fatal(err)
	}
	if _, err := Seed(files, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut: %v", err)
	}
	// A new one would make all units of before strangers.
	if err := errors.Join(files.Remove(seedFile), Begin(files, Release{ID: "a"})); err != nil {
		t.Fatal(err)
	}
	if _, err := Seed(files, bytes.NewReader(make([]byte, 32))); !errors.Is(err, ErrDamaged) {
		t.Errorf("lost, beside a release: %v", err)
	}
}

// What was begun counts as released until it is narrowed or abandoned, wherever
// the node stops in between.
func TestBegunCountsAsReleased(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	rows := people(rng, 100, [3]int{2, 2, 2})
	total := func(id string, rows []row) Release { return tabulate(id, rows, 1, func(row) int { return 0 }) }
	held := func(files scratch.Files) bool {
		flags, err := Check(files, total("new", rows[1:]), 10)
		if err != nil {
			t.Fatal(err)
		}
		return flags[0]
	}
	files := scratch.Memory()
	if held(files) {
		t.Error("flagged against nothing")
	}
	if err := Begin(files, total("old", rows)); err != nil {
		t.Fatal(err)
	}
	if !held(files) {
		t.Error("what was begun does not count")
	}
	if err := Amend(files, "old", []bool{true, true}); !errors.Is(err, ErrRelease) {
		t.Errorf("another number of cells: %v", err)
	}
	if err := Amend(files, "other", []bool{true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("amended what was never begun: %v", err)
	}
	if err := Amend(files, "old", []bool{true}); err != nil || !held(files) {
		t.Errorf("shown and not counted, %v", err)
	}
	if err := Amend(files, "old", []bool{false}); err != nil || held(files) {
		t.Errorf("withheld and counted, %v", err)
	}
	// A second attempt is recorded beside the first, and abandoned without it.
	if err := Amend(files, "old", []bool{true}); err != nil {
		t.Fatal(err)
	}
	if err := Begin(files, total("old", rows[:50])); err != nil {
		t.Fatal(err)
	}
	if err := Abandon(files, "old"); err != nil || !held(files) {
		t.Errorf("the first attempt was forgotten, %v", err)
	}
	if err := Abandon(files, "old"); err != nil || held(files) {
		t.Errorf("abandoned and counted, %v", err)
	}
	if err := Abandon(files, "old"); err != nil {
		t.Errorf("abandoned twice: %v", err)
	}
	// What a release that was abandoned has left does not narrow the next.
	if err := write(files, shownName(releasePrefix+"00000000000000000000000000000000.0000"), encodeShown([]bool{false})); err != nil {
		t.Fatal(err)
	}
	if names, _ := files.Names(""); len(names) != 1 {
		t.Errorf("files left: %v", names)
	}
}

// A cell that the mask withholds follows from an earlier total and the cells
// that are shown: seen once the mask is known, and mended by one cell more.
func TestVerifyFindsWhatTheMaskGivesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	rows := people(rng, 200, [3]int{4, 1, 1})
	for i := range rows {
		if rows[i].attr[0] == 3 && i > 20 {
			rows[i].attr[0] = 0
		}
	}
	files := scratch.Memory()
	total := tabulate("total", rows, 1, func(row) int { return 0 })
	total.Dims = []Dim{}
	finer := tabulate("finer", rows, 4, func(r row) int { return r.attr[0] })
	finer.Dims = []Dim{{1, 4}}
	if err := Begin(files, total); err != nil {
		t.Fatal(err)
	}
	if flags, err := Check(files, finer, 10); err != nil || slices.Contains(flags, true) {
		t.Fatalf("%v, %v", flags, err)
	}
	if err := Begin(files, finer); err != nil {
		t.Fatal(err)
	}
	mask := []bool{true, true, true, false}
	flags, err := Verify(files, "finer", mask, 10)
	if err != nil || !slices.Contains(flags, true) {
		t.Fatalf("%v, %v", flags, err)
	}
	for q, f := range flags {
		mask[q] = mask[q] && !f
	}
	after := finer
	after.Shown = mask
	if l := isolate([]Release{total, after}, valuesOf(rows), 10); len(l) > 0 {
		t.Errorf("a sum over %d units still follows", l[0].units)
	}
	if flags, err = Verify(files, "finer", mask, 10); err != nil || slices.Contains(flags, true) {
		t.Errorf("again: %v, %v", flags, err)
	}
	if _, err := Verify(files, "other", mask, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was never begun: %v", err)
	}
}

func TestDamageIsAnError(t *testing.T) {
	files := scratch.Memory()
	r := sampleRelease(1)
	if err := Begin(files, r); err != nil {
		t.Fatal(err)
	}
	name, _, _ := last(files, r.ID)
	for what, b := range map[string][]byte{"empty": {}, "another version": {2}, "cut": encode(&r)[:40], "longer": append(encode(&r), 0)} {
		if err := write(files, name, b); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(files, sampleRelease(2), 10); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := write(files, name, encode(&r)); err != nil {
		t.Fatal(err)
	}
	if err := write(files, shownName(name), []byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(files, sampleRelease(2), 10); !errors.Is(err, ErrDamaged) {
		t.Errorf("shown: %v", err)
	}
}

func TestValidateRefuses(t *testing.T) {
	for what, change := range map[string]func(*Release){
		"no name":             func(r *Release) { r.ID = "" },
		"cell not there":      func(r *Release) { r.Members[3].Cell = 12 },
		"negative cell":       func(r *Release) { r.Members[3].Cell = -1 },
		"units out of order":  func(r *Release) { slices.Reverse(r.Members) },
		"member twice":        func(r *Release) { r.Members[4] = r.Members[3] },
		"margin not there":    func(r *Release) { r.Groups[0] = []int32{12} },
		"margin out of order": func(r *Release) { r.Groups[0] = []int32{1, 0} },
		"shown too short":     func(r *Release) { r.Shown = make([]bool, 3) },
		"other dimensions":    func(r *Release) { r.Dims[0].Size = 4 },
		"no categories":       func(r *Release) { r.Dims[0].Size = 0 },
		"dimension twice":     func(r *Release) { r.Dims = []Dim{{1, 3}, {1, 4}} },
		"huge dimensions":     func(r *Release) { r.Dims = []Dim{{1, 1 << 62}, {2, 1 << 62}} },
		"too many cells":      func(r *Release) { r.Cells = MaxCells + 1 },
	} {
		r := sampleRelease(1)
		change(&r)
		if err := r.Validate(); !errors.Is(err, ErrRelease) {
			t.Errorf("%s: %v", what, err)
		}
		if err := Begin(scratch.Memory(), r); what != "shown too short" && !errors.Is(err, ErrRelease) {
			t.Errorf("%s: Begin: %v", what, err)
		}
		if _, err := Check(scratch.Memory(), r, 10); !errors.Is(err, ErrRelease) {
			t.Errorf("%s: Check: %v", what, err)
		}
	}
	if _, err := Check(scratch.Memory(), sampleRelease(1), 0); !errors.Is(err, ErrRelease) {
		t.Errorf("no minimum: %v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, units := range []int{100_000, 1_000_000} {
		rng := rand.New(rand.NewPCG(1, 1))
		rows := people(rng, units, [3]int{20, 20, 12})
		levels := []int{20, 20, 12}
		files := scratch.Memory()
		for k, by := range [][]int{{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {}, {0}, {1}, {0, 1}} {
			q := question{by: by}
			if k%2 == 1 {
				q.where, q.filter = func(r row) bool { return r.attr[2] != k }, byte(k)
			}
			r := ask(q, rows, levels, fmt.Sprint(k))
			if err := Begin(files, r); err != nil {
				b.Fatal(err)
			}
		}
		now := ask(question{by: []int{0, 1}}, rows, levels, "now")
		b.Run(fmt.Sprintf("%d units, 10 releases", units), func(b *testing.B) {
			for b.Loop() {
				if _, err := Check(files, now, 10); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
