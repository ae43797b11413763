package multi

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/parallel"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// secret is what two parties share: AES-128 under keys that nobody else has.
type secret struct {
	share *aeshash.Key // of shares
	tag   *aeshash.Key // of the common items, from the leader to a member
}

// publicSize is the length of a public key in bytes.
const publicSize = 32

// agreeOnSecrets agrees on a secret with each other party, by Diffie-Hellman.
// The two parties' channel is authenticated already; so whoever can read it, such
// as a relay that a third party runs, does still not have the secret. With the
// secret of two members the leader could compare itself with each of them alone.
func (r *run) agreeOnSecrets(ctx context.Context) (map[session.PartyID]*secret, error) {
	var scalar [publicSize]byte
	if _, err := io.ReadFull(r.sess.Rand(), scalar[:]); err != nil {
		return nil, fmt.Errorf("psi/multi: randomness: %w", err)
	}
	own, err := ecdh.X25519().NewPrivateKey(scalar[:])
	clear(scalar[:])
	if err != nil {
		return nil, fmt.Errorf("psi/multi: key: %w", err)
	}
	secrets := make(map[session.PartyID]*secret)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for q, link := range r.links {
		g.Go(func() error {
			theirs, err := exchangeKey(ctx, link, own.PublicKey().Bytes())
			if err != nil {
				return err
			}
			if q != r.params.Leader && r.sess.Self() != r.params.Leader {
				if err := r.confirm(ctx, link); err != nil {
					return err
				}
			}
			s, err := r.derive(own, theirs)
			if err != nil {
				return link.Fault(kindKey, err)
			}
			mu.Lock()
			defer mu.Unlock()
			secrets[q] = s
			return nil
		})
	}
	return secrets, g.Wait()
}

// exchangeKey sends the own public key and returns the peer's.
func exchangeKey(ctx context.Context, link *transcript.Link, own []byte) (theirs []byte, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return link.Send(ctx, kindKey, own) })
	g.Go(func() (err error) {
		if theirs, err = link.Recv(ctx, kindKey); err != nil {
			return err
		}
		return link.Fault(kindKey, protocol.CheckLength(theirs, publicSize, "a key"))
	})
	return theirs, g.Wait()
}

// confirm holds two members, who say no more to each other, to the same bytes:
// with other keys their shares would not cancel out and nothing would seem to be
// common.
func (r *run) confirm(ctx context.Context, link *transcript.Link) error {
	parties := r.sess.Parties()
	if slices.Index(parties, r.sess.Self()) < slices.Index(parties, link.Peer()) {
		if err := link.Send(ctx, kindCheck, nil); err != nil {
			return err
		}
		return link.RecvEmpty(ctx, kindCheck)
	}
	if err := link.RecvEmpty(ctx, kindCheck); err != nil {
		return err
	}
	return link.Send(ctx, kindCheck, nil)
}

// derive makes a secret of the own key and a peer's public one.
func (r *run) derive(own *ecdh.PrivateKey, public []byte) (*secret, error) {
	theirs, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: key: %w", ErrMessage, err)
	}
	point, err := own.ECDH(theirs) // refuses points of low order
	if err != nil {
		return nil, fmt.Errorf("%w: key: %w", ErrMessage, err)
	}
	first, second := own.PublicKey().Bytes(), public
	if bytes.Compare(first, second) > 0 {
		first, second = second, first
	}
	// Keys are different in every session and for every pair: the transcript is
	// the session's, the public keys are the pair's.
	binding := r.sess.Transcript()
	h := sha256.New()
	h.Write([]byte("yinqiao/" + Name + "/pair\x00"))
	h.Write(binding[:])
	h.Write(first)
	h.Write(second)
	h.Write(point)
	d := h.Sum(nil)
	return &secret{
		share: aeshash.New([aeshash.KeySize]byte(d[:aeshash.KeySize])),
		tag:   aeshash.New([aeshash.KeySize]byte(d[aeshash.KeySize:])),
	}, nil
}

// addShares adds the own share of each key to dst. The shares of one key at all
// parties add up to zero: each summand is in those of two.
func (r *run) addShares(dst, keys []gf128.Element) {
	var h [128]gf128.Element
	for len(keys) > 0 {
		n := min(len(h), len(keys))
		for _, s := range r.shared {
			s.share.Hash(h[:n], keys[:n])
			gf128.Add(dst[:n], h[:n])
		}
		dst, keys = dst[n:], keys[n:]
	}
}

// addAllShares is addShares for all own keys.
func (r *run) addAllShares(ctx context.Context, dst []gf128.Element) error {
	return parallel.For(ctx, len(dst), 1<<12, func(lo, hi int) error {
		r.addShares(dst[lo:hi], r.keys[lo:hi])
		return nil
	})
}
