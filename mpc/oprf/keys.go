package oprf

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/parallel"
)

// DigestSize is the length of a digest in bytes.
const DigestSize = gf128.Size

// keyBlock is how many keys a processor hashes at a time.
const keyBlock = 1 << 11

// Keys returns the keys of n items, each of which is valid until the next is
// asked for: the first 16 bytes of SHA-256 over the transcript, which makes them
// worthless in another session, and the item.
func Keys(ctx context.Context, transcript [32]byte, items iter.Seq[[]byte], n int) ([]gf128.Element, error) {
	if n < 0 || n > MaxKeys {
		return nil, fmt.Errorf("%w: %d, the limit is %d", ErrSize, n, MaxKeys)
	}
	keys := make([]gf128.Element, n)
	// A batch of items is copied and then hashed by all processors.
	const batch = 1 << 14
	var arena []byte
	ends := make([]int, 1, batch+1)
	done := 0
	flush := func() error {
		n := len(ends) - 1
		err := parallel.For(ctx, n, keyBlock, func(lo, hi int) error {
			buf := append(make([]byte, 0, 256), transcript[:]...)
			for i := lo; i < hi; i++ {
				buf = append(buf[:len(transcript)], arena[ends[i]:ends[i+1]]...)
				d := sha256.Sum256(buf)
				keys[done+i] = gf128.FromBytes([DigestSize]byte(d[:DigestSize]))
			}
			return nil
		})
		done += n
		arena, ends = arena[:0], ends[:1]
		return err
	}
	seen := 0
	for item := range items {
		if seen++; seen > n {
			break
		}
		arena = append(arena, item...)
		if ends = append(ends, len(arena)); len(ends) > batch {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if seen != n {
		return nil, fmt.Errorf("%w: %d items were announced and the source has more or fewer", ErrSize, n)
	}
	return keys, flush()
}

// KeysOfDigests returns the keys of items that are pseudorandom already, such
// as the hashes of something with what makes them worthless elsewhere: π(x) + x
// with π AES-128 under a key from the transcript, so that no two sessions have a
// key in common either.
func KeysOfDigests(ctx context.Context, transcript [32]byte, digests [][DigestSize]byte) ([]gf128.Element, error) {
	if len(digests) > MaxKeys {
		return nil, fmt.Errorf("%w: %d, the limit is %d", ErrSize, len(digests), MaxKeys)
	}
	d := sha256.Sum256(append([]byte("yinqiao/"+Version+"/keys\x00"), transcript[:]...))
	h := aeshash.New([aeshash.KeySize]byte(d[:aeshash.KeySize]))
	keys := make([]gf128.Element, len(digests))
	return keys, parallel.For(ctx, len(keys), keyBlock, func(lo, hi int) error {
		for i := lo; i < hi; i++ {
			keys[i] = gf128.FromBytes(digests[i])
		}
		h.Hash(keys[lo:hi], keys[lo:hi])
		return nil
	})
}
