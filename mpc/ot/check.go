package ot

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/yinqiao/yinqiao/mpc/gf128"
)

// What SoftSpokenOT adds against a receiver that does not follow the protocol
// (ePrint 2022/192): a check that the trees are trees, and one that the
// corrections of all groups are for the same bits.

// The trees. Each leaf is hashed to the seed that is used and to a witness.
// The receiver sends the sum of a tree's witnesses and a hash of all of them; the
// sender, which lacks one, gets that from the sum, and the hash has to be right.
// A leaf that differs from the receiver's is found but where it is the missing
// one: so the receiver learns that its guess of a group of Δ was right, or the
// run ends.
const (
	witnessSize = sha256.Size
	// checkedTreeBytes is what follows the sums of an instance's trees.
	checkedTreeBytes = groups * 2 * witnessSize
)

func (c Config) treeBytes() int {
	if c.Malicious {
		return treeBytes + checkedTreeBytes
	}
	return treeBytes
}

type witness [witnessSize]byte

func (w *witness) add(v *witness) { subtle.XORBytes(w[:], w[:], v[:]) }

// split returns the seed and the witness of a leaf of group g.
func (c Config) split(instance, g int, leaf gf128.Element) (seed gf128.Element, w witness) {
	b := append(make([]byte, 0, 96), "yinqiao/ot/v1/leaf\x00"...)
	b = append(b, c.Binding[:]...)
	raw := leaf.Bytes()
	b = append(b, byte(instance), byte(g))
	b = append(b, raw[:]...)
	d := sha256.Sum256(append(b, 0))
	return gf128.FromBytes([gf128.Size]byte(d[:])), sha256.Sum256(append(b, 1))
}

// proveTrees replaces leaves by seeds and returns what sealTrees checks.
func (c Config) proveTrees(instance int, seeds []gf128.Element) []byte {
	msg := make([]byte, 0, checkedTreeBytes)
	for g := range groups {
		var sum, w witness
		h := sha256.New()
		for x := range leaves {
			i := g*leaves + x
			seeds[i], w = c.split(instance, g, seeds[i])
			sum.add(&w)
			h.Write(w[:])
		}
		msg = h.Sum(append(msg, sum[:]...))
	}
	return msg
}

// checkTrees replaces leaves by seeds. In each group leaf x is in place x + δ,
// and place 0 has none.
func (c Config) checkTrees(instance int, seeds []gf128.Element, delta gf128.Element, msg []byte) error {
	good := 1
	for g := range groups {
		said := msg[g*2*witnessSize:][:2*witnessSize]
		var places [leaves]witness
		places[0] = witness(said)
		for p := 1; p < leaves; p++ {
			i := g*leaves + p
			seeds[i], places[p] = c.split(instance, g, seeds[i])
			places[0].add(&places[p])
		}
		path := uint64(0)
		for b := range groupBits {
			path |= delta.Bit(g*groupBits+b) << b
		}
		h := sha256.New()
		for x := range leaves {
			var w witness
			for p := range places { // all are read, so that addresses say nothing
				subtle.ConstantTimeCopy(int(equal(uint64(p), uint64(x)^path)), w[:], places[p][:])
			}
			h.Write(w[:])
		}
		good &= subtle.ConstantTimeCompare(h.Sum(nil), said[witnessSize:])
	}
	if good != 1 {
		return fmt.Errorf("%w: trees that are none", ErrCheat)
	}
	return nil
}

// recorder hashes the messages of the setup, each direction apart, because the
// first of both may cross.
type recorder struct {
	Conn
	out, in hash.Hash
}

func newRecorder(c Conn) *recorder { return &recorder{c, sha256.New(), sha256.New()} }

func (r *recorder) Send(ctx context.Context, p []byte) error {
	r.out.Write(p)
	return r.Conn.Send(ctx, p)
}

func (r *recorder) Recv(ctx context.Context) ([]byte, error) {
	p, err := r.Conn.Recv(ctx)
	r.in.Write(p)
	return p, err
}

// checker makes the challenges of one instance's corrections. A nil one is that
// of semi-honest parties: nothing is added to a message and nothing checked.
type checker struct {
	key  [32]byte
	done uint64 // messages
	rand io.Reader
}

