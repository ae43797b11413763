package logit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/he"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

func smallWorld(t testing.TB) world {
	a, b, _ := couple(t, 80)
	return newWorld(t, a, b, func(p *Params) {
		p.Terms, p.MaxIterations, p.Tolerance, p.Evaluation = 1, 2, 0.005, EvaluateScores
	})
}

// onMain wraps party i's end of the session's own channel.
func onMain(i int, wrap func(session.Channel) session.Channel) func(sessiontest.Link, session.Channel) session.Channel {
	return func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Label == "" && l.Self == sessiontest.PartyIDs(2)[i] {
			return wrap(ch)
		}
		return ch
	}
}

// gone is a channel whose owner's messages end before message at.
type gone struct {
	session.Channel
	at, sent int
}

func (g *gone) Send(ctx context.Context, p []byte) error {
	if g.sent == g.at {
		if err := g.CloseSend(); err != nil {
			return err
		}
	}
	g.sent++
	if g.sent > g.at {
		return nil
	}
	return g.Channel.Send(ctx, p)
}

// Every message of a run, damaged in every way: the run ends with a typed
// error at the party that received it, and neither party gives a result.
func TestTampering(t *testing.T) {
	w := smallWorld(t)
	for from := range 2 {
		var v sessiontest.View
		honest := w
		honest.net.Wrap = onMain(from, func(ch session.Channel) session.Channel { return sessiontest.Record(ch, &v) })
		honest.ok(t)
		sent := v.Sent()
		if len(sent) < 12 {
			t.Fatalf("only %d messages", len(sent))
		}
		for i, p := range sent {
			// Attacks take turns, so that each kind of message meets several.
			attacks := []struct {
				name   string
				change sessiontest.Change
			}{
				{"flip", sessiontest.Flip(i, 8*len(p)/2+i)},
				{"truncate", sessiontest.Truncate(i, 1+i)},
				{"swap", sessiontest.Swap(i)},
				{"grow", sessiontest.Grow(i, 1<<20)},
				{"repeat", sessiontest.Repeat(i)},
				{"flip the header", sessiontest.Flip(i, i%16)},
				{"empty", sessiontest.Truncate(i, len(p))},
				{"gone", nil},
			}
			for k, a := range attacks {
				last := i == len(sent)-1
				if (i+k)%5 != 0 || a.name == "repeat" && last {
					continue // nothing follows the last message
				}
				if a.name == "swap" && (last || i == 0 || sent[i+1][0] != p[0]) {
					continue // the next is sent after a reply only: the first would be lost
				}
				t.Run(fmt.Sprintf("p%d message %d %s", from, i, a.name), func(t *testing.T) {
					bad := w
					bad.net.Timeout = 10 * time.Second
					bad.net.Wrap = onMain(from, func(ch session.Channel) session.Channel {
						if a.change == nil {
							return &gone{Channel: ch, at: i}
						}
						return sessiontest.Tamper(ch, a.change)
					})
					res, out := bad.run(t)
					victim := out[1-from].Err
					typed := errors.Is(victim, ErrMessage) || errors.Is(victim, session.ErrMismatch) ||
						errors.Is(victim, io.EOF) || errors.Is(victim, io.ErrUnexpectedEOF) ||
						i == 0 && victim != nil // the first frame is session.Bind's
					if !typed {
						t.Errorf("the receiver ended with %v", victim)
					}
					if victim != nil && res[1-from].Values != nil {
						t.Error("an error comes with a result")
					}
				})
			}
		}
	}
}

// A message that never comes: the wait ends with its context.
func TestLostMessageEndsWithContext(t *testing.T) {
	w := smallWorld(t)
	for _, at := range []int{2, 7} {
		w.net.Wrap = onMain(0, func(ch session.Channel) session.Channel { return sessiontest.Tamper(ch, sessiontest.Drop(at)) })
		stop := errors.New("enough")
		part := func(i int) sessiontest.Party {
			return func(ctx context.Context, s *session.Session) error {
				ctx, cancel := context.WithTimeoutCause(ctx, 500*time.Millisecond, stop)
				defer cancel()
				_, err := run(ctx, jobEnv(w, i, s))
				return err
			}
		}
		for i, o := range w.net.Run(t, part(0), part(1)) {
			if o.Err == nil {
				t.Errorf("message %d dropped: p%d ended well", at, i)
			}
		}
	}
}

