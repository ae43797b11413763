package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/yinqiao/yinqiao/internal/secret"
)

// OpeningSize is the size of a commitment's opening.
const OpeningSize = 32

const commitLabel = "yinqiao/commitment/v1"

// ErrOpening is returned for an opening that does not open a commitment.
var ErrOpening = errors.New("audit: the opening does not open this commitment")

// Committer computes a commitment to what is written to it:
//
//	HMAC-SHA256(opening, "yinqiao/commitment/v1" 0x00 len(label) label data)
//
// It hides the data, however small or guessable, while the opening is secret
// (HMAC is a pseudo-random function), and binds to it (two data for one
// commitment are a collision of SHA-256; openings have one fixed size).
type Committer struct {
	mac     hash.Hash // nil for an opening of another size
	opening secret.Bytes
}

// NewCommitter begins a commitment under a fresh opening. A nil random means
// crypto/rand.
func NewCommitter(random io.Reader, label string) (*Committer, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [OpeningSize]byte
	defer clear(b[:])
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("audit: opening: %w", err)
	}
	return Commit(secret.New(b[:]), label), nil
}

// Commit computes a commitment again under its opening of OpeningSize bytes;
// with any other, Write fails and Sum is nil. Never use one opening for two
// commitments.
func Commit(opening secret.Bytes, label string) *Committer {
	if len(opening.Reveal()) != OpeningSize {
		return &Committer{}
	}
	c := &Committer{hmac.New(sha256.New, opening.Reveal()), opening}
	io.WriteString(c.mac, commitLabel)
	c.mac.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(label))))
	io.WriteString(c.mac, label)
	return c
}

// Write implements io.Writer.
func (c *Committer) Write(p []byte) (int, error) {
	if c.mac == nil {
		return 0, fmt.Errorf("audit: an opening has %d bytes", OpeningSize)
	}
	return c.mac.Write(p)
}

// Opening returns the secret that opens the commitment. It stays home until an
// audit.
func (c *Committer) Opening() secret.Bytes { return c.opening }

// Sum returns the commitment to what was written so far.
func (c *Committer) Sum() []byte {
	if c.mac == nil {
		return nil
	}
	return c.mac.Sum(nil)
}

// VerifyOpening checks, in an audit, that commitment is one to data under label.
func VerifyOpening(opening secret.Bytes, label string, data io.Reader, commitment []byte) error {
	c := Commit(opening, label)
	if _, err := io.Copy(c, data); err != nil {
		return fmt.Errorf("audit: opening: %w", err)
	}
	if c.mac == nil || !hmac.Equal(c.Sum(), commitment) {
		return ErrOpening
	}
	return nil
}
