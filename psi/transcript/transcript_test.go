package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

const (
	kindHello Kind = 1 + iota
	kindData
	_
	kindEnd
)

var (
	errMessage  = errors.New("psi/test: malformed message")
	errDisagree = errors.New("psi/test: the two sides disagree")
	protocol    = Protocol{
		Prefix: "psi/test", Kinds: []string{kindHello: "hello", kindData: "data", kindEnd: "end"}, Sealed: []Kind{kindEnd},
		ErrMessage: errMessage, ErrDisagree: errDisagree,
	}
)

// links returns both ends, with change on what the first party sends.
func links(change sessiontest.Change) (first, second *Link) {
	a, b := session.Pipe(8)
	if change != nil {
		a = sessiontest.Tamper(a, change)
	}
	return protocol.Link(a, "second", true), protocol.Link(b, "first", false)
}

func TestMessagesAndSeals(t *testing.T) {
	ctx := t.Context()
	first, second := links(nil)
	if first.Peer() != "second" {
		t.Errorf("the peer is %s", first.Peer())
	}
	both := func(a, b func() error) {
		t.Helper()
		var g errgroup.Group
		g.Go(a)
		g.Go(b)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	both(
		func() error {
			n, err := first.Exchange(ctx, kindHello, 7, 100)
			return errors.Join(err, expect(n, 9))
		},
		func() error {
			n, err := second.Exchange(ctx, kindHello, 9, 100)
			return errors.Join(err, expect(n, 7))
		})
	// Both directions at once, more messages than a varint of one byte counts.
	stream := func(l *Link) func() error {
		return func() error {
			var g errgroup.Group
			g.Go(func() error {
				for i := range 300 {
					if err := l.Send(ctx, kindData, bytes.Repeat([]byte{byte(i)}, i)); err != nil {
						return err
					}
				}
				return nil
			})
			g.Go(func() error {
				for i := range 300 {
					body, err := l.Recv(ctx, kindData)
					if err != nil || !bytes.Equal(body, bytes.Repeat([]byte{byte(i)}, i)) {
						return fmt.Errorf("message %d: %d bytes, %w", i, len(body), err)
					}
				}
				return nil
			})
			return g.Wait()
		}
	}
	both(stream(first), stream(second))
	for _, l := range [][2]*Link{{first, second}, {second, first}, {first, second}} {
		if err := l[0].Send(ctx, kindEnd, nil); err != nil {
			t.Fatal(err)
		}
		if err := l[1].RecvEmpty(ctx, kindEnd); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.SendNumber(ctx, kindEnd, 300); err != nil {
		t.Fatal(err)
	}
	k, body, err := second.RecvOneOf(ctx, kindData, kindEnd)
	if n, perr := protocol.ParseNumber(body, 300); err != nil || perr != nil || k != kindEnd || n != 300 {
		t.Errorf("%v with %x: %v, %v", k, body, err, perr)
	}
}

func expect(got, want int64) error {
	if got != want {
		return fmt.Errorf("got %d, want %d", got, want)
	}
	return nil
}

// A digest is what the package's text says it is: it was computed from that
// with Python's hashlib.
func TestDigestVector(t *testing.T) {
	ctx := t.Context()
	a, b := session.Pipe(8)
	first := protocol.Link(a, "second", true)
	for _, m := range []string{"\x01\x00\x07", "\x02\x01abc"} { // the second party's
		if err := b.Send(ctx, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.RecvNumber(ctx, kindHello, 7); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(ctx, kindData); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.SendNumber(ctx, kindHello, 300), first.Send(ctx, kindEnd, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0100ac02", "0401787ad0441e22a70790528093a0760f820a"} {
		got, err := b.Recv(ctx)
		if err != nil || fmt.Sprintf("%x", got) != want {
			t.Errorf("sent %x, want %s (%v)", got, want, err)
		}
	}
}

// Every message changed in every way: an error of the protocol's own, from the
// message itself or from the sealed one after it, and no later.
func TestTampering(t *testing.T) {
	for name, c := range map[string]struct {
		change sessiontest.Change
		want   error
	}{
		"flip the kind":            {sessiontest.Flip(1, 1), errMessage},
		"flip the number":          {sessiontest.Flip(1, 9), errMessage},
		"flip the body":            {sessiontest.Flip(1, 17), errDisagree},
		"flip the digest":          {sessiontest.Flip(2, 30), errDisagree},
		"drop":                     {sessiontest.Drop(1), errMessage},
		"swap":                     {sessiontest.Swap(0), errMessage},
		"repeat":                   {sessiontest.Repeat(1), errMessage},
		"cut a byte of the body":   {sessiontest.Truncate(1, 1), errDisagree},
		"cut a byte of the digest": {sessiontest.Truncate(2, 1), errMessage},
		"cut everything":           {sessiontest.Truncate(1, 99), errMessage},
		"add a byte":               {sessiontest.Grow(1, 1), errDisagree},
		"empty":                    {sessiontest.Replace(1, nil), errMessage},
		"a kind that has no name":  {sessiontest.Replace(1, []byte{3, 1}), errMessage},
		"a kind past the last":     {sessiontest.Replace(1, []byte{200, 1}), errMessage},
		"another known kind":       {sessiontest.Replace(1, []byte{1, 1}), errMessage},
		"a number in a long form":  {sessiontest.Replace(1, []byte{2, 0x81, 0, 'x'}), errMessage},
	} {
		ctx := t.Context()
		first, second := links(c.change)
		if err := errors.Join(
			first.Send(ctx, kindData, []byte("one")),
			first.Send(ctx, kindData, []byte("two")),
			first.Send(ctx, kindEnd, nil),
			first.ch.CloseSend(),
		); err != nil {
			t.Fatal(err)
		}
		var err error
		for _, k := range []Kind{kindData, kindData, kindEnd} {
			if _, err = second.Recv(ctx, k); err != nil {
				break
			}
		}
		if !errors.Is(err, c.want) || !strings.HasPrefix(fmt.Sprint(err), "psi/test: ") {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// What this side has sent is in the peer's seal too.
func TestSealCoversBothDirections(t *testing.T) {
	ctx := t.Context()
	first, second := links(sessiontest.Flip(0, 17))
	if err := first.Send(ctx, kindData, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(ctx, kindData); err != nil {
		t.Fatal(err)
	}
	if err := second.Send(ctx, kindEnd, nil); err != nil {
		t.Fatal(err)
	}
	if err := first.RecvEmpty(ctx, kindEnd); !errors.Is(err, errDisagree) {
		t.Errorf("%v", err)
	}
}

func TestBodies(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		body []byte
		recv func(*Link) error
	}{
		"not empty":         {[]byte{0}, func(l *Link) error { return l.RecvEmpty(ctx, kindData) }},
		"number above":      {[]byte{8}, func(l *Link) error { _, err := l.RecvNumber(ctx, kindData, 7); return err }},
		"no number":         {nil, func(l *Link) error { _, err := l.RecvNumber(ctx, kindData, 7); return err }},
		"more than one":     {[]byte{1, 1}, func(l *Link) error { _, err := l.RecvNumber(ctx, kindData, 7); return err }},
		"number of 64 bits": {bytes.Repeat([]byte{0xff}, 9), func(l *Link) error { _, err := l.RecvNumber(ctx, kindData, math.MaxInt64); return err }},
	} {
		first, second := links(nil)
		if err := first.Send(ctx, kindData, c.body); err != nil {
			t.Fatal(err)
		}
		if err := c.recv(second); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := protocol.CheckLength(make([]byte, 3), 4, "tags"); !errors.Is(err, errMessage) || !strings.Contains(err.Error(), "3 bytes of tags, 4 were due") {
		t.Errorf("%v", err)
	}
	if err := protocol.CheckLength(make([]byte, 4), 4, "tags"); err != nil {
		t.Error(err)
	}
}

func TestChannelFaults(t *testing.T) {
	ctx := t.Context()
	first, second := links(nil)
	if err := first.ch.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err := second.Recv(ctx, kindData)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "wait for data of first") {
		t.Errorf("a peer that ended: %v", err)
	}
	if err := first.Send(ctx, kindData, nil); err == nil || !strings.Contains(err.Error(), "psi/test: send data to second") {
		t.Errorf("sent after the end: %v", err)
	}
	gone := errors.New("gone")
	ended, cancel := context.WithCancelCause(ctx)
	cancel(gone)
	if _, err := first.Exchange(ended, kindHello, 1, 1); err == nil {
		t.Error("an exchange whose context had ended")
	}
	if _, err := first.RecvNumber(ended, kindHello, 1); !errors.Is(err, gone) {
		t.Errorf("a wait whose context had ended: %v", err)
	}
}

func TestNames(t *testing.T) {
	for k, want := range map[Kind]string{0: "unknown", kindHello: "hello", 3: "unknown", kindEnd: "end", 5: "unknown", 255: "unknown"} {
		if got := protocol.Name(k); got != want {
			t.Errorf("kind %d: %s, want %s", k, got, want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(AppendFrame(nil, kindHello, 0, []byte{1}), uint64(0))
	f.Add(AppendFrame(nil, kindEnd, 1<<40, nil), uint64(1<<40))
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, number uint64) {
		k, body, err := protocol.ParseFrame(b, number)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Fatal(err)
			}
			return
		}
		if again := AppendFrame(nil, k, number, body); !bytes.Equal(again, b) || protocol.Name(k) == "unknown" {
			t.Fatalf("%x decodes and encodes to %x", b, again)
		}
	})
}

func FuzzNumber(f *testing.F) {
	f.Add([]byte{0}, int64(0))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, int64(math.MaxInt64))
	f.Add([]byte{0x80, 0x00}, int64(1))
	f.Fuzz(func(t *testing.T, b []byte, limit int64) {
		limit &= math.MaxInt64
		n, err := protocol.ParseNumber(b, limit)
		if err == nil && (n < 0 || n > limit || !bytes.Equal(AppendNumber(nil, n), b)) {
			t.Fatalf("%x is %d, limit %d", b, n, limit)
		}
	})
}

func FuzzBitmap(f *testing.F) {
	f.Add([]byte{0xff, 0x01}, 9)
	f.Add([]byte{0xff, 0x02}, 9)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n &= 0xfff
		if protocol.CheckBitmap(b, n) != nil {
			return
		}
		ones, total := 0, 0
		for j := range n {
			ones += int(b[j/8] >> (j % 8) & 1)
		}
		for _, x := range b {
			total += bits.OnesCount8(x)
		}
		if len(b) != (n+7)/8 || ones != total {
			t.Fatalf("%x passes for a bitmap of %d rows", b, n)
		}
	})
}
