// Package history remembers what a node released from an entry, so that a new
// release can be held against it: two tables that are harmless by themselves can
// differ by one unit.
//
// A node looks at its own units only. It knows which of its units are counted in
// which cell of each release, and flags a new cell where combining releases
// would isolate fewer than the minimum of its own units. The sums that were
// opened are over all parties, so what is isolated may be more units than the
// node knows of: it flags too much, never too little for its own units, within
// the limits that docs/disclosure.md states.
//
// Nothing here is constant-time: a node works on its own data.
package history

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/yinqiao/yinqiao/scratch"
)

// Faults of releases and of files.
var (
	// ErrRelease: a release contradicts itself or is beyond the bounds.
	ErrRelease = errors.New("history: not a release")
	// ErrDamaged: a file does not hold what this package writes.
	ErrDamaged = errors.New("history: file is damaged")
	// ErrFull: as many releases are remembered as can be held against.
	ErrFull = errors.New("history: no further release from this entry: as many are remembered as a new one can be held against")
)

// Bounds of a release.
const (
	MaxCells    = 1 << 20 // base cells and groups together
	MaxMembers  = 1 << 26
	maxEntries  = 1 << 24 // base cells of all groups
	maxReleases = 1 << 10
	maxID       = 200
	maxDims     = 6
)

// Member says that a unit is counted in a base cell.
type Member struct {
	// Unit is a hash of the unit under Seed. Two units with the same hash count
	// as one.
	Unit uint64
	Cell int32
	// Value is how many rows the unit has in the cell, modulo 256, in its lowest
	// byte, and above that a hash of what these contribute to the sums; both add up
	// over cells. A unit whose Value has changed counts as one that left and one
	// that came. Of two releases whose Digest is not the same, the number of rows
	// alone is compared. 0 is not told, and never different.
	Value uint32
}

// Release is what one request shows, or would show if no cell were withheld.
type Release struct {
	ID    string
	Cells int // base cells
	// Groups are the margins, each the base cells that it sums over, ascending.
	Groups [][]int32
	// Dims say what the base cells are: all combinations of the categories of
	// some dimensions, the last dimension running fastest. With them, cells of two
	// releases that are about the same are compared whatever the filters are, and
	// a drill-down is known to be one. Nil where that is not told.
	Dims []Dim
	// Filter is a hash of what rows had to satisfy to be counted.
	Filter [32]byte
	// Parties is a hash of whose units were counted, this node's among them. Two
	// releases over those of different parties differ by what some of them have,
	// in every cell, however much or little that is. Zero is not told.
	Parties [32]byte
	// Entity is a hash of what names a unit. Where two releases have units of
	// different kinds, nothing tells by whom they differ. Zero is not told.
	Entity [32]byte
	// Views are what sums within cells stand on, by Key, ascending.
	Views []View
	// Members are sorted by Unit, then Cell. 16 bytes each.
	Members []Member
	Digest  [32]byte // of which numbers Value has a hash of
	// Shown are the base cells and then groups that were released; nil means all.
	Shown []bool
}

// View says of which parts of a cell a number is shown: the edges of a column's
// bins, or the sets of columns of which none is missing where a column is
// summed. Two releases whose parts of the same number are neither those of one
// and more show differences of parts, which may be few units.
type View struct {
	Key uint64   // a hash of the number
	Has []uint64 // hashes of edges or sets, ascending
}

// maxViews bounds views and all that they have, together.
const maxViews = 1 << 20

// clash reports whether there is a number of which two releases show parts that
// only differences relate.
func clash(a, b []View) bool {
	within := func(x, y []uint64) bool {
		return !slices.ContainsFunc(x, func(h uint64) bool { _, ok := slices.BinarySearch(y, h); return !ok })
	}
	for _, v := range a {
		i, ok := slices.BinarySearchFunc(b, v.Key, func(w View, key uint64) int { return cmp.Compare(w.Key, key) })
		if ok && !within(v.Has, b[i].Has) && !within(b[i].Has, v.Has) {
			return true
		}
	}
	return false
}

