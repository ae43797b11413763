package align

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2" //nolint:depguard // for ChaCha8, a cryptographic generator, with a seed of the session's randomness
)

// joined is what the rows of a result come from.
type joined struct {
	*run
	rows int64
	// appended rows without a partner, of the left and of the right.
	appended [2]int64
}

// shape tells the peer what the join needs to know of the own rows, hears what
// it needs of the peer's, and returns the result's shape.
func (r *run) shape(ctx context.Context) (*joined, error) {
	j := &joined{run: r}
	r.theirRows = r.common // one of each key, until more are told of
	if r.matches() {
		j.rows = r.common
	}
	if r.tells() {
		if err := r.exchangeMultiplicities(ctx); err != nil {
			return nil, err
		}
		var err error
		if j.rows, err = r.products(ctx); err != nil {
			return nil, err
		}
	}
	own := r.set.rows - r.commonRows
	if r.appends(r.side) {
		j.appended[r.side] = own
	}
	if !r.receiverOnly {
		if err := r.exchangeUnmatched(ctx, j); err != nil {
			return nil, err
		}
	}
	j.rows += j.appended[0] + j.appended[1]
	if j.rows > maxJoined {
		return nil, tooMany()
	}
	return j, nil
}

func tooMany() error {
	return fmt.Errorf("%w: the join has more than %d rows", ErrSize, maxJoined)
}

// matches says whether rows with a partner are in the result.
func (pl plan) matches() bool { return pl.join != joinDifference }

// exchangeUnmatched tells how many own rows without a partner the result has,
// and hears how many of the peer's.
func (r *run) exchangeUnmatched(ctx context.Context, j *joined) error {
	send := func(ctx context.Context) error {
		if !r.appends(r.side) {
			return nil
		}
		return r.link.SendNumber(ctx, kindUnmatched, j.appended[r.side])
	}
	var theirs int64
	recv := func(ctx context.Context) (err error) {
		if r.appends(1 - r.side) {
			theirs, err = r.link.RecvNumber(ctx, kindUnmatched, MaxRows)
		}
		return err
	}
	if err := both(ctx, send, recv); err != nil {
		return err
	}
	if !r.appends(1 - r.side) {
		return nil
	}
	least := r.saved.peers - r.common
	if theirs < least || !r.multiply && theirs > least {
		return fmt.Errorf("%w: %s has %d rows without a partner, and %d such keys", ErrDisagree, r.link.Peer(), theirs, least)
	}
	j.appended[1-r.side] = theirs
	return r.checkTheirRows(theirs)
}

// checkTheirRows holds the rows that the peer has said it has of common keys,
// with those that it has beside them at the least, to what a side may hold.
func (r *run) checkTheirRows(beside int64) error {
	if r.theirRows+beside > MaxRows {
		return fmt.Errorf("%w: %s tells of more than the %d rows that a side may hold", ErrMessage, r.link.Peer(), MaxRows)
	}
	return nil
}

// exchangeMultiplicities tells how many own rows each common key has, and keeps
// what the peer tells in a file, as it came.
func (r *run) exchangeMultiplicities(ctx context.Context) error {
	w, err := r.files.Create(countsName)
	if err != nil {
		return fmt.Errorf("psi/align: %w", err)
	}
	defer w.Discard()
	send := func(ctx context.Context) error {
		var body []byte
		for rows, err := range matched(ctx, r.files, r.parts, r.set.rows) {
			if err != nil {
				return err
			}
			if body = binary.AppendUvarint(body, uint64(len(rows))); len(body) > multiplicityChunk {
				if err := r.link.Send(ctx, kindMultiplicities, body); err != nil {
					return err
				}
				body = body[:0]
			}
		}
		if len(body) == 0 {
			return nil
		}
		return r.link.Send(ctx, kindMultiplicities, body)
	}
	recv := func(ctx context.Context) error {
		r.theirRows = 0
		for left := r.common; left > 0; {
			body, err := r.link.Recv(ctx, kindMultiplicities)
			if err != nil {
				return err
			}
			n, err := parseMultiplicities(body, left, func(n int64) error {
				r.theirRows += n
				return r.checkTheirRows(r.saved.peers - r.common)
			})
			if err != nil {
				return r.link.Fault(kindMultiplicities, err)
			}
			if _, err := w.Write(body); err != nil {
				return fmt.Errorf("psi/align: %w", err)
			}
			left -= n
		}
		return nil
	}
	if err := both(ctx, send, recv); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return fmt.Errorf("psi/align: %w", err)
	}
	return nil
}