// checker binds challenges to all messages of the setup.
func (c Config) checker(instance int, sender, receiver hash.Hash) *checker {
	use := c.derive("corrections", instance)
	h := sha256.New()
	h.Write([]byte("yinqiao/ot/v1/check\x00"))
	h.Write(c.Binding[:])
	h.Write(use[:])
	h.Write(sender.Sum(nil))
	h.Write(receiver.Sum(nil))
	return &checker{key: [32]byte(h.Sum(nil)), rand: c.Rand}
}

// The corrections. A message is for whole elements, followed by one more of
// random bits. With challenges χ from a hash of the message, each column is
// folded to mask + Σ_t χ_t·element t; the receiver sends the folds of y and of its
// columns v, and the sender's have to be v_j + Δ_j·y. The last element hides the
// fold of y. Corrections for other bits in one group pass with probability
// 2^-128, but where the bits of Δ that differ are guessed.
const proofBytes = (1 + deltaBits) * gf128.Size

// proofSize is what the check appends to a message of corrections.
func (k *checker) proofSize() int {
	if k == nil {
		return 0
	}
	return proofBytes
}

// width returns how many bytes of each stream are used for n bytes of bits.
func (k *checker) width(n int) int {
	if k == nil {
		return n
	}
	return (n+gf128.Size-1)/gf128.Size*gf128.Size + gf128.Size
}

// widen returns y, padded and followed by the random element.
func (k *checker) widen(y []byte) ([]byte, error) {
	if k == nil {
		return y, nil
	}
	wide := make([]byte, k.width(len(y)))
	copy(wide, y)
	if _, err := io.ReadFull(k.rand, wide[len(wide)-gf128.Size:]); err != nil {
		return nil, fmt.Errorf("ot: draw a mask: %w", err)
	}
	return wide, nil
}

// challenges returns n elements for a message of corrections.
func (k *checker) challenges(corrections []byte, n int) []gf128.Element {
	body := sha256.Sum256(corrections)
	h := sha256.New()
	h.Write(k.key[:])
	h.Write(binary.LittleEndian.AppendUint64(nil, k.done))
	h.Write(body[:])
	k.done++
	block, err := aes.NewCipher(h.Sum(nil)[:16])
	if err != nil {
		panic("ot: AES-128 refused a key of 16 bytes: " + err.Error()) // cannot happen
	}
	raw := make([]byte, n*gf128.Size)
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(raw, raw)
	chi := make([]gf128.Element, n)
	gf128.Load(chi, raw)
	return chi
}

// folds returns the fold of each of the columns, which are of equal length.
func folds(chi []gf128.Element, columns ...[]byte) []gf128.Element {
	out, col := make([]gf128.Element, len(columns)), make([]gf128.Element, len(chi)+1)
	for j, c := range columns {
		gf128.Load(col, c)
		sum := col[len(chi)]
		for t := range chi {
			sum = sum.Add(chi[t].Mul(col[t]))
		}
		out[j] = sum
	}
	return out
}

func (c columns) all() [][]byte {
	cs := make([][]byte, deltaBits)
	for j := range cs {
		cs[j] = c.at(j)
	}
	return cs
}

// prove appends the proof for the bits y to a message of corrections.
func (k *checker) prove(cols columns, msg, y []byte) []byte {
	if k == nil {
		return msg
	}
	chi := k.challenges(msg, len(y)/gf128.Size-1)
	return gf128.AppendBytes(msg, folds(chi, append([][]byte{y}, cols.all()...)...))
}

// verify checks a proof.
func (k *checker) verify(cols columns, delta gf128.Element, msg, proof []byte) error {
	if k == nil {
		return nil
	}
	said := make([]gf128.Element, 1+deltaBits)
	gf128.Load(said, proof)
	chi := k.challenges(msg, cols.size/gf128.Size-1)
	var wrong gf128.Element
	for j, w := range folds(chi, cols.all()...) {
		d := w.Add(said[1+j]).Add(scale(delta.Bit(j), said[0]))
		wrong.Lo, wrong.Hi = wrong.Lo|d.Lo, wrong.Hi|d.Hi
	}
	if !wrong.IsZero() {
		return fmt.Errorf("%w: corrections for different bits", ErrCheat)
	}
	return nil
}
