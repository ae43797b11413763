package secagg

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
)

// kind says what a message is.
type kind byte

const (
	kindDeal kind = 1 + iota
	kindReady
	kindRoster
	kindInput
	kindHeld
	kindSurvivors
	kindEcho
	kindReveal
)

var kindNames = [...]string{
	kindDeal: "deal", kindReady: "ready", kindRoster: "roster", kindInput: "input", kindHeld: "held",
	kindSurvivors: "survivors", kindEcho: "echo", kindReveal: "reveal",
}

func (k kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return "message of an unknown kind"
	}
	return kindNames[k]
}

const (
	digestSize = 16
	// headerSize is that of kind, number in its direction, and step.
	headerSize = 1 + 4 + tagSize
	tagSize    = 8
)

// domain begins every hash of this package.
const domain = "yinqiao/secagg.v1/"

// errFrame is wrapped by what the decoders below return.
var errFrame = errors.New("malformed message")

func putHeader(b []byte, k kind, number uint32, tag *[sha256.Size]byte) {
	b[0] = byte(k)
	binary.LittleEndian.PutUint32(b[1:], number)
	copy(b[5:headerSize], tag[:tagSize])
}

// parseHeader returns the body of a message that has to be of this kind,
// number and step.
func parseHeader(b []byte, k kind, number uint32, tag *[sha256.Size]byte) ([]byte, error) {
	r := wire.NewReader(b)
	gotKind, gotNumber, gotTag := kind(r.Byte()), r.Fixed(4), r.Fixed(tagSize)
	switch {
	case r.Err() != nil:
		return nil, fmt.Errorf("%w: no header in %d bytes", errFrame, len(b))
	case binary.LittleEndian.Uint32(gotNumber) != number:
		return nil, fmt.Errorf("%w: message out of order or repeated: a %s numbered %d, want %d", errFrame, gotKind, binary.LittleEndian.Uint32(gotNumber), number)
	case gotKind == kindSurvivors && k != kindSurvivors:
		return nil, fmt.Errorf("%w: %w: a further set in place of a %s", errFrame, ErrSurvivors, k)
	case gotKind != k:
		return nil, fmt.Errorf("%w: a %s, want a %s", errFrame, gotKind, k)
	case [tagSize]byte(gotTag) != [tagSize]byte(tag[:tagSize]):
		return nil, fmt.Errorf("%w: a %s of another step, shape or list of receivers", errFrame, k)
	}
	return r.Fixed(r.Len()), nil
}

// shareKind is what a share belongs to.
type shareKind int

const (
	ofSeed shareKind = iota // the seed of the dealer's self-mask
	ofKey                   // the dealer's private key, and so its pairwise masks
)

// deal is what a contributor announces to all in a step, and the two shares
// that it gives to the contributor who reads it.
type deal struct {
	key         [curve25519.Size]byte // public key
	seedDigest  [sha256.Size]byte
	shareDigest [2][][digestSize]byte // of the shares of each contributor
	digest      [digestSize]byte      // of all of the above
	shares      [2][secretSize]byte
}

func dealSize(n int, withShares bool) int {
	size := curve25519.Size + sha256.Size + 2*n*digestSize
	if withShares {
		size += 2 * secretSize
	}
	return size
}

// appendPublic appends what the dealer tells everybody.
func (d *deal) appendPublic(b []byte) []byte {
	b = append(b, d.key[:]...)
	b = append(b, d.seedDigest[:]...)
	for _, k := range d.shareDigest {
		for i := range k {
			b = append(b, k[i][:]...)
		}
	}
	return b
}

// seal sets the digest, of what dealer tells everybody.
func (d *deal) seal(tag *[sha256.Size]byte, dealer int) {
	h := sha256.New()
	h.Write([]byte(domain + "deal\x00"))
	h.Write(tag[:])
	h.Write([]byte{byte(dealer)})
	h.Write(d.appendPublic(nil))
	copy(d.digest[:], h.Sum(nil))
}

