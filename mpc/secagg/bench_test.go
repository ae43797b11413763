package secagg

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"runtime"
	"syscall"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// cpuTime returns the processor time of this process, or of this thread, in
// nanoseconds.
func cpuTime(b *testing.B, who int) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// sink takes what a client sends, copying it as a transport would.
type sink struct {
	session.Channel
	buf   []byte
	bytes int64
}

func (s *sink) Send(_ context.Context, p []byte) error {
	s.buf = append(s.buf[:0], p...)
	s.bytes += int64(len(p))
	return nil
}

// BenchmarkClient is all the work of one contributor that is no aggregator, on
// one thread: drawing and sharing its secrets, checking what the others dealt,
// agreeing on keys, masking, framing, sending and revealing.
func BenchmarkClient(b *testing.B) {
	for _, c := range []struct {
		name         string
		n, threshold int
		shape        share.Shape
	}{
		{"10x1M", 10, 7, share.Shape{Narrow: 1_000_000}},
		{"10x1M-wide", 10, 7, share.Shape{Wide: 1_000_000}},
		{"10x1M-huge", 10, 7, share.Shape{Huge: 1_000_000}},
		{"10x4096", 10, 7, share.Shape{Narrow: 4096}},
		{"64x4096", 64, 43, share.Shape{Narrow: 4096}},
	} {
		b.Run(c.name, func(b *testing.B) {
			const rusageThread = 1
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			w := &world{contributors: c.n, receivers: 1, threshold: c.threshold, shape: c.shape}
			peers := make([]*step, c.n)
			for i := range peers {
				peers[i] = benchStep(b, w, i)
			}
			v := share.NewVector(c.shape)
			for i := range v.Narrow {
				v.Narrow[i] = uint32(i)
			}
			var dealt [][]byte
			for _, p := range peers[1:] {
				d, shares, _, err := p.draw()
				if err != nil {
					b.Fatal(err)
				}
				frame := append(d.appendPublic(nil), shares[ofSeed][0][:]...)
				dealt = append(dealt, append(frame, shares[ofKey][0][:]...))
			}
			ids := w.ids()
			var spent, sent int64
			var runs int64
			for b.Loop() {
				s := benchStep(b, w, 0)
				links := make(map[session.PartyID]*link)
				for _, id := range ids[1:] {
					links[id] = &link{id: id, ch: &sink{}}
				}
				s.e.links = links
				begin := cpuTime(b, rusageThread)
				own, shares, private, err := s.draw()
				if err != nil {
					b.Fatal(err)
				}
				s.deals[0] = own
				for i, id := range ids[1:] {
					frame := newFrame(own.appendPublic(nil))
					if i+1 < c.n {
						frame = append(append(frame, shares[ofSeed][i+1][:]...), shares[ofKey][i+1][:]...)
					}
					err = links[id].send(b.Context(), kindDeal, &s.tag, frame)
				}
				for i, p := range dealt {
					if err == nil {
						err = s.take(links[ids[i+1]], p, private)
					}
				}
				s.roster, s.survivors = firstN(c.n), firstN(c.n)
				if err == nil {
					err = s.sendInput(b.Context(), v, s.ownKeys())
				}
				if err == nil {
					err = s.reveal(b.Context())
				}
				if err != nil {
					b.Fatal(err)
				}
				spent += cpuTime(b, rusageThread) - begin
				for _, l := range links {
					sent += l.ch.(*sink).bytes
				}
				runs++
			}
			b.ReportMetric(float64(spent)/float64(runs)/1e6, "cpu-ms/op")
			b.ReportMetric(float64(sent)/float64(runs)/float64(c.shape.Len()), "B/value")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchStep(b *testing.B, w *world, i int) *step {
	p := w.params(i)
	ids := w.ids()
	s, err := session.New(b.Context(), session.Config{
		ID: "bench", Self: ids[i], Parties: ids,
		Open: func(context.Context, session.PartyID, string) (session.Channel, error) { return nil, nil },
	})
	if err == nil {
		err = p.complete(ids[i], ids)
	}
	if err != nil {
		b.Fatal(err)
	}
	e := &Engine{s: s, p: p, self: i, index: make(map[session.PartyID]int), links: make(map[session.PartyID]*link), steps: make(map[string]bool)}
	for k, id := range p.Contributors {
		e.index[id] = k
	}
	return newStep(e, "bench", w.shape, ids[w.contributors:])
}

// BenchmarkKeyStream is the floor under BenchmarkClient/10x1M: the key streams
// of ten masks and nothing else.
func BenchmarkKeyStream(b *testing.B) {
	b.Run("10x1M", func(b *testing.B) {
		keys := make([]maskKey, 10)
		for i := range keys {
			keys[i] = newMaskKey(make([]byte, 32), false)
		}
		var buf [blockBytes]byte
		begin, runs := cpuTime(b, syscall.RUSAGE_SELF), 0
		for b.Loop() {
			for _, k := range keys {
				stream := cipher.NewCTR(k.Block, make([]byte, aes.BlockSize))
				for at := 0; at < 4_000_000; at += blockBytes {
					n := min(blockBytes, 4_000_000-at)
					stream.XORKeyStream(buf[:n], zeros[:n])
				}
			}
			runs++
		}
		b.ReportMetric(float64(cpuTime(b, syscall.RUSAGE_SELF)-begin)/float64(runs)/1e6, "cpu-ms/op")
	})
}

// BenchmarkRun is a whole run in one process: all parties' work, with the
// aggregator's, and what a contributor sends.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		n     int
		shape share.Shape
	}{{3, share.Shape{Narrow: 4096}}, {10, share.Shape{Narrow: 1_000_000}}, {64, share.Shape{Narrow: 4096}}} {
		b.Run(fmt.Sprintf("%dx%d", c.n, c.shape.Len()), func(b *testing.B) {
			w := &world{contributors: c.n, receivers: 1, threshold: c.n/2 + 1, shape: c.shape}
			v := share.NewVector(c.shape)
			meters := make([]*session.Meter, c.n+1)
			begin := cpuTime(b, syscall.RUSAGE_SELF)
			for b.Loop() {
				noErrors(b, w.run(b, func(ctx context.Context, i int, e *Engine) error {
					meters[i] = e.s.Meter()
					own := v
					if i == c.n {
						own = share.Vector{}
					}
					_, err := e.Sum(ctx, "bench", c.shape, own, w.ids()[c.n:])
					return err
				}))
			}
			b.ReportMetric(float64(cpuTime(b, syscall.RUSAGE_SELF)-begin)/float64(b.N)/1e6, "cpu-ms/op")
			b.ReportMetric(float64(meters[0].Traffic().Sent)/float64(c.shape.Len()), "B/value")
		})
	}
}

// BenchmarkSplit shares one secret.
func BenchmarkSplit(b *testing.B) {
	for _, n := range []int{10, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var secret [secretSize]byte
			for b.Loop() {
				if _, err := split(&secret, n, n, rand.Reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
