package rr22

import (
	"context"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/vole"
	"github.com/yinqiao/yinqiao/psi/align"
	"github.com/yinqiao/yinqiao/session"
)

// Assumptions of the protocol, by name, with those of mpc/ot and mpc/vole below
// it: the code, its noise and its field are mpc/vole's.
var assumptions = []string{
	"lpn." + vole.DefaultCode, "ddh.curve25519", "icm.aes128", "prg.aes128", "prg.aes256", "rom.sha256", "rom.sha512", "semi-honest",
}

// Definition returns psi.rr22.v1: the rows that two parties have in common, to
// both of them, aligned, or to the receiver alone. Parameters, joins and the
// result are those of package align.
func Definition() job.Definition {
	return align.Definition(align.Protocol{
		Name:            Name,
		Summary:         "find the rows that two parties have in common (vector OLE; fast for large sets)",
		Assumptions:     assumptions,
		MinIntersection: job.AfterReveal,
		Send:            role(SendDigests),
		Receive:         role(ReceiveDigests),
		Estimate:        estimate,
		Baseline:        align.Compare,
		BaselineName:    "one party with both tables: keys normalised, hashed with SHA-256, sorted and compared",
	})
}

// role adapts a role to align.
func role(run func(context.Context, *session.Session, []Digest, Params) (Match, error)) func(context.Context, *session.Session, []align.Digest, align.Params) ([]int32, error) {
	return func(ctx context.Context, s *session.Session, items []align.Digest, p align.Params) ([]int32, error) {
		m, err := run(ctx, s, items, Params{
			FalseMatchBits: p.FalseMatchBits, Items: p.Items, Broadcast: !p.ReceiverOnly, MinIntersection: p.MinIntersection,
		})
		return m.Rows, err
	}
}