func parseDeal(body []byte, n int, withShares bool) (*deal, error) {
	if want := dealSize(n, withShares); len(body) != want {
		return nil, fmt.Errorf("%w: a deal of %d bytes, want %d", errFrame, len(body), want)
	}
	r := wire.NewReader(body)
	d := &deal{key: [32]byte(r.Fixed(curve25519.Size)), seedDigest: [sha256.Size]byte(r.Fixed(sha256.Size))}
	for k := range d.shareDigest {
		d.shareDigest[k] = make([][digestSize]byte, n)
		for i := range d.shareDigest[k] {
			d.shareDigest[k][i] = [digestSize]byte(r.Fixed(digestSize))
		}
	}
	if withShares {
		for k := range d.shares {
			d.shares[k] = [secretSize]byte(r.Fixed(secretSize))
		}
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return d, checkKey(&d.key)
}

// checkKey refuses encodings that are not canonical. Points of low order are
// refused where a secret is agreed on; which of the curve and its twist a point
// is on does not matter to X25519.
func checkKey(key *[curve25519.Size]byte) error {
	w0, w1 := binary.LittleEndian.Uint64(key[0:]), binary.LittleEndian.Uint64(key[8:])
	w2, w3 := binary.LittleEndian.Uint64(key[16:]), binary.LittleEndian.Uint64(key[24:])
	const top = 1<<63 - 1
	if w3 > top || w3 == top && w2&w1 == ^uint64(0) && w0 >= ^uint64(18) {
		return fmt.Errorf("%w: a public key that is not encoded canonically", errFrame)
	}
	return nil
}

// appendSets encodes one or two sets of contributors.
func appendSets(b []byte, sets ...set) []byte {
	for _, s := range sets {
		b = binary.LittleEndian.AppendUint64(b, uint64(s))
	}
	return b
}

// parseSets reads sets of contributors, all within candidates, from the whole
// of body.
func parseSets(body []byte, candidates set, sets ...*set) error {
	if len(body) != 8*len(sets) {
		return fmt.Errorf("%w: sets of contributors in %d bytes, want %d", errFrame, len(body), 8*len(sets))
	}
	r := wire.NewReader(body)
	for _, s := range sets {
		if *s = set(r.Uint64()); !s.within(candidates) {
			return fmt.Errorf("%w: a set names a party that cannot be in it", errFrame)
		}
	}
	return r.Done()
}

// echo is what a contributor says it was told and holds: the sets, and a digest
// of what each member of the roster dealt.
type echo struct {
	roster, survivors set
	digests           [][digestSize]byte // of the roster's members in order
}

func (e *echo) append(b []byte) []byte {
	b = appendSets(b, e.roster, e.survivors)
	for i := range e.digests {
		b = append(b, e.digests[i][:]...)
	}
	return b
}

func parseEcho(body []byte, candidates set) (*echo, error) {
	if len(body) < 16 {
		return nil, fmt.Errorf("%w: an echo of %d bytes", errFrame, len(body))
	}
	e := &echo{}
	if err := parseSets(body[:16], candidates, &e.roster, &e.survivors); err != nil {
		return nil, err
	}
	if want := 16 + digestSize*e.roster.size(); len(body) != want {
		return nil, fmt.Errorf("%w: an echo of %d bytes, want %d", errFrame, len(body), want)
	}
	r := wire.NewReader(body[16:])
	for range e.roster.size() {
		e.digests = append(e.digests, [digestSize]byte(r.Fixed(digestSize)))
	}
	return e, r.Done()
}

// reveal is a contributor's shares: for each member of the roster in order that
// of the seed, if it is a survivor, or that of the key.
type reveal struct {
	agreed [digestSize]byte // of what all survivors echoed
	shares [][secretSize]byte
}

func (v *reveal) append(b []byte) []byte {
	b = append(b, v.agreed[:]...)
	for i := range v.shares {
		b = append(b, v.shares[i][:]...)
	}
	return b
}

func parseReveal(body []byte, members int) (*reveal, error) {
	if want := digestSize + secretSize*members; len(body) != want {
		return nil, fmt.Errorf("%w: %d bytes of shares, want %d", errFrame, len(body), want)
	}
	r := wire.NewReader(body)
	v := &reveal{agreed: [digestSize]byte(r.Fixed(digestSize))}
	for range members {
		v.shares = append(v.shares, [secretSize]byte(r.Fixed(secretSize)))
	}
	return v, r.Done()
}