// Dim is a dimension of a table. Two dimensions with the same Key have the same
// column and the same categories in the same order.
type Dim struct {
	Key  uint64
	Size int // categories
}

// Queries is the number of base cells and groups.
func (r *Release) Queries() int { return r.Cells + len(r.Groups) }

// shown reports whether a base cell or group is released.
func (r *Release) shown(q int) bool { return r.Shown == nil || r.Shown[q] }

// Validate reports what contradicts itself.
func (r *Release) Validate() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrRelease, what) }
	switch {
	case r.ID == "" || len(r.ID) > maxID:
		return bad("no name, or one that is too long")
	case r.Cells < 0 || r.Cells > MaxCells || len(r.Groups) > MaxCells-r.Cells:
		return bad("too many cells")
	case len(r.Members) > MaxMembers:
		return bad("too many units")
	case r.Shown != nil && len(r.Shown) != r.Queries():
		return bad("another number of cells")
	}
	if r.Dims != nil {
		cells := 1
		for i, d := range r.Dims {
			if d.Size < 1 || d.Size > MaxCells/cells || slices.ContainsFunc(r.Dims[:i], func(e Dim) bool { return e.Key == d.Key }) {
				return bad("dimensions that have no or too many categories, or are given twice")
			}
			cells *= d.Size
		}
		if cells != r.Cells || len(r.Dims) > maxDims {
			return bad("dimensions that do not make the cells")
		}
	}
	views := len(r.Views)
	for i, v := range r.Views {
		views += len(v.Has)
		if i > 0 && v.Key <= r.Views[i-1].Key || !slices.IsSorted(v.Has) || views > maxViews {
			return bad("views not in order, or too many")
		}
	}
	entries := 0
	for _, g := range r.Groups {
		for k, c := range g {
			if c < 0 || int(c) >= r.Cells || k > 0 && c <= g[k-1] {
				return bad("a margin over cells that are not there, or not in order")
			}
		}
		if entries += len(g); entries > maxEntries {
			return bad("margins over too many cells")
		}
	}
	for k, m := range r.Members {
		if m.Cell < 0 || int(m.Cell) >= r.Cells {
			return bad("a unit in a cell that is not there")
		}
		if k > 0 && (m.Unit < r.Members[k-1].Unit || m.Unit == r.Members[k-1].Unit && m.Cell <= r.Members[k-1].Cell) {
			return bad("units not in order")
		}
	}
	return nil
}

const seedFile = "seed"

// Seed returns the key under which units of the entry are hashed. It is made
// from rand when it is first asked for, and kept, so that releases over changed
// data can be compared unit by unit. Releases whose key is lost are an error.
func Seed(files scratch.Files, rand io.Reader) ([32]byte, error) {
	var seed [32]byte
	b, err := read(files, seedFile, len(seed))
	if err == nil {
		if len(b) != len(seed) {
			return seed, fmt.Errorf("%w: %s", ErrDamaged, seedFile)
		}
		copy(seed[:], b)
		return seed, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return seed, err
	}
	// Under another key no unit would be one of before.
	switch names, err := files.Names(releasePrefix); {
	case err != nil:
		return seed, fmt.Errorf("history: %w", err)
	case len(names) > 0:
		return seed, fmt.Errorf("%w: there are %d releases, and %s, with which to compare their units, is missing: restore it", ErrDamaged, len(names), seedFile)
	}
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return seed, fmt.Errorf("history: %w", err)
	}
	return seed, write(files, seedFile, seed[:])
}

