package oprf

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// scripted runs a role against a peer that sends the given frames, numbers in
// order, and then ends.
func scripted(t testing.TB, role sessiontest.Party, peerIsClient bool, frames ...[]byte) error {
	t.Helper()
	return psitest.Scripted(t, role, func(ctx context.Context, s *session.Session) error {
		client, server := session.PartyID("p0"), s.Self()
		if peerIsClient {
			client, server = server, client
		}
		return s.Bind(ctx, Name, Params{}.fields(client, server)...)
	}, frames...)
}

func TestHostileClient(t *testing.T) {
	serve := func(ctx context.Context, s *session.Session) error {
		_, err := Serve(ctx, s, rowsOf(t, psitest.Number(0, 4)), table.RuleNone, Store{}, Params{})
		return err
	}
	for name, c := range map[string]struct {
		frames [][]byte
		want   error
	}{
		"too many items":         {[][]byte{psitest.Frame(kindItems, MaxItems+1)}, ErrSize},
		"absurdly many":          {[][]byte{psitest.Frame(kindItems, 1<<63-1)}, ErrSize},
		"more than a number":     {[][]byte{psitest.Frame(kindItems, 1<<64-1)}, ErrMessage},
		"no number":              {[][]byte{{byte(kindItems)}}, ErrMessage},
		"another kind":           {[][]byte{psitest.Frame(kindWant, 1)}, ErrMessage},
		"a kind of no message":   {[][]byte{{77, 4}}, ErrMessage},
		"items that never come":  {[][]byte{psitest.Frame(kindItems, MaxItems), psitest.Frame(kindWant, 2)}, io.ErrUnexpectedEOF},
		"parts that are not":     {[][]byte{psitest.Frame(kindItems, 2), psitest.Frame(kindWant, 3)}, ErrMessage},
		"points without a want":  {[][]byte{psitest.Frame(kindItems, 2), append([]byte{byte(kindBlinded)}, make([]byte, 64)...)}, ErrMessage},
		"a want after the table": {[][]byte{psitest.Frame(kindItems, 0), psitest.Frame(kindWant, 2), psitest.Frame(kindWant, 1)}, ErrMessage},
		"two wants":              {[][]byte{psitest.Frame(kindItems, 0), psitest.Frame(kindWant, 2), psitest.Frame(kindWant, 0), psitest.Frame(kindWant, 0)}, ErrMessage},
		"matches for nobody":     {[][]byte{psitest.Frame(kindItems, 0), psitest.Frame(kindWant, 2), {byte(kindMatches), 0, 0, 0, 0}}, ErrMessage},
	} {
		var err error
		grown := psitest.Allocated(func() { err = scripted(t, serve, true, c.frames...) })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if grown > 2*session.MaxMessage {
			t.Errorf("%s: %d bytes were allocated", name, grown)
		}
	}
}

func TestHostileServer(t *testing.T) {
	query := func(ctx context.Context, s *session.Session) error {
		_, err := Query(ctx, s, psitest.Items(psitest.Number(0, 4)), 4, Store{}, Params{})
		return err
	}
	said := func(rows int, root rootHash) []byte {
		return announcement{id: epochID{1}, total: rows, root: root}.append([]byte{byte(kindEpoch)})
	}
	// A table of three rows as it should be, but for what the case says.
	l, err := newLayout(3, 40)
	if err != nil {
		t.Fatal(err)
	}
	segment := append([]byte{3}, make([]byte, 3*l.form.Rest)...)
	for i := range 3 {
		segment[1+i*l.form.Rest] = byte(i)
	}
	if l.form.Bucket != 0 {
		t.Fatal("the test expects one bucket")
	}
	announce := func(seg []byte, tags int) [][]byte {
		dir := directory{{tags, len(seg), sum(seg)}}.append(nil)
		return [][]byte{said(3, l.rootOf(epochID{1}, dir)), append([]byte{byte(kindDirectory)}, dir...), append([]byte{byte(kindSegments)}, seg...)}
	}
	swapped := bytes.Clone(segment)
	swapped[1], swapped[1+l.form.Rest] = 1, 0
	other := announce(segment, 3)
	other[2] = append([]byte{byte(kindSegments)}, swapped...)
	unnamed := announce(segment, 3)
	unnamed[0] = said(3, rootHash{9})
	fewer := announce(segment, 2)
	short := announce(segment, 3)
	short[2] = short[2][:len(short[2])-1]
	for name, c := range map[string]struct {
		frames [][]byte
		want   error
	}{
		"too many rows":                   {[][]byte{said(MaxRows+1, rootHash{})}, ErrSize},
		"no announcement":                 {[][]byte{{byte(kindEpoch)}}, ErrMessage},
		"bytes behind it":                 {[][]byte{append(said(3, rootHash{}), 0)}, ErrMessage},
		"a table that never comes":        {[][]byte{said(MaxRows, rootHash{})}, io.ErrUnexpectedEOF},
		"a short directory":               {[][]byte{said(3, rootHash{}), {byte(kindDirectory), 1}}, ErrMessage},
		"another directory":               {unnamed, ErrDisagree},
		"a directory of fewer tags":       {fewer, ErrMessage},
		"another segment":                 {other, ErrDisagree},
		"a short segment":                 {short, ErrMessage},
		"a segment that does not ascend":  {announce(swapped, 3), ErrMessage},
		"a segment of two that says four": {announce(append([]byte{4}, segment[1:]...), 3), ErrMessage},
		"a good table, and then no more":  {announce(segment, 3), io.ErrUnexpectedEOF},
	} {
		var err error
		grown := psitest.Allocated(func() { err = scripted(t, query, false, c.frames...) })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if grown > 2*session.MaxMessage {
			t.Errorf("%s: %d bytes were allocated", name, grown)
		}
	}
}

