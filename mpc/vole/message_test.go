package vole

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/mpc/ot"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// typed says whether err is one that a caller can tell apart.
func typed(err error) bool {
	for _, target := range []error{
		ErrMessage, ErrSize, ErrDisagree, ErrPoint, ErrCheat, ot.ErrMessage, errIdle, session.ErrMismatch, session.ErrTooLarge, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

var errIdle = errors.New("idle for too long")

// tampered runs both roles for n elements with a deadline, party's messages
// being changed.
func tampered(t testing.TB, party session.PartyID, change sessiontest.Change, idle time.Duration, n int) (r result) {
	t.Helper()
	return tamperedWith(t, Params{}, party, change, idle, n)
}

func tamperedWith(t testing.TB, p Params, party session.PartyID, change sessiontest.Change, idle time.Duration, n int) (r result) {
	t.Helper()
	net := sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
		if l.Self == party {
			return sessiontest.Tamper(ch, change)
		}
		return ch
	}}
	r.out = net.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			ctx, stop := context.WithTimeoutCause(ctx, idle, errIdle)
			defer stop()
			r.delta, r.b, err = Send(ctx, s, n, p)
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			ctx, stop := context.WithTimeoutCause(ctx, idle, errIdle)
			defer stop()
			r.a, r.c, err = Receive(ctx, s, n, p)
			return err
		})
	return r
}

// Every message of either side, changed in every way: the run ends, somebody
// reports a typed error, and the receiver has no result.
func TestTampering(t *testing.T) {
	const n = 5
	attacks := map[string]func(at int) sessiontest.Change{
		"flip the number":   func(at int) sessiontest.Change { return sessiontest.Flip(at, 1) },
		"flip the body":     func(at int) sessiontest.Change { return sessiontest.Flip(at, 11) },
		"flip further in":   func(at int) sessiontest.Change { return sessiontest.Flip(at, 8*1000+3) },
		"flip the last bit": flipLast,
		"drop":              sessiontest.Drop,
		"swap":              sessiontest.Swap,
		"repeat":            sessiontest.Repeat,
		"cut a byte":        func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1) },
		"cut everything":    func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1<<22) },
		"add a byte":        func(at int) sessiontest.Change { return sessiontest.Grow(at, 1) },
		"add 4 MiB":         func(at int) sessiontest.Change { return sessiontest.Grow(at, session.MaxMessage) },
		"empty":             func(at int) sessiontest.Change { return sessiontest.Replace(at, nil) },
	}
	clean := tampered(t, "", nil, time.Hour, n)
	sessiontest.NoErrors(t, clean.out)
	clean.check(t, n)
	for i, party := range []session.PartyID{"p0", "p1"} {
		messages := int(clean.out[i].Traffic.MessagesSent)
		for name, attack := range attacks {
			for at := range messages {
				// When a message is lost both sides may wait for the other, and
				// only a deadline ends that: a node has one for idle sessions.
				idle := time.Hour
				if name == "drop" || name == "swap" {
					idle = 300 * time.Millisecond
				}
				r := tampered(t, party, attack(at), idle, n)
				what := fmt.Sprintf("%s of message %d of %s", name, at, party)
				err := sessiontest.Cause(r.out)
				switch {
				case err == nil && name == "repeat" && at == messages-1:
					// Nobody reads past the last message.
					continue
				case err == nil:
					t.Errorf("%s: nobody noticed", what)
				case at > 0 && !typed(err) && !errors.Is(err, sessiontest.ErrPeerFailed):
					t.Errorf("%s: %v", what, err)
				}
				if r.out[1].Err == nil || r.a != nil || r.c != nil {
					t.Errorf("%s: the receiver has a result, error %v", what, r.out[1].Err)
				}
			}
		}
	}
}

func flipLast(at int) sessiontest.Change {
	return func(i int, p []byte) [][]byte {
		if i == at && len(p) > 0 {
			p[len(p)-1] ^= 0x80
		}
		return [][]byte{p}
	}
}