// pairs streams the own rows of each common key with the number of the peer's.
func (r *run) pairs(ctx context.Context) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		var theirs *bufio.Reader
		if r.tells() {
			f, err := r.files.Open(countsName)
			if err != nil {
				yield(pair{}, fmt.Errorf("psi/align: %w", err))
				return
			}
			defer f.Close()
			theirs = bufio.NewReaderSize(f, 1<<16)
		}
		for rows, err := range matched(ctx, r.files, r.parts, r.set.rows) {
			p := pair{rows, 1}
			if err == nil && theirs != nil {
				var n uint64
				if n, err = binary.ReadUvarint(theirs); errors.Is(err, io.EOF) || n > MaxRows {
					err = errDamaged
				}
				p.theirs = int64(n)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

type pair struct {
	rows   []int32
	theirs int64
}

// products counts the rows of all common keys, each with each.
func (r *run) products(ctx context.Context) (total int64, err error) {
	for p, err := range r.pairs(ctx) {
		if err != nil {
			return 0, err
		}
		// Both factors are below 2^31.
		if total += int64(len(p.rows)) * p.theirs; total > maxJoined {
			return 0, tooMany()
		}
	}
	return total, nil
}

// order streams which own row each row of the result is, -1 for none.
func (j *joined) order(ctx context.Context) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		for row, err := range j.matched(ctx) {
			if !yield(row, err) || err != nil {
				return
			}
		}
		for side, n := range j.appended {
			switch {
			case n == 0:
			case side == j.side:
				rows, err := j.unmatched(ctx)
				if err != nil {
					yield(0, err)
					return
				}
				for _, row := range rows {
					if !yield(int64(row), nil) {
						return
					}
				}
			default:
				for range n {
					if !yield(-1, nil) {
						return
					}
				}
			}
		}
	}
}

// matched streams the own rows that have a partner, as often as they have one:
// of each key the first of the left with every one of the right, and so on.
func (j *joined) matched(ctx context.Context) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		if !j.matches() {
			return
		}
		for p, err := range j.pairs(ctx) {
			if err != nil {
				yield(0, err)
				return
			}
			outer, inner := p.theirs, int64(1) // the rows as a whole, and each of them
			if j.side == 0 {
				outer, inner = inner, outer
			}
			for range outer {
				for _, row := range p.rows {
					for range inner {
						if !yield(int64(row), nil) {
							return
						}
					}
				}
			}
		}
	}
}

// unmatched returns the own rows without a partner in a random order, so that
// their place in the result says nothing of their place in the table. It takes 4
// bytes for each, and a bit for every row.
func (r *run) unmatched(ctx context.Context) ([]int32, error) {
	var seed [32]byte
	if err := r.draw(seed[:]); err != nil {
		return nil, err
	}
	has := make([]uint64, r.set.rows/64+1)
	for rows, err := range matched(ctx, r.files, r.parts, r.set.rows) {
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			has[row/64] |= 1 << (row % 64)
		}
	}
	left := make([]int32, 0, r.set.rows-r.commonRows)
	for row := range int32(r.set.rows) {
		if has[row/64]>>(row%64)&1 == 0 {
			left = append(left, row)
		}
	}
	rand.New(rand.NewChaCha8(seed)).Shuffle(len(left), func(i, k int) { left[i], left[k] = left[k], left[i] })
	return left, nil
}
