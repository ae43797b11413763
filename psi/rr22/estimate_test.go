package rr22

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// What Estimate says of bytes and rounds is what a run takes.
func TestEstimateIsWhatARunTakes(t *testing.T) {
	for _, c := range [][2]int{{1, 1}, {1 << 16, 1 << 16}, {1 << 10, 1 << 17}, {1 << 17, 1 << 10}, {600_000, 600_000}} {
		if testing.Short() && max(c[0], c[1]) > 1<<17 {
			continue
		}
		out := sessiontest.Net{}.Run(t,
			func(ctx context.Context, s *session.Session) error {
				_, err := SendDigests(ctx, s, digests(0, c[0]), both)
				return err
			},
			func(ctx context.Context, s *session.Session) error {
				_, err := ReceiveDigests(ctx, s, digests(0, c[1]), both)
				return err
			})
		sessiontest.NoErrors(t, out)
		cost, err := estimate(int64(c[0]), int64(c[1]))
		if err != nil {
			t.Fatal(err)
		}
		sent := out[0].Traffic.Sent + out[1].Traffic.Sent
		if ratio := float64(cost.Bytes) / float64(sent); math.Abs(ratio-1) > 0.45 || c[1] > 1<<16 && math.Abs(ratio-1) > 0.1 {
			t.Errorf("%v: %d bytes are estimated, %d were sent", c, cost.Bytes, sent)
		}
		if d := cost.Rounds - out[0].Traffic.Rounds; d < -2 || d > 2 {
			t.Errorf("%v: %d rounds are estimated, there were %d", c, cost.Rounds, out[0].Traffic.Rounds)
		}
	}
	small, err := estimate(1<<20, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	large, err := estimate(1<<24, 1<<24)
	if err != nil || large.CPUSeconds < 12*small.CPUSeconds || large.CPUSeconds > 17*small.CPUSeconds {
		t.Errorf("%v s for 2^24 and %v s for 2^20: %v", large.CPUSeconds, small.CPUSeconds, err)
	}
	for _, c := range [][2]int64{{-1, 0}, {0, -1}, {MaxRows + 1, 1}, {1, math.MaxInt64}} {
		if _, err := estimate(c[0], c[1]); !errors.Is(err, ErrSize) {
			t.Errorf("%v: %v", c, err)
		}
	}
}
