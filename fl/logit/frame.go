package logit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
)

// ErrMessage is wrapped by every error about a message that is malformed or
// not the one that the protocol's order calls for.
var ErrMessage = errors.New("logit: bad message from the peer")

// kind numbers the messages of the protocol page.
type kind byte

const (
	msgShape kind = iota + 1
	msgKey
	msgScoreRequest
	msgScoreResponse
	msgSineRequest
	msgSineResponse
	msgGradientRequest
	msgGradientResponse
	msgStepRequest
	msgStepResponse
	msgCompareRequest
	msgCompareResponse
	msgBit
	msgWeights
	msgHeldOut
	msgCounts
)

var kindNames = [...]string{
	msgShape: "shape", msgKey: "public key",
	msgScoreRequest: "score request", msgScoreResponse: "score response",
	msgSineRequest: "sine request", msgSineResponse: "sine response",
	msgGradientRequest: "gradient request", msgGradientResponse: "gradient response",
	msgStepRequest: "step request", msgStepResponse: "step response",
	msgCompareRequest: "comparison request", msgCompareResponse: "comparison response",
	msgBit: "bit", msgWeights: "weights", msgHeldOut: "held-out scores", msgCounts: "counts",
}

func (k kind) String() string { return kindNames[k] }

// link frames messages: kind, round, number within the kind, payload, and a
// CRC-32C of all that. A message that was reordered, repeated or left out
// meets a header that is not its own. The checksum is no authentication, which
// is the channel's: it stops damage between the two ends of the channel, of
// which a ciphertext would otherwise show nothing and make a wrong model.
type link struct{ ch session.Channel }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (l link) send(ctx context.Context, k kind, round, index int, payload []byte) error {
	if err := l.ch.Send(ctx, sealFrame(k, round, index, payload)); err != nil {
		return fmt.Errorf("logit: send %s %d of round %d: %w", k, index, round, err)
	}
	return nil
}

// recv returns the payload of the one message that may come next.
func (l link) recv(ctx context.Context, k kind, round, index int) ([]byte, error) {
	p, err := l.ch.Recv(ctx)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("logit: wait for %s %d of round %d: %w", k, index, round, err)
	}
	payload, err := openFrame(p, k, round, index)
	if err != nil {
		return nil, fmt.Errorf("%w: want %s %d of round %d: %w", ErrMessage, k, index, round, err)
	}
	return payload, nil
}

func sealFrame(k kind, round, index int, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+16)
	b = append(b, byte(k))
	b = binary.AppendUvarint(b, uint64(round))
	b = binary.AppendUvarint(b, uint64(index))
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func openFrame(p []byte, k kind, round, index int) ([]byte, error) {
	if len(p) < crc32.Size {
		return nil, errors.New("too short")
	}
	p, sum := p[:len(p)-crc32.Size], binary.LittleEndian.Uint32(p[len(p)-crc32.Size:])
	if crc32.Checksum(p, castagnoli) != sum {
		return nil, errors.New("damaged")
	}
	r := wire.NewReader(p)
	got := kind(r.Byte())
	gotRound, gotIndex := r.Uvarint(1<<31), r.Uvarint(1<<31)
	if err := r.Err(); err != nil {
		return nil, err
	}
	if got != k || gotRound != uint64(round) || gotIndex != uint64(index) {
		return nil, errors.New("another came")
	}
	return r.Fixed(r.Len()), nil
}

// badPayload wraps a fault found inside a frame.
func badPayload(k kind, round, index int, err error) error {
	return fmt.Errorf("%w: %s %d of round %d: %w", ErrMessage, k, index, round, err)
}

// shape is what the parties tell each other before training.
type shape struct{ columns, train, held int }

func (s shape) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(s.columns))
	b = binary.AppendUvarint(b, uint64(s.train))
	return binary.AppendUvarint(b, uint64(s.held))
}

func decodeShape(p []byte) (shape, error) {
	r := wire.NewReader(p)
	s := shape{int(r.Uvarint(maxColumns + 1)), int(r.Uvarint(maxRows)), int(r.Uvarint(maxRows))}
	return s, r.Done()
}

// decodeUint64s reads exactly n numbers of eight bytes.
func decodeUint64s(p []byte, n int) ([]uint64, error) {
	if len(p) != 8*n {
		return nil, fmt.Errorf("%d bytes, want %d", len(p), 8*n)
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
	return out, nil
}

func appendUint64s(b []byte, v []uint64) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

func decodeBit(p []byte) (bool, error) {
	if len(p) != 1 || p[0] > 1 {
		return false, errors.New("not a bit")
	}
	return p[0] == 1, nil
}

// duplex runs both directions of a phase at once, so that neither party waits
// with a full window for a peer that does the same. It waits for both.
func duplex(ctx context.Context, out, in func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return out(ctx) })
	g.Go(func() error { return in(ctx) })
	return g.Wait()
}
