package ecdh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// randomTags returns n distinct tags of size bytes, in chunks.
func randomTags(t testing.TB, seed byte, n, size int) *tagList {
	t.Helper()
	s := newStream([seedSize]byte{seed}, uint64(size))
	seen := map[string]bool{}
	tags := &tagList{size: size}
	const each = 777
	for tags.n < n {
		chunk := make([]byte, min(each, n-tags.n)*size)
		for at := 0; at < len(chunk); at += size {
			for {
				if s.Read(chunk[at:][:size]); !seen[string(chunk[at:][:size])] {
					break
				}
			}
			seen[string(chunk[at:][:size])] = true
		}
		tags.add(chunk)
	}
	return tags
}

// aRun is enough of one for what is local.
func aRun(t testing.TB) *run {
	ch, _ := session.Pipe(1)
	return &run{link: messages.Link(ch, "peer", true)}
}

func TestMatchAgainstMap(t *testing.T) {
	r := aRun(t)
	for _, c := range []struct{ n, m, common, size int }{
		{0, 0, 0, 5},
		{1, 0, 0, 5},
		{0, 1, 0, 5},
		{1, 1, 1, 5},
		{3, 2, 1, 6},
		{1000, 1000, 500, 8},
		{5000, 3000, 3000, 10},
		{100, 30_000, 50, 11},
		{30_000, 20_000, 7000, 12},
	} {
		theirs, own := randomTags(t, 1, c.n, c.size), randomTags(t, 2, c.m, c.size)
		for i := range c.common { // places that are spread over both
			copy(own.at(i*7919%c.m), theirs.at(i*104_729%c.n))
		}
		want := map[string]int32{}
		for i := range own.n {
			want[string(own.at(i))] = int32(i) + 1
		}
		if len(want) != own.n {
			t.Fatalf("%+v: the case repeats a tag", c)
		}
		matched, count, err := r.match(t.Context(), theirs, own)
		if err != nil {
			t.Fatal(err)
		}
		found := int64(0)
		for j := range theirs.n {
			if matched[j] != want[string(theirs.at(j))] {
				t.Fatalf("%+v: row %d matches place %d, want %d", c, j, matched[j], want[string(theirs.at(j))])
			}
			if matched[j] != 0 {
				found++
			}
		}
		if count != found || int(count) != c.common || len(matched) != theirs.n {
			t.Errorf("%+v: counted %d, found %d", c, count, found)
		}
	}
}

func TestRepeatedTagsAreFound(t *testing.T) {
	r := aRun(t)
	for _, n := range []int{2, 50, 20_000} {
		tags, other := randomTags(t, 3, n, 10), randomTags(t, 3, n, 10)
		if err := r.refuseRepeated(t.Context(), tags); err != nil {
			t.Errorf("%d distinct tags: %v", n, err)
		}
		copy(tags.at(n-1), tags.at(n/3))
		if err := r.refuseRepeated(t.Context(), tags); !errors.Is(err, ErrDisagree) {
			t.Errorf("%d tags, the last again: %v", n, err)
		}
		if _, _, err := r.match(t.Context(), tags, other); !errors.Is(err, ErrDisagree) {
			t.Errorf("%d tags, the last again, of the peer: %v", n, err)
		}
		if _, _, err := r.match(t.Context(), other, tags); !errors.Is(err, ErrDisagree) {
			t.Errorf("%d tags, the last again, returned: %v", n, err)
		}
		for i := range tags.n { // all the same
			copy(tags.at(i), tags.at(0))
		}
		if err := r.refuseRepeated(t.Context(), tags); !errors.Is(err, ErrDisagree) {
			t.Errorf("%d equal tags: %v", n, err)
		}
	}
}

func TestDuplicatesAreCounted(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1000, 40_000} {
		keys := make([][16]byte, n)
		seen := map[[16]byte]bool{}
		s := newStream([seedSize]byte{4}, 0)
		want := 0
		for i := range keys {
			s.Read(keys[i][:])
			switch {
			case i%7 == 3:
				keys[i] = keys[i/2] // an earlier one again
			case i%7 == 5:
				keys[i] = keys[i/2] // and one that only begins like it
				binary.LittleEndian.PutUint32(keys[i][12:], uint32(i))
			}
			if seen[keys[i]] {
				want++
			}
			seen[keys[i]] = true
		}
		err := refuseDuplicates(t.Context(), n, func(i int) []byte { return keys[i][:] })
		if want == 0 && err != nil || want > 0 && (!errors.Is(err, ErrDuplicates) || !strings.Contains(err.Error(), fmt.Sprintf(" %d of %d ", want, n))) {
			t.Errorf("%d keys, %d duplicates: %v", n, want, err)
		}
	}
}

func TestKeysHoldAllOfATag(t *testing.T) {
	for size := minTagBytes; size <= maxTagBytes; size++ {
		for i := range size {
			two := &tagList{size: size}
			two.add(bytes.Repeat([]byte{0xa5}, 2*size))
			two.at(1)[i] ^= 1
			if err := aRun(t).refuseRepeated(t.Context(), two); err != nil {
				t.Errorf("byte %d of %d does not count: %v", i, size, err)
			}
		}
	}
}

// The tags of points are their first bytes, whatever the size.
func TestTagsOfPoints(t *testing.T) {
	points := make([]curve25519.Point, 2*chunkPoints+3)
	for i := range points {
		binary.BigEndian.PutUint32(points[i][:], uint32(i))
		points[i][4] = byte(i)
	}
	for _, size := range []int{5, 12} {
		tags := &tagList{size: size}
		for chunk := range slices.Chunk(points, chunkPoints) {
			tags.addPoints(chunk)
		}
		for i := range points {
			if !bytes.Equal(tags.at(i), points[i][:size]) {
				t.Fatalf("tag %d of %d bytes is %x", i, size, tags.at(i))
			}
		}
	}
}

// A whole run where one set is much larger than the other.
func TestSkewWithLongTags(t *testing.T) {
	many, few := psitest.Shuffled(psitest.Number(0, 3000), 10), []string{"id-000001", "zzz", "id-002999"}
	checkIdeal(t, many, few, intersect(t, sessiontest.Net{}, many, few, Params{TagBytes: 12}))
	checkIdeal(t, few, many, intersect(t, sessiontest.Net{}, few, many, Params{TagBytes: 12}))
}