// Begin records a release before anything of it is opened. From then on it
// counts as released, all of it, whatever becomes of the run. A second release
// with the ID of an earlier one, another attempt at a run, is recorded beside it.
func Begin(files scratch.Files, r Release) error {
	r.Shown = nil
	if err := r.Validate(); err != nil {
		return err
	}
	names, err := files.Names(releasePrefix)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if len(names) >= maxReleases {
		return ErrFull
	}
	_, next, err := last(files, r.ID)
	if err != nil {
		return err
	}
	if err := files.Remove(shownName(next)); err != nil { // of a release that was abandoned
		return fmt.Errorf("history: %w", err)
	}
	return write(files, next, encode(&r))
}

// Amend narrows the last release with this ID to the base cells and groups that
// were released.
func Amend(files scratch.Files, id string, shown []bool) error {
	name, _, err := last(files, id)
	if err != nil {
		return err
	}
	if name == "" {
		return fmt.Errorf("history: %w: no release %q was begun", fs.ErrNotExist, id)
	}
	r, err := load(files, name)
	if err != nil {
		return err
	}
	if len(shown) != r.Queries() {
		return fmt.Errorf("%w: %d cells, the release has %d", ErrRelease, len(shown), r.Queries())
	}
	return write(files, shownName(name), encodeShown(shown))
}

// Abandon removes the last release with this ID, of which nothing was opened. It
// is no error if there is none.
func Abandon(files scratch.Files, id string) error {
	name, _, err := last(files, id)
	if err != nil || name == "" {
		return err
	}
	// In this order, what a crash between leaves counts as released.
	for _, n := range []string{shownName(name), name} {
		if err := files.Remove(n); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return nil
}

// Check returns the new base cells and groups to withhold, given what files
// remember: those that, combined with releases before, would isolate at least
// one and fewer than minUnits units of this node. now.Shown, if it is not nil,
// says which are still to be released.
//
// Time grows with the members of all releases, about 0.06 s per million; memory
// holds those of two releases.
func Check(files scratch.Files, now Release, minUnits int64) ([]bool, error) {
	return check(files, "", now, minUnits)
}

// Verify is Check of the last release with this ID, once it is known which base
// cells and groups are shown: a cell that the mask withholds can follow from
// those that it shows and an earlier release, which the makers of the mask do not
// know. It returns cells to withhold besides, none if all is well. With shown nil,
// all of them are to be, as with Check.
func Verify(files scratch.Files, id string, shown []bool, minUnits int64) ([]bool, error) {
	name, _, err := last(files, id)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, fmt.Errorf("history: %w: no release %q was begun", fs.ErrNotExist, id)
	}
	if names, err := files.Names(releasePrefix); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	} else if len(names) == 1 && shown != nil {
		return make([]bool, len(shown)), nil // the first release of all need not be read
	}
	r, err := load(files, name)
	if err != nil {
		return nil, err
	}
	r.Shown = shown
	return check(files, name, *r, minUnits)
}

// check holds now against all releases but one.
func check(files scratch.Files, but string, now Release, minUnits int64) ([]bool, error) {
	names, err := files.Names(releasePrefix)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if len(names) > maxReleases {
		return nil, ErrFull
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == but })
	if len(names) == 0 { // the first release of all
		return make([]bool, now.Queries()), validate(&now, minUnits)
	}
	c, err := newChecker(&now, minUnits)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		r, err := load(files, name)
		if err != nil {
			return nil, err
		}
		c.past(r)
	}
	return c.flags(), nil
}

// Compare is Check against releases in memory.
func Compare(past []Release, now Release, minUnits int64) ([]bool, error) {
	c, err := newChecker(&now, minUnits)
	if err != nil {
		return nil, err
	}
	for i := range past {
		if err := past[i].Validate(); err != nil {
			return nil, err
		}
		c.past(&past[i])
	}
	return c.flags(), nil
}

// union is the sorted union of ascending lists.
func union(lists ...[]int32) []int32 {
	var u []int32
	for _, l := range lists {
		u = append(u, l...)
	}
	slices.Sort(u)
	return slices.Compact(u)
}
