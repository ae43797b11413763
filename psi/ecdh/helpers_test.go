package ecdh

import (
	"crypto/sha256"
	"io"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
)

// What a receiver knows of itself, drawn again from its randomness in the
// order in which begin draws it: order, check, scalar.

func receiverSecrets(t *testing.T, rand io.Reader) (order [seedSize]byte, k *curve25519.Scalar) {
	t.Helper()
	var check [seedSize]byte
	io.ReadFull(rand, order[:])
	io.ReadFull(rand, check[:])
	k, err := curve25519.NewScalar(rand)
	if err != nil {
		t.Fatal(err)
	}
	return order, k
}

// receiverTags returns the tags of the n points that the sender has sent.
func receiverTags(t *testing.T, rand io.Reader, points []byte, n, size int) map[string]bool {
	t.Helper()
	_, k := receiverSecrets(t, rand)
	ps := make([]curve25519.Point, n)
	if err := parsePoints(ps, points); err != nil {
		t.Fatal(err)
	}
	k.Mul(ps, ps)
	tags := make(map[string]bool)
	for i := range ps {
		tags[string(ps[i][:size])] = true
	}
	return tags
}

// receiverOrder returns the receiver's sent order of n rows.
func receiverOrder(rand io.Reader, n int) []int32 {
	var order [seedSize]byte
	io.ReadFull(rand, order[:])
	return permutation(order, n)
}

// digestsOf returns the items as callers with many of them have them.
func digestsOf(xs []string) [][16]byte {
	ds := make([][16]byte, len(xs))
	for i, x := range xs {
		d := sha256.Sum256([]byte(x))
		ds[i] = [16]byte(d[:])
	}
	return ds
}
