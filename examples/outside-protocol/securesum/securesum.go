// Package securesum computes the sum of one private number per party, or of
// several, by additive secret sharing: shares of a sum are sums of shares (Benaloh,
// Secret Sharing Homomorphisms, CRYPTO '86).
//
//	party i                                   party j
//	x_i = s_i0 + … + s_in   mod 2^64
//	          ──────────── s_ij ───────────▶            one share for each party
//	          ◀─────────── s_ji ────────────
//	t_i = s_0i + s_1i + … + s_ni
//	          ──────────── t_i ────────────▶            its part of the sum
//	          ◀─────────── t_j ─────────────
//	x_0 + x_1 + … = t_0 + t_1 + …
//
// Security: semi-honest parties, information-theoretic given private channels
// and uniform randomness. The shares a party receives are uniform; together
// with the t_j they say the total and nothing else. Any number of parties may
// pool what they saw: they learn the sum of the others' numbers, which the
// total and their own numbers give them anyway. So all but two may collude; a
// single outsider's number is known to all others together by subtraction,
// whatever the protocol.
//
// A party that does not follow the protocol can put in any number it likes,
// and spoil the total unnoticed. It learns no more for it.
//
// Leaks beside the total: the number of parties and of sums, which stand in the
// contract. Nothing here depends on secrets in time or branches.
package securesum

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// Name of the protocol on the wire.
const Name = "example.securesum.v1"

// MinParties is the least number of parties: with two of them each subtracts
// its own number from the total.
const MinParties = 3

var (
	// ErrParties is returned for sessions of fewer than MinParties.
	ErrParties = errors.New("securesum: a sum needs three parties or more")
	// ErrMessage is returned for a message of a peer that is not what is due.
	ErrMessage = errors.New("securesum: malformed message")
	// ErrRange is returned for a number so large that the sum could wrap.
	ErrRange = errors.New("securesum: number too large for this many parties")
)

// Sum returns, at every party, the sums of the parties' own numbers: result k
// is the sum of every own[k]. All parties give the same number of numbers.
func Sum(ctx context.Context, s *session.Session, own []int64) ([]int64, error) {
	parties := s.Parties()
	if len(parties) < MinParties {
		return nil, fmt.Errorf("%w: %d take part", ErrParties, len(parties))
	}
	limit := int64(1) << 62 / int64(len(parties))
	for _, x := range own {
		if x > limit || x < -limit {
			return nil, ErrRange
		}
	}
	if err := s.Bind(ctx, Name, session.Field{Name: "sums", Value: strconv.Itoa(len(own))}); err != nil {
		return nil, err
	}

	// x_i = s_i0 + … + s_in: the peers' shares are random, the own one is what
	// is left.
	rest := make([]uint64, len(own))
	for k, x := range own {
		rest[k] = uint64(x)
	}
	shares := make(map[session.PartyID][]byte, len(parties)-1)
	for _, p := range peers(s) {
		share := make([]byte, 8*len(own))
		if _, err := io.ReadFull(s.Rand(), share); err != nil {
			return nil, fmt.Errorf("securesum: randomness: %w", err)
		}
		for k := range rest {
			rest[k] -= binary.BigEndian.Uint64(share[8*k:])
		}
		shares[p] = share
	}

	// t_i = s_0i + … + s_ni
	if err := exchange(ctx, s, len(own), func(p session.PartyID) []byte { return shares[p] }, rest); err != nil {
		return nil, err
	}
	s.Progress("add shares", 1, 2)

	// total = t_0 + … + t_n
	mine := make([]byte, 0, 8*len(own))
	for _, t := range rest {
		mine = binary.BigEndian.AppendUint64(mine, t)
	}
	if err := exchange(ctx, s, len(own), func(session.PartyID) []byte { return mine }, rest); err != nil {
		return nil, err
	}
	s.Progress("add shares", 2, 2)
	sums := make([]int64, len(own))
	for k := range sums {
		sums[k] = int64(rest[k])
	}
	return sums, nil
}

func peers(s *session.Session) []session.PartyID {
	var ids []session.PartyID
	for _, p := range s.Parties() {
		if p != s.Self() {
			ids = append(ids, p)
		}
	}
	return ids
}

// exchange sends one message to every peer and adds what each of them sends to
// sum. Both directions run at once, so that no window is too small for it.
func exchange(ctx context.Context, s *session.Session, n int, message func(session.PartyID) []byte, sum []uint64) error {
	ids := peers(s)
	received := make([][]byte, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	for i, p := range ids {
		g.Go(func() error { return s.Peer(p).Send(gctx, message(p)) })
		g.Go(func() (err error) {
			if received[i], err = s.Peer(p).Recv(gctx); err != nil {
				return err
			}
			if len(received[i]) != 8*n {
				return fmt.Errorf("%w: %s sent %d bytes, want %d", ErrMessage, p, len(received[i]), 8*n)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, m := range received {
		for k := range sum {
			sum[k] += binary.BigEndian.Uint64(m[8*k:])
		}
	}
	return nil
}
