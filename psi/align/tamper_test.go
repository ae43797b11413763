package align

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// Every attack on every message of the engine's own channel ends in a typed
// error, or does not matter to the result.
func TestTampering(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	xs, ys := randomRows(r, 120, 90, true), randomRows(r, 110, 90, true)
	want, _ := sqlJoin(joinFull, xs, ys)
	// A run that failed in its middle, whose scratch space each case copies.
	x := &resumable{open: &openProtocol{}, xs: xs, ys: ys}
	x.attempt = attempt{
		engines: [2]*engine{x.open.engine(), x.open.engine()}, files: [2]scratch.Files{scratch.Memory(), scratch.Memory()},
		sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)}, specs: [2]job.Spec{specOf(params("both", "full", "join", 45), nil)},
	}
	x.fail(t, 1)

	attacks := map[string]func(at int) sessiontest.Change{
		"flip first": func(at int) sessiontest.Change { return sessiontest.Flip(at, 0) },
		"flip last":  func(at int) sessiontest.Change { return sessiontest.Flip(at, -1+8*64) },
		"flip":       func(at int) sessiontest.Change { return sessiontest.Flip(at, 21) },
		"drop":       func(at int) sessiontest.Change { return sessiontest.Drop(at) },
		"swap":       func(at int) sessiontest.Change { return sessiontest.Swap(at) },
		"repeat":     func(at int) sessiontest.Change { return sessiontest.Repeat(at) },
		"truncate":   func(at int) sessiontest.Change { return sessiontest.Truncate(at, 1) },
		"grow":       func(at int) sessiontest.Change { return sessiontest.Grow(at, 1) },
	}
	for name, attack := range attacks {
		for _, party := range []session.PartyID{"p0", "p1"} {
			// Of bind, hello, input, finished, count, multiplicities, unmatched, done;
			// the first is the session's own.
			for at := 1; at < 8; at++ {
				t.Run(fmt.Sprintf("%s/%s/%d", name, party, at), func(t *testing.T) {
					t.Parallel()
					a := x.attempt
					for i := range a.files {
						a.files[i] = copyFiles(t, x.files[i])
					}
					results, errs := a.runWithin(t, 300*time.Millisecond, sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
						if l.Self == party && l.Label == "" {
							return sessiontest.Tamper(ch, attack(at))
						}
						return ch
					}})
					if errs[0] == nil && errs[1] == nil {
						if got := pairsOf(t, results); !slices.Equal(got, want) {
							t.Errorf("a wrong result: %d rows", len(got))
						}
						if name != "repeat" || at != 7 { // nobody reads what follows the last
							t.Errorf("it was not found")
						}
					}
					if cause := errs[1]; cause != nil && !psitest.Typed(cause, ErrMessage, ErrDisagree, ErrSize, ErrInputChanged) {
						t.Errorf("p1: %v", cause)
					}
					if cause := errs[0]; cause != nil && !psitest.Typed(cause, ErrMessage, ErrDisagree, ErrSize, ErrInputChanged) {
						t.Errorf("p0: %v", cause)
					}
				})
			}
		}
	}
}

// runWithin runs an attempt in which each party has a deadline of its own once
// the other has ended.
func (a attempt) runWithin(t testing.TB, idle time.Duration, net sessiontest.Net) (results [2]job.Result, errs [2]error) {
	t.Helper()
	party := func(i int) sessiontest.Party {
		return psitest.Within(idle, func(ctx context.Context, s *session.Session) error {
			results[i], errs[i] = a.engines[i].definition().Run(ctx, job.Env{
				Spec: a.specs[0], Session: s, Inputs: []table.Source{a.sources[i]}, Scratch: a.files[i],
			})
			return nil
		})
	}
	net.Run(t, party(0), party(1))
	return results, errs
}

