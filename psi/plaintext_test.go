package psi_test

import (
	"slices"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// plaintext runs a kind on people and holds the result to them.
func plaintext(t *testing.T, k kind, p people, ps params, caches []scratch.Files) rowSet {
	t.Helper()
	r := k.trial(ps, p.tables()...)
	r.caches = caches
	rows := slices.Max(p.rows)
	r.net.Timeout = time.Minute + time.Duration(rows)*time.Millisecond
	if rows > 1<<18 {
		r.files = disks(t, len(r.roles))
		r.net.Connect = sessiontest.Pipes(16)
	}
	u := begin(t)
	results, out := r.run(t)
	sessiontest.NoErrors(t, out)
	set := p.check(t, results)
	u.log(t, rows, out)
	return set
}

// sameAsMap holds tables small enough to a hash table, too.
func sameAsMap(t *testing.T, p people, set rowSet) {
	t.Helper()
	want := inTheClear(t, p.tables())
	if int64(len(want)) != p.common {
		t.Fatalf("the tables have %d rows in common, not %d", len(want), p.common)
	}
	if set != nil && !slices.Equal(set, want) {
		t.Fatalf("a row set of %d rows is not the one in the clear", len(set))
	}
}

// Every kind equals the plaintext at every overlap.
func TestPlaintext(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			// What the server of an unbalanced kind prepares for the first, it
			// takes up for the others: p0 has the same table in all.
			caches := []scratch.Files{scratch.Memory(), scratch.Memory(), scratch.Memory()}
			for _, o := range overlaps {
				t.Run(o.name, func(t *testing.T) {
					p := k.peopleOf(o, 10_000, 10_000)
					sameAsMap(t, p, plaintext(t, k, p, nil, caches))
				})
			}
		})
	}
}