// lie runs a client that follows the protocol up to its result and then says
// what it likes; everything is framed and sealed properly.
func lie(w *world, ys []string, change func(found []match) ([]match, int64)) sessiontest.Party {
	return func(ctx context.Context, s *session.Session) error {
		c, err := beginClient(ctx, s, psitest.Items(ys), len(ys), w.client, both)
		if err != nil {
			return err
		}
		defer c.close()
		if err := c.link.SendNumber(ctx, kindItems, int64(len(ys))); err != nil {
			return err
		}
		if err := errors.Join(c.recvEpoch(ctx)); err != nil {
			return err
		}
		if err := c.fetch(ctx); err != nil {
			return err
		}
		own, err := c.evaluate(ctx)
		if err != nil {
			return err
		}
		if err := c.link.RecvEmpty(ctx, kindCheck); err != nil {
			return err
		}
		found, err := c.lookup(ctx, own)
		if err != nil {
			return err
		}
		found, count := change(found)
		if err := c.sendMatches(ctx, found); err != nil {
			return err
		}
		if err := c.link.SendNumber(ctx, kindDone, count); err != nil {
			return err
		}
		return c.recvCount(ctx, count)
	}
}

func TestLyingClient(t *testing.T) {
	xs, ys := psitest.Number(0, 40), psitest.Number(30, 45)
	same := func(m []match) ([]match, int64) { return m, int64(len(m)) }
	for name, c := range map[string]struct {
		change func([]match) ([]match, int64)
		want   error
	}{
		"the truth":         {same, nil},
		"more than it says": {func(m []match) ([]match, int64) { return m, int64(len(m)) - 1 }, ErrDisagree},
		"fewer":             {func(m []match) ([]match, int64) { return m, int64(len(m)) + 1 }, ErrDisagree},
		"one twice":         {func(m []match) ([]match, int64) { return append(m, m[len(m)-1]), int64(len(m)) + 1 }, ErrMessage},
		"out of order":      {func(m []match) ([]match, int64) { slices.Reverse(m); return same(m) }, ErrMessage},
		"beyond the table":  {func(m []match) ([]match, int64) { m[len(m)-1].place = 40; return same(m) }, ErrMessage},
		"more than items": {func(m []match) ([]match, int64) {
			m = m[:0]
			for i := range uint32(16) {
				m = append(m, match{place: i})
			}
			return same(m)
		}, ErrMessage},
	} {
		w := newWorld()
		out := w.net.Run(t, lie(w, ys, c.change), func(ctx context.Context, s *session.Session) error {
			_, err := Serve(ctx, s, rowsOf(t, xs), table.RuleNone, w.server, both)
			return err
		})
		if err := out[1].Err; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A server that gives another count than the client's is found out.
func TestLyingServer(t *testing.T) {
	w := newWorld()
	xs := psitest.Number(0, 40)
	for name, c := range map[string]struct {
		count uint64
		want  error
	}{"more": {41, ErrDisagree}, "none": {0, ErrDisagree}, "absurd": {1 << 40, ErrMessage}} {
		out := w.net.Run(t,
			func(ctx context.Context, s *session.Session) error {
				_, err := Query(ctx, s, psitest.Items(xs), len(xs), w.client, both)
				return err
			},
			func(ctx context.Context, s *session.Session) error {
				v, err := beginServer(ctx, s, rowsOf(t, xs), table.RuleNone, w.server, both)
				if err != nil {
					return err
				}
				n, err := v.recvItems(ctx)
				if err != nil {
					return err
				}
				if err := v.begin(ctx, n); err != nil {
					return err
				}
				defer v.epoch.close()
				if err := v.sendEpoch(ctx); err != nil {
					return err
				}
				if err := v.recvWant(ctx); err != nil {
					return err
				}
				if err := v.evaluate(ctx); err != nil {
					return err
				}
				if err := v.link.Send(ctx, kindCheck, nil); err != nil {
					return err
				}
				if _, err := v.recvResult(ctx); err != nil {
					return err
				}
				return v.link.SendNumber(ctx, kindDone, int64(c.count))
			})
		if err := out[0].Err; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
