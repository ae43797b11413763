package oprf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/transcript"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// server is a server's state in one session. It is single-use.
type server struct {
	vault
	link  *transcript.Link
	epoch *epoch
	items int // that the client has announced
}

// beginServer agrees on the parameters.
func beginServer(ctx context.Context, s *session.Session, src table.Source, rule table.KeyRule, st Store, p Params) (*server, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	peer, ch, err := s.Other()
	if err != nil {
		return nil, err
	}
	if err := s.Bind(ctx, Name, p.fields(peer, s.Self())...); err != nil {
		return nil, err
	}
	st = st.withDefaults()
	return &server{
		vault: vault{place: st.place("server", s.Self(), "", p), disk: st.Disk, src: src, rule: rule, p: p, sess: s},
		link:  protocol.Link(ch, peer, false),
	}, nil
}

func (v *server) recvItems(ctx context.Context) (int, error) {
	n, err := v.link.RecvNumber(ctx, kindItems, math.MaxInt64)
	if err == nil && n > v.p.maxItems() {
		err = fmt.Errorf("%w: the client has %d items, the limit is %d a session", ErrSize, n, v.p.maxItems())
	}
	return int(n), err
}

// begin gets the epoch that answers n items.
func (v *server) begin(ctx context.Context, n int) (err error) {
	v.items = n
	v.epoch, err = v.reserve(ctx, n)
	return err
}

func (v *server) sendEpoch(ctx context.Context) error {
	a := announcement{v.epoch.id, v.epoch.rows, v.epoch.root}
	return v.link.Send(ctx, kindEpoch, a.append(nil))
}

// recvWant learns what the client has of the table, and sends the rest.
func (v *server) recvWant(ctx context.Context) error {
	has, err := v.link.RecvNumber(ctx, kindWant, int64(v.epoch.parts())+1)
	if err != nil {
		return err
	}
	return v.sendTable(ctx, int(has))
}

// sendTable sends the table to a client that has what has says; see held.has.
func (v *server) sendTable(ctx context.Context, has int) error {
	e := v.epoch
	if has == 0 {
		for rest := e.dirBytes; len(rest) > 0; {
			n := min(chunkBytes, len(rest))
			if err := v.link.Send(ctx, kindDirectory, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		has = 1
	}
	at, first := int64(0), 0
	for ; first < (has-1)*partSegments && first < e.segments(); first++ {
		at += int64(e.dir[first].size)
	}
	var body []byte
	for first < e.segments() {
		end, _ := e.chunk(e.dir, first)
		body = body[:0]
		for ; first < end; first++ {
			var err error
			if body, err = e.readSegment(body, first, at); err != nil {
				return v.damaged(err)
			}
			at += int64(e.dir[first].size)
		}
		if err := v.link.Send(ctx, kindSegments, body); err != nil {
			return err
		}
		v.sess.Progress(uploadStage, int64(first), int64(e.segments()))
	}
	return nil
}

// evaluate multiplies the client's points by the key. They come in ascending
// order, so that none is evaluated twice.
func (v *server) evaluate(ctx context.Context) error {
	points := make([]curve25519.Point, min(chunkPoints, v.items))
	var last curve25519.Point // below every point that passes the check
	var body []byte
	for at := 0; at < v.items; at += chunkPoints {
		chunk := points[:min(chunkPoints, v.items-at)]
		if err := recvPoints(ctx, v.link, kindBlinded, chunk, v.sess.Rand()); err != nil {
			return err
		}
		for i := range chunk {
			if bytes.Compare(last[:], chunk[i][:]) >= 0 {
				return fmt.Errorf("%w: points that do not ascend", ErrMessage)
			}
			last = chunk[i]
		}
		if err := multiply(ctx, v.epoch.key, chunk); err != nil {
			return err
		}
		body = appendPoints(body[:0], chunk)
		if err := v.link.Send(ctx, kindEvaluated, body); err != nil {
			return err
		}
		v.sess.Progress(evaluateStage, int64(at+len(chunk)), int64(v.items))
	}
	return nil
}

// recvResult receives the client's last word, with the places of its matches
// where the server gets them. A client whose table is damaged asks for it again
// before that, once.
func (v *server) recvResult(ctx context.Context) ([]uint32, error) {
	due := []transcript.Kind{kindDone, kindBelow, kindWant}
	if v.p.Broadcast {
		due = append(due, kindMatches)
	}
	var places []uint32
	for {
		k, body, err := v.link.RecvOneOf(ctx, due...)
		if err != nil {
			return nil, err
		}
		switch k {
		case kindWant:
			due = withoutWant(due)
			if has, err := protocol.ParseNumber(body, 0); err != nil {
				return nil, err
			} else if err := v.sendTable(ctx, int(has)); err != nil {
				return nil, err
			}
		case kindMatches:
			due = withoutWant(due)
			if places, err = parsePlaces(places, body, v.epoch.rows, min(v.items, v.epoch.rows)); err != nil {
				return nil, err
			}
		case kindBelow:
			return nil, foundBelow(v.link, body)
		default:
			return places, v.checkDone(body, len(places))
		}
	}
}

func withoutWant(ks []transcript.Kind) (rest []transcript.Kind) {
	for _, k := range ks {
		if k != kindWant {
			rest = append(rest, k)
		}
	}
	return rest
}

// checkDone holds the body of the client's done to the number of its matches.
func (v *server) checkDone(body []byte, count int) error {
	if !v.p.Broadcast {
		return protocol.CheckLength(body, 0, "done")
	}
	theirs, err := protocol.ParseNumber(body, MaxItems)
	if err == nil && theirs != int64(count) {
		err = fmt.Errorf("%w: %d matches, %s counts %d", ErrDisagree, count, v.link.Peer(), theirs)
	}
	return err
}

func (v *server) sendBelow(ctx context.Context) error { return sendBelow(ctx, v.link, v.p) }

// damaged ends the epoch if err says that its files are not what they were.
func (v *server) damaged(err error) error {
	if absent(err) || errors.Is(err, errSegment) {
		return v.epoch.drop()
	}
	return err
}