func TestParametersAreCompared(t *testing.T) {
	for name, c := range map[string]struct {
		bind bool // by the protocol around, which does not know of codes
		code string
		n    int
		want error
	}{
		"another code":                   {false, "other", 5, session.ErrMismatch},
		"another code in a bound one":    {true, "other", 5, session.ErrMismatch},
		"another number of elements":     {false, "", 6, session.ErrMismatch},
		"fewer elements in a bound one":  {true, "", 4, session.ErrMismatch},
		"the same in a session of ours":  {false, DefaultCode, 5, nil},
		"the same in a bound session":    {true, DefaultCode, 5, nil},
		"a code that nobody knows":       {false, "silver", 5, ErrCode},
		"a negative number of elements":  {false, "", -1, ErrSize},
		"an absurd number of elements":   {false, "", MaxElements + 1, ErrSize},
		"nothing of both kinds of bound": {true, "", 5, nil},
	} {
		if c.code == "other" {
			codes["other"] = &code{name: "other", weight: 848, compressor: newEncoder}
			defer delete(codes, "other")
		}
		bound := func(ctx context.Context, s *session.Session) error {
			if c.bind {
				return s.Bind(ctx, "test")
			}
			return nil
		}
		out := sessiontest.Net{}.Run(t,
			func(ctx context.Context, s *session.Session) error {
				if err := bound(ctx, s); err != nil {
					return err
				}
				_, _, err := Send(ctx, s, 5, Params{})
				return err
			},
			func(ctx context.Context, s *session.Session) error {
				if err := bound(ctx, s); err != nil {
					return err
				}
				_, _, err := Receive(ctx, s, c.n, Params{Code: c.code})
				return err
			})
		if err := sessiontest.Cause(out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// scripted runs a role for n elements against a peer that sends the given
// bodies, numbers in order, and then ends.
func scripted(t testing.TB, receive bool, n int, bodies ...[]byte) error {
	t.Helper()
	return scriptedWith(t, Params{}, DefaultCode, receive, n, bodies...)
}

// scriptedWith does so for p, whose code and checks have a name.
func scriptedWith(t testing.TB, p Params, name string, receive bool, n int, bodies ...[]byte) error {
	t.Helper()
	var got error
	ended := make(chan struct{})
	role := func(ctx context.Context, s *session.Session) error {
		defer close(ended)
		if receive {
			_, _, got = Receive(ctx, s, n, p)
		} else {
			_, _, got = Send(ctx, s, n, p)
		}
		return nil // which ends our messages, and so the peer
	}
	peer := func(ctx context.Context, s *session.Session) error {
		if err := s.Bind(ctx, Name, session.Field{Name: "code", Value: name}); err != nil {
			return err
		}
		_, ch, err := s.Other()
		if err != nil {
			return err
		}
		var reader sync.WaitGroup
		defer reader.Wait()
		run := ctx
		ctx, stop := context.WithCancel(run)
		reader.Go(func() { // a role that has ended reads nothing more
			defer stop()
			select {
			case <-ended:
			case <-run.Done():
			}
		})
		reader.Go(func() { // keeps the window open
			for {
				if _, err := ch.Recv(ctx); err != nil {
					return
				}
			}
		})
		for i, b := range bodies {
			if err := ch.Send(ctx, append(binary.AppendUvarint(nil, uint64(i)), b...)); err != nil {
				return nil
			}
		}
		return s.CloseSend()
	}
	sessiontest.Net{}.Run(t, role, peer)
	return got
}

func TestHostileMessages(t *testing.T) {
	hello := appendHello(nil, DefaultCode, make([]byte, nonceSize))
	points := bytes.Repeat(append([]byte{9}, make([]byte, 31)...), 512)
	for name, c := range map[string]struct {
		receive bool
		bodies  [][]byte
		want    error
	}{
		"nothing":                    {false, nil, io.ErrUnexpectedEOF},
		"no nonce":                   {false, [][]byte{hello[:len(hello)-1]}, ErrMessage},
		"a long name":                {false, [][]byte{appendHello(nil, string(make([]byte, 65)), nil)}, ErrMessage},
		"another code":               {false, [][]byte{appendHello(nil, "silver", make([]byte, nonceSize))}, session.ErrMismatch},
		"points of a wrong length":   {false, [][]byte{hello, points[:31]}, ot.ErrMessage},
		"points of low order":        {false, [][]byte{hello, make([]byte, 256*32)}, ErrPoint},
		"points not reduced":         {false, [][]byte{hello, bytes.Repeat([]byte{0xff}, 256*32)}, ErrPoint},
		"no trees":                   {false, [][]byte{hello, points[:256*32]}, io.ErrUnexpectedEOF},
		"an absurd count":            {false, [][]byte{hello, points[:256*32], make([]byte, 8192), binary.AppendUvarint(nil, 1<<62)}, ErrMessage},
		"another count":              {false, [][]byte{hello, points[:256*32], make([]byte, 8192), {6}}, session.ErrMismatch},
		"corrections that are short": {false, [][]byte{hello, points[:256*32], make([]byte, 8192), {5}, make([]byte, 100)}, ot.ErrMessage},
		"no key pairs":               {true, nil, io.ErrUnexpectedEOF},
		"key pairs too few":          {true, [][]byte{points[:511*32]}, ot.ErrMessage},
		"key pairs of low order":     {true, [][]byte{make([]byte, 512*32)}, ErrPoint},
		"a tree that is short":       {true, [][]byte{points, make([]byte, 16)}, ErrMessage},
		"no seal":                    {true, [][]byte{points, make([]byte, 848*9*16)}, io.ErrUnexpectedEOF},
		"a seal that is short":       {true, [][]byte{points, make([]byte, 848*9*16), make([]byte, 15)}, ErrMessage},
		"a seal of zeros":            {true, [][]byte{points, make([]byte, 848*9*16), make([]byte, 16)}, ErrDisagree},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := scripted(t, c.receive, 5, c.bodies...)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
			t.Errorf("%s: %d bytes were allocated", name, grown)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0}, uint64(0))
	f.Add([]byte{0x80, 0x01, 7}, uint64(128))
	f.Fuzz(func(t *testing.T, b []byte, number uint64) {
		body, err := parseFrame(b, number)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if again := append(binary.AppendUvarint(nil, number), body...); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes and encodes to %x", b, again)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, DefaultCode, make([]byte, nonceSize)))
	f.Add([]byte{0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		name, nonce, err := parseHello(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if len(name) > maxName || !bytes.Equal(appendHello(nil, name, nonce), b) {
			t.Fatalf("%x decodes to %q and %x", b, name, nonce)
		}
	})
}

func FuzzCount(f *testing.F) {
	f.Add([]byte{5})
	f.Add([]byte{0x85, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseCount(b)
		if err == nil && (n < 0 || n > MaxElements || !bytes.Equal(binary.AppendUvarint(nil, uint64(n)), b)) {
			t.Fatalf("%x is %d", b, n)
		}
	})
}

// FuzzRoles lets a peer say anything to either role: it ends with an error.
func FuzzRoles(f *testing.F) {
	hello := appendHello(nil, DefaultCode, make([]byte, nonceSize))
	points := bytes.Repeat(append([]byte{9}, make([]byte, 31)...), 512)
	f.Add(false, hello, points[:256*32], make([]byte, 8192), []byte{5})
	f.Add(true, points, make([]byte, 848*9*16), make([]byte, 16), []byte{})
	f.Fuzz(func(t *testing.T, receive bool, a, b, c, d []byte) {
		if len(a)+len(b)+len(c)+len(d) > 1<<19 {
			return
		}
		if err := scripted(t, receive, 5, a, b, c, d); !typed(err) {
			t.Fatalf("ended with %v", err)
		}
	})
}
