package multi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
)

// The messages of the protocol beside those of the vector OLE, in the order of
// the diagram.

// conn carries the messages of the oblivious pseudorandom function.
type conn struct{ link *transcript.Link }

func (c conn) Send(ctx context.Context, body []byte) error { return c.link.Send(ctx, kindVector, body) }

func (c conn) Recv(ctx context.Context) ([]byte, error) { return c.link.Recv(ctx, kindVector) }

// exchangeRows returns the peer's number of rows. Members do not tell each other.
func (r *run) exchangeRows(ctx context.Context, link *transcript.Link) (int, error) {
	n, err := link.Exchange(ctx, kindRows, int64(r.rows), math.MaxInt64)
	if err != nil {
		return 0, err
	}
	rows, err := parseRows(n)
	return rows, link.Fault(kindRows, err)
}

// chunkElements is how many elements go into one message.
const chunkElements = 16_128

// sendStore encodes the share of each own key, under its mask, and sends it. The
// number of messages and their lengths follow from the number of rows.
func (r *run) sendStore(ctx context.Context, link *transcript.Link, masks []gf128.Element) error {
	stream, err := r.stream()
	if err != nil {
		return err
	}
	vector, t, err := okvs.Encode(ctx, stream, r.keys, func(dst, keys []gf128.Element, rows []int32) {
		for i, row := range rows {
			dst[i] = masks[row]
		}
		r.addShares(dst, keys)
	})
	if err != nil {
		return r.fault(err)
	}
	if err := link.Send(ctx, kindStore, t.Seed[:]); err != nil {
		return err
	}
	body := make([]byte, 0, chunkElements*gf128.Size)
	for bin := range slices.Chunk(vector, t.Layout.Stride()) {
		for part := range slices.Chunk(bin, chunkElements) {
			body = gf128.AppendBytes(body[:0], part)
			if err := link.Send(ctx, kindStore, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// recvStore adds what a member's store, of that many rows, holds for each own
// key to dst.
func (r *run) recvStore(ctx context.Context, link *transcript.Link, rows int, dst []gf128.Element) error {
	layout, err := okvs.NewLayout(rows)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSize, err)
	}
	body, err := link.Recv(ctx, kindStore)
	if err != nil {
		return err
	}
	seed, err := parseSeed(body)
	if err != nil {
		return link.Fault(kindStore, err)
	}
	t, err := okvs.Arrange(ctx, layout, seed, r.keys)
	if err != nil {
		return err
	}
	// A few bins at a time, so that memory follows what has come.
	stride := layout.Stride()
	most := min(layout.Bins, 2*runtime.GOMAXPROCS(0))
	var bins []gf128.Element
	for first := 0; first < layout.Bins; first += most {
		n := min(most, layout.Bins-first)
		bins = slices.Grow(bins[:0], n*stride)[:n*stride]
		for bin := range slices.Chunk(bins, stride) {
			for part := range slices.Chunk(bin, chunkElements) {
				body, err := link.Recv(ctx, kindStore)
				if err != nil {
					return err
				}
				if err := parseElements(part, body, "a store"); err != nil {
					return link.Fault(kindStore, err)
				}
			}
		}
		err := parallel.Each(ctx, n, 1, func() func(lo, hi int) error {
			var values []gf128.Element
			return func(i, _ int) error {
				keys, rows := t.Bin(first + i)
				values = slices.Grow(values[:0], len(keys))[:len(keys)]
				t.DecodeBin(first+i, values, bins[i*stride:][:stride])
				for j, row := range rows {
					dst[row] = dst[row].Add(values[j])
				}
				return nil
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// compareKeys orders keys: any order does that is the same at all parties and
// says nothing of a table.
func compareKeys(a, b gf128.Element) int {
	switch {
	case a == b:
		return 0
	case a.Hi < b.Hi || a.Hi == b.Hi && a.Lo < b.Lo:
		return -1
	}
	return 1
}

// sortByKey brings common rows into the order that they have at all parties.
func (r *run) sortByKey(rows []int32) {
	slices.SortFunc(rows, func(i, j int32) int { return compareKeys(r.keys[i], r.keys[j]) })
}

// agreedSize is the length of what two parties compare at the end, in bytes.
const agreedSize = 8 + 16

// agreed is the number of common rows and a digest of their keys in order: the
// parties that compare it know all of them.
func (r *run) agreed(rows []int32) []byte {
	h := sha256.New()
	h.Write([]byte("yinqiao/" + Name + "/agreed\x00"))
	var buf []byte
	for part := range slices.Chunk(rows, 1<<10) {
		buf = buf[:0]
		for _, i := range part {
			buf = gf128.AppendBytes(buf, r.keys[i:i+1])
		}
		h.Write(buf)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(rows)))
	return append(b, h.Sum(nil)[:agreedSize-len(b)]...)
}

// sendCommon tells a member which of its rows are common, by tags that are its
// and the leader's alone.
func (r *run) sendCommon(ctx context.Context, m session.PartyID, rows []int32) error {
	link := r.links[m]
	if err := link.SendNumber(ctx, kindCount, int64(len(rows))); err != nil {
		return err
	}
	tags := make([]gf128.Element, 0, min(chunkElements, len(rows)))
	for part := range slices.Chunk(rows, chunkElements) {
		tags = tags[:len(part)]
		for j, i := range part {
			tags[j] = r.keys[i]
		}
		r.shared[m].tag.Hash(tags, tags)
		if err := link.Send(ctx, kindCommon, gf128.AppendBytes(nil, tags)); err != nil {
			return err
		}
	}
	return nil
}

// recvCommon returns the own rows that are common, in order.
func (r *run) recvCommon(ctx context.Context, link *transcript.Link, leaderRows int) ([]int32, error) {
	body, err := r.recvOrBelow(ctx, link, kindCount)
	if err != nil {
		return nil, err
	}
	count, err := protocol.ParseNumber(body, int64(min(r.rows, leaderRows)))
	if err != nil {
		return nil, link.Fault(kindCount, err)
	}
	tags := make([]gf128.Element, count)
	for part := range slices.Chunk(tags, chunkElements) {
		body, err := link.Recv(ctx, kindCommon)
		if err != nil {
			return nil, err
		}
		if err := parseElements(part, body, "tags"); err != nil {
			return nil, link.Fault(kindCommon, err)
		}
	}
	rows, err := r.find(ctx, tags)
	if err != nil {
		return nil, err
	}
	for k := 1; k < len(rows); k++ {
		if compareKeys(r.keys[rows[k-1]], r.keys[rows[k]]) >= 0 {
			return nil, fmt.Errorf("%w: common rows of %s that are not in order", ErrMessage, link.Peer())
		}
	}
	return rows, nil
}

// find returns the own row of each tag.
func (r *run) find(ctx context.Context, tags []gf128.Element) ([]int32, error) {
	place := make(map[gf128.Element]int32, len(tags))
	for k := range tags {
		place[tags[k]] = int32(k)
	}
	rows := slices.Repeat([]int32{-1}, len(tags))
	var own [128]gf128.Element
	for lo := 0; lo < r.rows; lo += len(own) {
		n := min(len(own), r.rows-lo)
		r.shared[r.params.Leader].tag.Hash(own[:n], r.keys[lo:lo+n])
		for i := range n {
			if k, ok := place[own[i]]; ok {
				rows[k] = int32(lo + i)
			}
		}
		if lo%(1<<20) == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	if slices.Contains(rows, -1) {
		return nil, fmt.Errorf("%w: tags of no row here, or twice the same", ErrDisagree)
	}
	return rows, nil
}

// recvAgreed compares what a member has with what the leader has, or says that
// the member finds it too small.
func (r *run) recvAgreed(ctx context.Context, m session.PartyID, want []byte) (below bool, err error) {
	body, err := r.recvOrBelow(ctx, r.links[m], kindAgreed)
	switch {
	case errors.Is(err, job.ErrMinIntersection):
		return true, nil
	case err != nil:
		return false, err
	}
	if err := protocol.CheckLength(body, agreedSize, "what is agreed"); err != nil {
		return false, r.links[m].Fault(kindAgreed, err)
	}
	if n, ours := binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(want); n != ours {
		return false, fmt.Errorf("%w: %d common rows here, %d at %s", ErrDisagree, ours, n, m)
	}
	if subtle.ConstantTimeCompare(body, want) != 1 {
		return false, fmt.Errorf("%w: other common rows here than at %s", ErrDisagree, m)
	}
	return false, nil
}

// sendBelow tells parties that the count is below a minimum, and returns the
// error with which all end.
func (r *run) sendBelow(ctx context.Context, to []session.PartyID) error {
	for _, p := range to {
		if err := r.links[p].Send(ctx, kindBelow, nil); err != nil {
			return err
		}
	}
	return fmt.Errorf("psi/multi: %w (minimum %d)", job.ErrMinIntersection, r.params.MinIntersection)
}

// recvOrBelow returns the body of the next message of kind k, or
// job.ErrMinIntersection if the peer says that the count is too small.
func (r *run) recvOrBelow(ctx context.Context, link *transcript.Link, k transcript.Kind) ([]byte, error) {
	got, body, err := link.RecvOneOf(ctx, k, kindBelow)
	if err != nil || got == k {
		return body, err
	}
	if err := protocol.CheckLength(body, 0, "below"); err != nil {
		return nil, link.Fault(got, err)
	}
	return nil, fmt.Errorf("psi/multi: %w (said %s)", job.ErrMinIntersection, link.Peer())
}

// recvDone receives the word that all parties have their result.
func (r *run) recvDone(ctx context.Context, link *transcript.Link) error {
	body, err := r.recvOrBelow(ctx, link, kindDone)
	if err != nil {
		return err
	}
	return link.Fault(kindDone, protocol.CheckLength(body, 0, "done"))
}