// Ciphertexts with a right checksum and wrong contents: refused by kind.
func TestForgedPayloads(t *testing.T) {
	w := smallWorld(t)
	var v sessiontest.View
	honest := w
	honest.net.Wrap = onMain(0, func(ch session.Channel) session.Channel { return sessiontest.Record(ch, &v) })
	honest.ok(t)
	forge := func(p []byte, edit func(payload []byte) []byte) []byte {
		body := p[:len(p)-crc32.Size]
		head := 1
		for range 2 {
			_, n := binary.Uvarint(body[head:])
			head += n
		}
		b := append(append([]byte(nil), body[:head]...), edit(append([]byte(nil), body[head:]...))...)
		return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	}
	edits := map[string]func(b []byte) []byte{
		"all ones": func(b []byte) []byte {
			for i := range b {
				b[i] = 0xff
			}
			return b
		},
		"short": func(b []byte) []byte { return b[:len(b)-1] },
		"long":  func(b []byte) []byte { return append(b, 0) },
		"none":  func([]byte) []byte { return nil },
	}
	for i, p := range v.Sent() {
		if i == 0 {
			continue // session.Bind's
		}
		for name, edit := range edits {
			if (i+len(name))%3 != 0 {
				continue
			}
			t.Run(fmt.Sprintf("message %d %s", i, name), func(t *testing.T) {
				bad := w
				bad.net.Wrap = onMain(0, func(ch session.Channel) session.Channel {
					return sessiontest.Tamper(ch, sessiontest.Replace(i, forge(p, edit)))
				})
				_, out := bad.run(t)
				err := out[1].Err
				if kind(p[0]) == msgWeights && err == nil {
					return // any 64 bits are a share of a weight
				}
				if !errors.Is(err, ErrMessage) && !errors.Is(err, ErrShape) && !errors.Is(err, ErrCounts) {
					t.Errorf("%s: %v", kind(p[0]), err)
				}
				if kind(p[0]) == msgScoreRequest && !errors.Is(err, he.ErrFrame) {
					t.Errorf("the cause is lost: %v", err)
				}
			})
		}
	}
}

func jobEnv(w world, i int, s *session.Session) job.Env {
	return job.Env{Spec: w.spec, Session: s, Inputs: []table.Source{w.inputs[i]}, Once: &job.MemoryOnce{}}
}

// Decoders take any bytes.
func FuzzFrame(f *testing.F) {
	f.Add(sealFrame(msgShape, 0, 0, shape{3, 5, 7}.encode()), 3)
	f.Add(sealFrame(msgWeights, 1001, 2, make([]byte, 16)), 2)
	f.Add(sealFrame(msgBit, 5, 0, []byte{1}), 1)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		for k := msgShape; k <= msgCounts; k++ {
			p, err := openFrame(b, k, 1001, 2)
			if err == nil && string(sealFrame(k, 1001, 2, p)) != string(b) {
				t.Error("a frame has two encodings")
			}
		}
		if s, err := decodeShape(b); err == nil {
			if string(s.encode()) != string(b) || s.columns > maxColumns+1 || s.train > maxRows || s.held > maxRows {
				t.Error("a shape out of bounds was accepted")
			}
		}
		if v, err := decodeUint64s(b, max(0, n%1000)); err == nil && string(appendUint64s(nil, v)) != string(b) {
			t.Error("numbers have two encodings")
		}
		if bit, err := decodeBit(b); err == nil && bit != (b[0] == 1) {
			t.Error("a bit is read wrongly")
		}
	})
}

// The two decoders that read from a channel, on any message.
func FuzzFinalMessages(f *testing.F) {
	f.Add(sealFrame(msgHeldOut, 0, 0, make([]byte, 24)))
	f.Add(sealFrame(msgCounts, 0, 0, []byte{1, 2, 3, 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		net := session.NewPipeNetwork(2)
		ids := sessiontest.PartyIDs(2)
		open := func(i int) *session.Session {
			s, err := session.New(t.Context(), session.Config{ID: "fuzz", Self: ids[i], Parties: ids, Open: net.Opener(ids[i])})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		us, them := open(0), open(1)
		_, ch, err := them.Other()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := ch.Send(t.Context(), b); err != nil {
				t.Skip()
			}
		}
		if z, err := recvScores(t.Context(), us, 3); err == nil && len(z) != 3 {
			t.Error("a number of scores that was not asked for")
		}
		counts := map[string]int64{CountCommon: 1, CountTrain: 2, CountTest: 3, CountIterations: 4}
		if err := compareCounts(t.Context(), us, counts); err == nil && string(b) != string(sealFrame(msgCounts, 0, 0, []byte{1, 2, 3, 4})) {
			t.Error("other counts were taken for equal")
		}
	})
}
