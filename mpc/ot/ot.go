// Package ot is oblivious transfer: a few transfers with public-key operations,
// extended to as many as wanted with AES.
//
// [NewSender] and [NewReceiver] do the public-key part once. What they return
// makes, for each further message of the receiver,
//
//   - Random: the sender gets pairs of random elements, the receiver the one of
//     each pair that its choice bit names;
//   - Products: the receiver gets m for its y, the sender w = m + Δ·y, all in
//     GF(2^128), with Δ the sender's and fixed.
//
// In the order of messages, with n transfers and 128 base transfers:
//
//	sender (Δ)                                receiver
//	                       A            ◀──   A_i = a·G_i
//	key pairs for ¬Δ       P₀, P₁       ──▶   two keys for each bit of Δ
//	all leaves but one     trees        ◀──   32 trees of 16 leaves
//	                       corrections  ◀──   n choices, or y
//
// The base transfers are those of Even, Goldreich and Lempel (1985) with public
// keys that can be sampled without the secret key, on X-only Curve25519. The
// extension is SoftSpokenOT (Roy, CRYPTO 2022, https://eprint.iacr.org/2022/192)
// with k = 4: a quarter of IKNP's bytes.
//
// Security: both parties semi-honest. A receiver that does not follow the
// protocol can learn both elements of a pair. Config.Malicious is the mode that
// holds against that: endemic base transfers (Masny and Rindal,
// https://eprint.iacr.org/2019/706) and SoftSpokenOT's two checks; a receiver can
// then guess groups of Δ, and is found where it is wrong.
//
// Decisional Diffie-Hellman in Curve25519, and SHA-512 and SHA-256 as random
// oracles, for the base transfers; AES-128 as a pseudorandom function
// under secret seeds and as an ideal permutation under public keys, with TMMO
// (Guo, Katz, Wang, Yu, https://eprint.iacr.org/2019/074, section 7.4) as the
// tweakable correlation-robust hash. The page is docs/protocols/ot.md.
//
// Time and memory addresses do not depend on Δ, on choices or on outputs.
package ot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/yinqiao/yinqiao/mpc/aeshash"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
)

// Faults that end a run, besides those of the Conn.
var (
	ErrMessage = errors.New("ot: malformed message")
	ErrSize    = errors.New("ot: number of transfers not supported")
	ErrPoint   = curve25519.ErrPoint
	// ErrCheat: a check of Config.Malicious failed.
	ErrCheat = errors.New("ot: the peer does not follow the protocol")
)

// Conn carries messages, in order and whole; a session.Channel is one. The
// protocol whose messages they are notices one that was lost or changed.
type Conn interface {
	Send(ctx context.Context, p []byte) error
	Recv(ctx context.Context) ([]byte, error)
}

// Config is what both parties agree on, but for Rand.
type Config struct {
	// Binding ties keys and hashes to one run of one protocol, such as a hash of
	// its transcript. The same binding is not used twice.
	Binding [32]byte
	// Instances is how many senders with a Δ of their own are made at once, from
	// base transfers of their own. 0 means 1; at most 8.
	Instances int
	// Malicious adds what holds against a peer that does not follow the protocol.
	// Both parties have it, or neither: messages differ in length.
	Malicious bool
	// Rand is the source of all randomness.
	Rand io.Reader
}

const maxInstances = 8

func (c Config) instances() (int, error) {
	switch {
	case c.Rand == nil:
		return 0, errors.New("ot: no source of randomness")
	case c.Instances < 0 || c.Instances > maxInstances:
		return 0, fmt.Errorf("ot: %d instances, allowed are 1 to %d", c.Instances, maxInstances)
	}
	return max(c.Instances, 1), nil
}

// derive returns a key for one use under the binding.
func (c Config) derive(use string, instance int) [aeshash.KeySize]byte {
	h := sha256.New()
	h.Write([]byte("yinqiao/ot/v1\x00"))
	h.Write(c.Binding[:])
	h.Write([]byte{byte(instance)})
	h.Write([]byte(use))
	return [aeshash.KeySize]byte(h.Sum(nil))
}

// recv returns a message of exactly n bytes.
func recv(ctx context.Context, c Conn, what string, n int) ([]byte, error) {
	p, err := c.Recv(ctx)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("ot: wait for %s: %w", what, err)
	}
	if len(p) != n {
		return nil, fmt.Errorf("%w: %s of %d bytes, %d were due", ErrMessage, what, len(p), n)
	}
	return p, nil
}

func send(ctx context.Context, c Conn, what string, p []byte) error {
	if err := c.Send(ctx, p); err != nil {
		return fmt.Errorf("ot: send %s: %w", what, err)
	}
	return nil
}
