package tags

import (
	"bytes"
	"context"
	"errors"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"testing"
)

func random(n int, seed uint64) []Tag {
	rng := mrand.New(mrand.NewPCG(seed, 1))
	a := make([]Tag, n)
	for i := range a {
		a[i] = Tag{rng.Uint64(), rng.Uint32(), int32(i)}
	}
	return a
}

func TestFromHash(t *testing.T) {
	h := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
	if got, want := FromHash(h, 7), (Tag{0x0102030405060708, 0x090a0b0c, 7}); got != want {
		t.Errorf("%x", got)
	}
}

func TestSort(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100, 5000, 200_000} {
		a := random(n, uint64(n))
		if n >= 5000 { // equal tags, which then go by row
			for i := range 200 {
				a[2*i].Hi, a[2*i].Lo = a[i].Hi, a[i].Lo
			}
		}
		want := slices.Clone(a)
		slices.SortFunc(want, compare)
		if err := Sort(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a, want) {
			t.Errorf("%d tags are not sorted", n)
		}
	}
	for _, keep := range []uint64{0xff, 0xff << 56, 0, 1 << 51, 0xfff << 52} {
		for _, n := range []int{4095, 4096, 10_000} {
			a := random(n, uint64(n))
			for i := range a {
				a[i].Hi, a[i].Lo = a[i].Hi&keep, a[i].Lo&uint32(keep)
			}
			want := slices.Clone(a)
			slices.SortFunc(want, compare)
			if err := Sort(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(a, want) {
				t.Errorf("%d tags of bits %x are not sorted", n, keep)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Sort(ctx, random(100, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// What no hash looks like: few values, and all bits but the last the same.
	a := random(20_000, 3)
	for i := range a {
		a[i].Hi, a[i].Lo = 0xabc, a[i].Lo%7
	}
	want := slices.Clone(a)
	slices.SortFunc(want, compare)
	if err := SortPart(t.Context(), a, 50); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a, want) {
		t.Error("tags with a common beginning are not sorted")
	}
}

// What is coded, in one piece or several, comes back cut to the form's length.
func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 3, 1000, 70_000} {
		for _, need := range []int{40, 57, 64, 71, 96} {
			f, err := NewForm(need, n)
			if err != nil {
				t.Fatal(err)
			}
			if f.Bits() < need || f.Bits() > MaxBits {
				t.Fatalf("%d tags of %d bits: %d bits", n, need, f.Bits())
			}
			a := random(n, uint64(need))
			for i := range a {
				a[i] = f.Cut(a[i])
			}
			if err := Sort(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			a = slices.CompactFunc(a, func(t, u Tag) bool { return t.Same(&u) })
			pieces := min(4, f.Buckets())
			var got []Tag
			size := 0
			for i := range pieces {
				first, end := f.Buckets()*i/pieces, f.Buckets()*(i+1)/pieces
				in := slices.DeleteFunc(slices.Clone(a), func(t Tag) bool { return f.BucketOf(&t) < first || f.BucketOf(&t) >= end })
				b := f.Append(nil, first, end, in)
				size += len(b)
				total, err := f.Parse(b, first, end, len(in), func(t *Tag) { got = append(got, *t) })
				if err != nil || total != len(in) {
					t.Fatalf("%d of %d tags: %v", total, len(in), err)
				}
			}
			if !slices.EqualFunc(got, a, func(t, u Tag) bool { return t.Same(&u) }) {
				t.Fatalf("%d tags of %d bits are not what went in", n, need)
			}
			if n > 1000 && size > n*(f.Rest+2) {
				t.Errorf("%d tags of %d bits took %d bytes", n, need, size)
			}
		}
	}
	if _, err := NewForm(97, 10); !errors.Is(err, ErrForm) {
		t.Errorf("97 bits: %v", err)
	}
}

// Find finds what a map does, whichever tags are asked for.
func TestFind(t *testing.T) {
	for _, n := range []int{0, 1, 40, 3000} {
		f, err := NewForm(64, n)
		if err != nil {
			t.Fatal(err)
		}
		a := random(2*n+3, 8)
		for i := range a {
			a[i] = f.Cut(a[i])
		}
		held, other := a[:n], a[n:]
		if err := Sort(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		b := f.Append(nil, 0, f.Buckets(), held)
		places := make(map[Tag]int)
		for i, t := range held {
			places[Tag{t.Hi, t.Lo, 0}] = i
		}
		for _, step := range []int{1, 7, 500} {
			var want []Tag
			for i := 0; i < n; i += step {
				want = append(want, held[i])
			}
			want = append(want, other...)
			if err := Sort(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			expected := make(map[int]int)
			for i, t := range want {
				if p, ok := places[Tag{t.Hi, t.Lo, 0}]; ok {
					expected[i] = p
				}
			}
			got := make(map[int]int)
			if err := f.Find(b, 0, f.Buckets(), want, func(i, place int) { got[i] = place }); err != nil || !maps.Equal(got, expected) {
				t.Fatalf("%d of %d tags were found, want %d: %v", len(got), n, len(expected), err)
			}
		}
		if err := f.Find(append(b, 0), 0, f.Buckets(), nil, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("a byte more: %v", err)
		}
	}
	f := Form{2, 1}
	for _, b := range [][]byte{nil, {1, 0, 0}, {0xff, 0xff}, {0, 0, 0, 0x80}} {
		if err := f.Find(b, 0, 4, nil, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	f := Form{1, 2}
	good := []byte{2, 1, 0, 1, 0, 2, 0, 9}
	if n, err := f.Parse(good, 0, 2, 3, func(*Tag) {}); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for name, b := range map[string][]byte{
		"nothing": {}, "a count": {2}, "above the limit": {2, 2, 0, 1, 0, 2, 0, 9, 0, 10}, "short": good[:7], "long": append(slices.Clone(good), 0),
		"equal": {2, 1, 0, 1, 0, 1, 0, 9}, "descending": {2, 1, 0, 2, 0, 1, 0, 9}, "a longer form of a number": {0x82, 0, 1, 0, 1, 0, 2, 0, 9},
	} {
		if _, err := f.Parse(b, 0, 2, 3, func(*Tag) {}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is accepted is coded to the same bytes again, ascends and lies where it
// says.
func FuzzParse(f *testing.F) {
	f.Add([]byte{2, 1, 0, 1, 0, 2, 0, 9}, uint8(1), uint8(2), uint16(0), uint16(3))
	f.Add([]byte{0}, uint8(0), uint8(9), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, bucket, rest uint8, first, limit uint16) {
		form := Form{int(bucket) % 17, 1 + int(rest)%10}
		from := int(first) % form.Buckets()
		end := min(form.Buckets(), from+1+int(bucket)/17)
		var got []Tag
		n, err := form.Parse(b, from, end, int(limit), func(t *Tag) { got = append(got, *t) })
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if n > int(limit) || n != len(got) {
			t.Fatalf("%d tags, %d of them handed on, limit %d", n, len(got), limit)
		}
		for i := range got {
			if c := form.Cut(got[i]); form.Bits() <= MaxBits && !c.Same(&got[i]) {
				t.Fatalf("tag %d has bits past its length", i)
			}
			if at := form.BucketOf(&got[i]); at < from || at >= end || i > 0 && !got[i-1].Before(&got[i]) {
				t.Fatalf("tag %d in bucket %d", i, at)
			}
		}
		places := 0
		if err := form.Find(b, from, end, got, func(i, place int) {
			if i != place {
				t.Fatalf("tag %d was found at %d", i, place)
			}
			places++
		}); err != nil || places != n {
			t.Fatalf("%d of %d tags were found: %v", places, n, err)
		}
		if again := form.Append(nil, from, end, got); form.Bits() <= MaxBits && !bytes.Equal(again, b) {
			t.Fatalf("%x was read as %x", b, again)
		}
	})
}

func BenchmarkSort(b *testing.B) {
	const n = 1 << 20
	a, c := random(n, 1), make([]Tag, n)
	for b.Loop() {
		copy(c, a)
		if err := Sort(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/tag")
}
