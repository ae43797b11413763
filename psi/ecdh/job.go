package ecdh

import (
	"context"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/session"
)

// Definition returns psi.ecdh.v1: the rows that two parties have in common,
// aligned, to both of them, or to the receiver alone. Parameters, joins and the
// result are those of package align.
func Definition() job.Definition {
	return align.Definition(align.Protocol{
		Name:            Name,
		Summary:         "align the rows that two parties have in common (Diffie-Hellman on Curve25519)",
		Assumptions:     []string{"ddh.curve25519", "prg.aes256", "rom.sha256", "rom.sha512", "semi-honest"},
		MinIntersection: job.BeforeReveal,
		Send:            role(SendDigests),
		Receive:         role(ReceiveDigests),
		Views: []job.Disclosure{
			{To: align.Receiver, Field: "view.count", What: "how many keys are common, even if they are fewer than the minimum"},
		},
		PartitionRows: 1 << 20,
		Estimate:      estimate,
		Baseline:      func(ctx context.Context, n int64) error { return bareArithmetic(ctx, int(n)) },
		BaselineName:  "bare arithmetic: a hash to the curve and two ladders for every row of both parties",
	})
}

// role adapts a role to align.
func role(run func(context.Context, *session.Session, []align.Digest, Params) (Match, error)) func(context.Context, *session.Session, []align.Digest, align.Params) ([]int32, error) {
	return func(ctx context.Context, s *session.Session, items []align.Digest, p align.Params) ([]int32, error) {
		m, err := run(ctx, s, items, Params{
			FalseMatchBits: p.FalseMatchBits, Items: p.Items, ReceiverOnly: p.ReceiverOnly, MinIntersection: p.MinIntersection,
		})
		return m.Rows, err
	}
}
