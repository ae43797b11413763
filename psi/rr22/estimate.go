package rr22

import (
	"fmt"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/gf128"
	"github.com/yinqiao/yinqiao/mpc/okvs"
	"github.com/yinqiao/yinqiao/mpc/vole"
)

// What a run costs each party, in processor seconds: measured by BenchmarkSizes
// with a profile by party, on an EPYC with AES-NI and carry-less multiplication
// and without wide vectors of either, 2^20 rows against 2^20, 2^10 against 2^20
// and the reverse. Other machines differ by a factor, which is the same for the
// other protocols but for those that live on other instructions.
const (
	setupSeconds = 0.02 // base transfers, code tables, noise

	senderPerOwn, senderPerPeers     = 0.16e-6, 0.16e-6
	receiverPerOwn, receiverPerPeers = 0.42e-6, 0.10e-6
)

// Bytes and rounds of the vector OLE, counted.
const (
	pieceBytes  = 850_000 // 600,000 for the smallest
	setupRounds = 7       // as many as the link makes wait
)

// estimate says what a run with n rows of the sender and m of the receiver costs
// with the default parameters; the error says why there is none.
func estimate(n, m int64) (job.Cost, error) {
	if n < 0 || m < 0 || n > MaxRows || m > MaxRows {
		return job.Cost{}, fmt.Errorf("%w: %d and %d rows, the limit is %d", ErrSize, n, m, MaxRows)
	}
	l, err := okvs.NewLayout(int(m))
	if err != nil {
		return job.Cost{}, fmt.Errorf("%w: %w", ErrSize, err)
	}
	f, err := Params{}.hashForm(int(n), int(m))
	if err != nil {
		return job.Cost{}, err
	}
	pieces := int64(l.Size()+vole.ChunkElements-1) / vole.ChunkElements
	sender := senderPerOwn*float64(n) + senderPerPeers*float64(m)
	receiver := receiverPerOwn*float64(m) + receiverPerPeers*float64(n)
	return job.Cost{
		CPUSeconds: setupSeconds + max(sender, receiver),
		Bytes:      int64(l.Size())*gf128.Size + n*int64(f.Rest) + int64(f.Buckets()) + n/8 + pieces*pieceBytes,
		Rounds:     setupRounds + pieces,
	}, nil
}
