package rr22

import (
	"context"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/yinqiao/yinqiao/mpc/oprf/oprftest"
	"github.com/yinqiao/yinqiao/psi/ecdh"
	"github.com/yinqiao/yinqiao/psi/psitest"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
)

// dataDir finds the shared data beside the checkout.
func dataDir(t testing.TB) string {
	if d := os.Getenv("YINQIAO_DATA"); d != "" {
		return d
	}
	dir, _ := os.Getwd()
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("no go.mod above the test")
		}
	}
	d := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(d); err != nil {
		t.Skip("no shared data beside the checkout")
	}
	return d
}

// column reads the distinct values of columns of a CSV file, joined.
func column(t testing.TB, file string, columns ...int) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(dataDir(t), file))
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	var xs []string
	for _, row := range rows[1:] {
		key := ""
		for _, c := range columns {
			if c < len(row) {
				key += fmt.Sprintf("%d:%s", len(row[c]), row[c])
			}
		}
		if !seen[key] {
			seen[key] = true
			xs = append(xs, key)
		}
	}
	return xs
}

// identityNumber makes an 18-digit number with its check digit (GB 11643).
func identityNumber(r *rand.Rand) string {
	b := fmt.Appendf(nil, "4420%02d19%02d%02d%02d%03d", r.IntN(100), r.IntN(100), 1+r.IntN(12), 1+r.IntN(28), r.IntN(1000))
	sum, weight := 0, 1
	for i := len(b) - 1; i >= 0; i-- {
		weight = weight * 2 % 11
		sum += int(b[i]-'0') * weight
	}
	return string(append(b, "10X98765432"[sum%11]))
}

// creditCode makes something of a unified social credit code's shape.
func creditCode(r *rand.Rand) string {
	const digits = "0123456789ABCDEFGHJKLMNPQRTUWXY"
	b := []byte("91442000")
	for len(b) < 18 {
		b = append(b, digits[r.IntN(len(digits))])
	}
	return string(b)
}

func distinct(n int, seed uint64, make func(*rand.Rand) string) []string {
	r := rand.New(rand.NewPCG(seed, 5))
	seen := map[string]bool{}
	var xs []string
	for len(xs) < n {
		if x := make(r); !seen[x] {
			seen[x] = true
			xs = append(xs, x)
		}
	}
	return xs
}

// Keys as people have them, at several overlaps, against the plaintext.
func TestRealKeyShapes(t *testing.T) {
	for name, load := range map[string]func() []string{
		"identity numbers": func() []string { return distinct(9000, 1, identityNumber) },
		"credit codes":     func() []string { return distinct(9000, 2, creditCode) },
		"phone numbers": func() []string {
			return distinct(9000, 3, func(r *rand.Rand) string { return fmt.Sprintf("1%d%09d", 3+r.IntN(7), r.IntN(1e9)) })
		},
		"company names": func() []string { return column(t, "entities/nasdaq-listed-symbols.csv", 1) },
		"loan numbers":  func() []string { return column(t, "sba_loans/SBAnational.csv", 0) },
		"name and city": func() []string { return column(t, "sba_loans/SBAnational.csv", 1, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			all := load()
			n := len(all) * 2 / 3
			for _, common := range []int{0, 1, n / 100, n / 2, n} {
				// The first n, and n of which common are among them.
				xs := all[:n]
				ys := slices.Concat(all[n-common:n], all[n:min(len(all), 2*n-common)])
				ys = psitest.Shuffled(ys, uint64(common))
				checkIdeal(t, xs, ys, both, intersectOver(t, sessiontest.Net{}, oprftest.Dealer{}, xs, ys, both, both))
			}
			checkIdeal(t, all, all[:n], both, intersect(t, sessiontest.Net{}, all, all[:n], both))
		})
	}
}

// The two protocols find the same rows.
func TestEqualsECDH(t *testing.T) {
	xs, ys := psitest.Shuffled(psitest.Number(0, 900), 1), psitest.Shuffled(psitest.Number(600, 1600), 2)
	r := intersect(t, sessiontest.Net{}, xs, ys, both)
	checkIdeal(t, xs, ys, both, r)
	var sender, receiver ecdh.Match
	sessiontest.NoErrors(t, sessiontest.Net{}.Run(t,
		func(ctx context.Context, s *session.Session) (err error) {
			sender, err = ecdh.Send(ctx, s, psitest.Items(xs), len(xs), ecdh.Params{})
			return err
		},
		func(ctx context.Context, s *session.Session) (err error) {
			receiver, err = ecdh.Receive(ctx, s, psitest.Items(ys), len(ys), ecdh.Params{})
			return err
		}))
	pairs := func(a, b []int32) (ps [][2]int32) {
		for k := range a {
			ps = append(ps, [2]int32{a[k], b[k]})
		}
		slices.SortFunc(ps, func(p, q [2]int32) int { return int(p[0]) - int(q[0]) })
		return ps
	}
	if !slices.Equal(pairs(r.sender.Rows, r.receiver.Rows), pairs(sender.Rows, receiver.Rows)) {
		t.Error("the protocols differ")
	}
}
