package tbgv

import (
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/he/ringq"
)

func isZero(t *testing.T, what string, rows ringq.Poly) {
	t.Helper()
	for _, row := range rows {
		if slices.Max(row) != 0 {
			t.Fatalf("%s survives", what)
		}
	}
}

// TestWipe: nothing of a secret is left.
func TestWipe(t *testing.T) {
	rnd := testRand(t, 0)
	s := must(New(Params{Set: Sum32, Parties: 2, Threshold: 2, Openings: 1}))(t)
	sk, _, err := s.GenerateKey(rnd, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	rows := sk.rows
	sk.Wipe()
	isZero(t, "a secret", rows)
	_, err = sk.Share()
	refuse(t, "a wiped secret", err, ErrUsed)
}

// TestWipePieces: nor of what was dealt of it, and no share of a key comes of
// zeros.
func TestWipePieces(t *testing.T) {
	rnd := testRand(t, 0)
	s := must(New(Params{Set: Sum32, Parties: 3, Threshold: 2, Openings: 1}))(t)
	sk, _, err := s.GenerateKey(rnd, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	pieces := must(s.Deal(rnd, sk, 0))(t)
	for _, p := range pieces {
		p.Wipe()
		isZero(t, "a piece", p.rows)
		if p.seed != [seedSize]byte{} {
			t.Fatal("a seed survives")
		}
	}
	sk.Wipe()
	all := make([]*Piece, 3)
	for i := range all {
		all[i] = &Piece{s: s, from: i, piece: pieces[0].piece}
	}
	_, err = s.Collect(sk, 0, all)
	refuse(t, "collecting with a wiped secret", err, ErrInput)
}
