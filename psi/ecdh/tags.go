package ecdh

import (
	"context"
	"fmt"
	"slices"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/psi/tags"
)

// chunkTags is how many tags go into one message.
const chunkTags = 3 * chunkPoints

// tagList holds tags chunk by chunk: it grows with what a peer has sent, not
// with what it has announced.
type tagList struct {
	size   int // bytes a tag
	chunks [][]byte
	n      int
	each   int // tags in every chunk but the last
}

func (t *tagList) add(chunk []byte) {
	n := len(chunk) / t.size
	if t.n == 0 {
		t.each = max(n, 1)
	}
	t.chunks = append(t.chunks, chunk)
	t.n += n
}

// addPoints appends the tags of points, their first bytes.
func (t *tagList) addPoints(points []curve25519.Point) {
	c := make([]byte, 0, len(points)*t.size)
	for i := range points {
		c = append(c, points[i][:t.size]...)
	}
	t.add(c)
}

func (t *tagList) at(i int) []byte {
	return t.chunks[i/t.each][i%t.each*t.size:][:t.size]
}

func (r *run) sendTags(ctx context.Context, theirs *tagList, perm []int32) error {
	body := make([]byte, 0, min(chunkTags, len(perm))*r.tagBytes)
	for chunk := range slices.Chunk(perm, chunkTags) {
		body = body[:0]
		for _, i := range chunk {
			body = append(body, theirs.at(int(i))...)
		}
		if err := r.link.Send(ctx, kindTags, body); err != nil {
			return err
		}
	}
	return nil
}

// recvTags receives the tags of the own rows, in the peer's secret order.
func (r *run) recvTags(ctx context.Context) (*tagList, error) {
	own := &tagList{size: r.tagBytes}
	for at := 0; at < r.rows; at += chunkTags {
		body, err := r.link.Recv(ctx, kindTags)
		if err != nil {
			return nil, err
		}
		if err := messages.CheckLength(body, min(chunkTags, r.rows-at)*r.tagBytes, "tags"); err != nil {
			return nil, err
		}
		own.add(body)
	}
	return own, nil
}

// keys returns the tags as what can be sorted.
func (t *tagList) keys(ctx context.Context) ([]tags.Tag, error) { return sortedKeys(ctx, t.n, t.at) }

// sortedKeys returns the first 12 bytes of n keys, in ascending order and with
// which they are of, on all processors. A shorter key has zeros after it.
func sortedKeys(ctx context.Context, n int, key func(i int) []byte) ([]tags.Tag, error) {
	keys := make([]tags.Tag, n)
	err := parallel.For(ctx, n, chunkPoints, func(lo, hi int) error {
		var b [maxTagBytes]byte
		for i := lo; i < hi; i++ {
			copy(b[:], key(i))
			keys[i] = tags.FromHash(b[:], int32(i))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return keys, tags.Sort(ctx, keys)
}

// refuseRepeated refuses tags of the peer's points that are not distinct.
func (r *run) refuseRepeated(ctx context.Context, theirs *tagList) error {
	keys, err := theirs.keys(ctx)
	if err != nil {
		return err
	}
	for i := 1; i < len(keys); i++ {
		if keys[i].Same(&keys[i-1]) {
			return fmt.Errorf("%w: %s has sent one item twice", ErrDisagree, r.link.Peer())
		}
	}
	return nil
}

// match looks for the own rows, which the sender has returned, among its rows:
// matched[j] is one more than the place of the tag that equals its tag j, or 0.
// Both lists have to be of distinct tags.
func (r *run) match(ctx context.Context, theirs, own *tagList) (matched []int32, count int64, err error) {
	a, err := theirs.keys(ctx)
	if err != nil {
		return nil, 0, err
	}
	b, err := own.keys(ctx)
	if err != nil {
		return nil, 0, err
	}
	matched = make([]int32, len(a))
	at := 0
	for i := range a {
		if i > 0 && a[i].Same(&a[i-1]) {
			return nil, 0, fmt.Errorf("%w: %s has sent one item twice", ErrDisagree, r.link.Peer())
		}
		for at < len(b) && b[at].Before(&a[i]) {
			at++
		}
		if at == len(b) || !b[at].Same(&a[i]) {
			continue
		}
		matched[a[i].Row] = b[at].Row + 1
		count++
		if at++; at < len(b) && b[at].Same(&a[i]) {
			return nil, 0, fmt.Errorf("%w: %s has returned one item twice", ErrDisagree, r.link.Peer())
		}
	}
	return matched, count, nil
}

// refuseDuplicates refuses keys that are not distinct, and says how many are
// there already.
func refuseDuplicates(ctx context.Context, n int, key func(i int) []byte) error {
	keys, err := sortedKeys(ctx, n, key)
	if err != nil {
		return err
	}
	same := func(i, j int) bool { return string(key(int(keys[i].Row))) == string(key(int(keys[j].Row))) }
	duplicates := 0
	for lo := 0; lo < n; {
		hi := lo + 1
		for hi < n && keys[hi].Same(&keys[lo]) {
			// The same first bytes, and most likely the same key.
			for j := lo; j < hi; j++ {
				if same(j, hi) {
					duplicates++
					break
				}
			}
			hi++
		}
		lo = hi
	}
	if duplicates > 0 {
		return fmt.Errorf("%w: %d of %d rows", ErrDuplicates, duplicates, n)
	}
	return nil
}