func copyFiles(t testing.TB, from scratch.Files) scratch.Files {
	t.Helper()
	to := scratch.Memory()
	names, err := from.Names("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := readAll(from, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		w, err := to.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// A peer that lies about numbers, in messages of the right form.
func TestHostileNumbers(t *testing.T) {
	xs := randomRows(rand.New(rand.NewPCG(33, 34)), 40, 30, true)
	for name, c := range map[string]struct {
		kind transcript.Kind
		body func([]byte) []byte
		want error
	}{
		"many keys":                   {kindInput, func([]byte) []byte { return input{distinct: MaxRows + 1}.append(nil) }, ErrSize},
		"keys that never come":        {kindInput, func([]byte) []byte { return input{distinct: MaxRows}.append(nil) }, session.ErrMismatch},
		"a key without rows":          {kindMultiplicities, func(b []byte) []byte { return append([]byte{0}, b[1:]...) }, ErrMessage},
		"more rows than a side has":   {kindMultiplicities, func([]byte) []byte { return transcript.AppendNumber(nil, MaxRows+1) }, ErrMessage},
		"no rows for its other keys":  {kindMultiplicities, func([]byte) []byte { return transcript.AppendNumber(nil, MaxRows-11) }, ErrMessage},
		"no rows for its common keys": {kindUnmatched, func([]byte) []byte { return transcript.AppendNumber(nil, MaxRows) }, ErrMessage},
		"a key more":                  {kindMultiplicities, func(b []byte) []byte { return append(b, 1) }, ErrMessage},
		"none":                        {kindMultiplicities, func([]byte) []byte { return nil }, ErrMessage},
		"a large join":                {kindMultiplicities, func([]byte) []byte { return transcript.AppendNumber(nil, MaxRows-1000) }, ErrSize},
		"many without a partner":      {kindUnmatched, func([]byte) []byte { return transcript.AppendNumber(nil, MaxRows+1) }, ErrMessage},
		"fewer than its keys":         {kindUnmatched, func([]byte) []byte { return transcript.AppendNumber(nil, 1) }, ErrDisagree},
		"other counts":                {kindDone, func([]byte) []byte { return totals{1, 2}.append(nil) }, ErrDisagree},
	} {
		t.Run(name, func(t *testing.T) {
			o := &openProtocol{}
			ys := slices.Clone(xs)
			for i := range 12 {
				ys[i].key = fmt.Sprintf("other %d", i)
			}
			xs := slices.Clone(xs)
			if name == "a large join" { // of the one key that is common
				for i := range xs {
					xs[i].key, ys[i].key = "same", "same"
				}
			}
			a := attempt{
				engines: [2]*engine{o.engine(), o.engine()}, files: [2]scratch.Files{scratch.Memory(), scratch.Memory()},
				sources: [2]table.Source{tableOf(t, xs), tableOf(t, ys)}, specs: [2]job.Spec{specOf(params("both", "full", "join", 1<<24), nil)},
			}
			a.net = sessiontest.Net{Wrap: func(l sessiontest.Link, ch session.Channel) session.Channel {
				if l.Self == "p1" && l.Label == "" {
					return newLiar(ch, c.kind, c.body)
				}
				return ch
			}}
			_, out := a.run(t)
			says := "p1"
			if name == "a large join" {
				says = "" // it may be what both have
			}
			if strings.HasPrefix(name, "no rows") || name == "more rows than a side has" {
				says = "p1 tells of more than"
			}
			if err := out[0].Err; !errors.Is(err, c.want) || !strings.Contains(err.Error(), says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// liar replaces the body of the messages of one kind, and frames and seals them
// as the protocol does.
type liar struct {
	session.Channel
	relay *relay
	link  *transcript.Link
	kind  transcript.Kind
	body  func([]byte) []byte
	sent  int
	got   int
}

func newLiar(ch session.Channel, k transcript.Kind, body func([]byte) []byte) *liar {
	r := &relay{Channel: ch}
	return &liar{Channel: ch, relay: r, link: messages.Link(r, "p0", false), kind: k, body: body}
}

func (l *liar) Send(ctx context.Context, p []byte) error {
	if l.sent++; l.sent == 1 { // bind
		return l.Channel.Send(ctx, p)
	}
	k, body, err := messages.ParseFrame(p, uint64(l.sent-2))
	if err != nil {
		return err
	}
	if slices.Contains(messages.Sealed, k) {
		body = body[:len(body)-transcript.DigestSize]
	}
	if k == l.kind {
		body = l.body(body)
	}
	return l.link.Send(ctx, k, body)
}

func (l *liar) Recv(ctx context.Context) ([]byte, error) {
	if l.got++; l.got == 1 {
		return l.Channel.Recv(ctx)
	}
	_, _, err := l.link.RecvOneOf(ctx, kindHello, kindInput, kindCount, kindBelow, kindMultiplicities, kindUnmatched, kindDone)
	return l.relay.last, err
}

// relay keeps the last message that came through it.
type relay struct {
	session.Channel
	last []byte
}

func (r *relay) Recv(ctx context.Context) (p []byte, err error) {
	p, err = r.Channel.Recv(ctx)
	r.last = slices.Clone(p)
	return p, err
}
