package aggregate

import (
	"context"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/hesum"
	"github.com/yinqiao/yinqiao/mpc/secagg"
	"github.com/yinqiao/yinqiao/mpc/share"
	"github.com/yinqiao/yinqiao/session"
)

// sums is how many times a run adds: units of cells, then measures.
const sums = 2

// encrypted adds under a collective key.
var encrypted = way{
	name:        Name,
	summary:     "make a table of statistics over several parties' rows, added under a key that they hold in parts",
	assumptions: []string{"rlwe", "rom.sha256", "rom.aes256", "semi-honest"},
	most:        32,
	elements:    hesum.MaxElements,
	open: func(ctx context.Context, s *session.Session, t terms) (adder, error) {
		return hesum.New(ctx, s, hesum.Params{
			Contributors: t.contributors, Threshold: t.threshold, Sums: sums, MaxShape: t.shape, Once: t.once, MinIncluded: t.leastInside,
		})
	},
	setup: func(n int) job.Cost {
		return job.Cost{CPUSeconds: 2e-3 + 1e-3*float64(n), Bytes: int64(n*(n-1)) * 100_000, Rounds: 5}
	},
	// Ciphertexts go from everyone to everyone.
	cost: func(n int, shape share.Shape, receivers int) job.Cost {
		narrow, wide, huge := ciphertexts(shape.Narrow, 4096), ciphertexts(shape.Wide, 8192), ciphertexts(shape.Huge, 8192)
		return job.Cost{
			CPUSeconds: float64(narrow)*(2e-3+1e-4*float64(n)) + float64(wide+huge)*(6e-3+3e-4*float64(n)),
			Bytes:      int64(n) * int64(n-1+receivers) * (104_000*narrow + 319_000*wide + 369_000*huge),
			Rounds:     5,
		}
	},
}

func ciphertexts(values, slots int) int64 { return int64((values + slots - 1) / slots) }

// masked adds vectors under masks that cancel.
var masked = way{
	name:        NameMasked,
	summary:     "make a table of statistics over several parties' rows, added under pairwise masks",
	assumptions: []string{"gap-cdh.curve25519", "rom.sha256", "prg.aes256", "semi-honest"},
	most:        64,
	majority:    true,
	open: func(ctx context.Context, s *session.Session, t terms) (adder, error) {
		return secagg.New(ctx, s, secagg.Params{
			Contributors: t.contributors, Threshold: t.threshold, Sums: sums, MaxShape: t.shape, Once: t.once, MinIncluded: t.leastInside,
		})
	},
	// Everything is made anew for each sum.
	setup: func(int) job.Cost { return job.Cost{} },
	// A vector goes to each receiver; masks and shares are made for each pair.
	cost: func(n int, shape share.Shape, receivers int) job.Cost {
		bytes := int64(4*shape.Narrow + 8*shape.Wide + 12*shape.Huge)
		return job.Cost{
			CPUSeconds: 1e-4*float64(n) + 2.5e-10*float64(n)*float64(bytes),
			Bytes:      int64(n)*int64(receivers)*bytes + int64(n*(n-1))*int64(170+48*n),
			Rounds:     7,
		}
	},
}
