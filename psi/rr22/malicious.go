package rr22

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/session"
)

// MaliciousName is the name of the job whose sessions have Params.Malicious.
const MaliciousName = "psi.rr22m.v1"

// A hash has 128 bits where parties may depart from the protocol, so that
// nobody finds two keys with one. The first 96 travel and are matched as the
// shorter ones are; their last 32, the tails, follow in the same order.

// tailSize is the length of a tail in bytes, and chunkTails how many go into one
// message.
const (
	tailSize   = 4
	chunkTails = 60_000
)

func (r *run) sendTails(ctx context.Context, hashes []tags.Tag) error {
	if r.tails == nil {
		return nil
	}
	body := make([]byte, 0, min(chunkTails, len(hashes))*tailSize)
	for len(hashes) > 0 {
		n := min(chunkTails, len(hashes))
		body = body[:0]
		for i := range hashes[:n] {
			body = binary.LittleEndian.AppendUint32(body, r.tails[hashes[i].Row])
		}
		if err := r.link.Send(ctx, kindTails, body); err != nil {
			return err
		}
		hashes = hashes[n:]
	}
	return nil
}

// recvTails takes off m the matches whose tails differ.
func (r *run) recvTails(ctx context.Context, m *matcher) error {
	if r.tails == nil {
		return nil
	}
	t := tailMatcher{m: m, own: r.tails}
	for t.seen < m.seen {
		body, err := r.link.Recv(ctx, kindTails)
		if err != nil {
			return err
		}
		if err := protocol.CheckLength(body, min(chunkTails, m.seen-t.seen)*tailSize, "tails"); err != nil {
			return err
		}
		t.take(body)
	}
	m.rows = m.rows[:t.kept]
	return nil
}

// tailMatcher goes through the sender's hashes once more.
type tailMatcher struct {
	m    *matcher
	own  []uint32 // by row
	seen int      // of the sender's hashes
	at   int      // of the matches
	kept int
}

// take takes the next tails, whole ones.
func (t *tailMatcher) take(tails []byte) {
	m := t.m
	for ; len(tails) > 0; tails = tails[tailSize:] {
		if bit := byte(1) << (t.seen % 8); m.bits[t.seen/8]&bit != 0 {
			row := m.rows[t.at]
			t.at++
			if t.own[row] == binary.LittleEndian.Uint32(tails) {
				m.rows[t.kept] = row
				t.kept++
			} else {
				m.bits[t.seen/8] &^= bit
			}
		}
		t.seen++
	}
}

// maliciousAssumptions are by name what MaliciousDefinition rests on. The peer
// can learn noise positions at the risk of being found, so that the LPN assumption
// has that leakage.
var maliciousAssumptions = []string{
	"lpn-leakage." + vole.DefaultCode, "gap-cdh.curve25519", "icm.aes128", "prg.aes128", "prg.aes256", "rom.sha256", "rom.sha512", "malicious",
}

// MaliciousDefinition returns psi.rr22m.v1: [Definition] with Params.Malicious.
func MaliciousDefinition() job.Definition {
	return align.Definition(align.Protocol{
		Name:            MaliciousName,
		Summary:         "find the rows that two parties have in common, where the other may depart from the protocol (vector OLE with checks)",
		Assumptions:     maliciousAssumptions,
		MinIntersection: job.AfterReveal,
		Send:            maliciousRole(SendDigests),
		Receive:         maliciousRole(ReceiveDigests),
		Estimate:        estimateMalicious,
		Baseline:        align.Compare,
		BaselineName:    "one party with both tables: keys normalised, hashed with SHA-256, sorted and compared",
	})
}

func maliciousRole(run func(context.Context, *session.Session, []Digest, Params) (Match, error)) func(context.Context, *session.Session, []align.Digest, align.Params) ([]int32, error) {
	return func(ctx context.Context, s *session.Session, items []align.Digest, p align.Params) ([]int32, error) {
		m, err := run(ctx, s, items, Params{
			FalseMatchBits: p.FalseMatchBits, Items: p.Items, Broadcast: !p.ReceiverOnly, MinIntersection: p.MinIntersection, Malicious: true,
		})
		return m.Rows, err
	}
}

// What the checks add to a run's estimate, measured by BenchmarkMalicious.
const (
	maliciousSetupSeconds = 0.025
	maliciousSeconds      = 0.17e-6 // for each row of the larger side
	maliciousSetupBytes   = 40_000
	maliciousPieceBytes   = 10_000
)

// estimateMalicious is estimate for Params.Malicious.
func estimateMalicious(n, m int64) (job.Cost, error) {
	c, err := estimate(n, m)
	if err != nil {
		return c, err
	}
	f, err := Params{}.hashForm(int(n), int(m))
	if err != nil {
		return c, err
	}
	checked, err := Params{Malicious: true}.hashForm(int(n), int(m))
	if err != nil {
		return c, fmt.Errorf("psi/rr22: %w", err)
	}
	pieces := c.Rounds - setupRounds
	c.CPUSeconds += maliciousSetupSeconds + maliciousSeconds*float64(max(n, m))
	c.Bytes += n*int64(checked.Rest+tailSize-f.Rest) + int64(checked.Buckets()) - int64(f.Buckets()) + maliciousSetupBytes + maliciousPieceBytes*pieces
	c.Rounds += 3 * pieces
	return c, nil
}
