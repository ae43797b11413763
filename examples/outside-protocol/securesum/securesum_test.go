package securesum

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/errgroup"
	"github.com/yinqiao/yinqiao/table"
)

// recorder keeps what a party receives.
type recorder struct {
	session.Channel
	mu   *sync.Mutex
	view *[]string
	from session.PartyID
}

func (r recorder) Recv(ctx context.Context) ([]byte, error) {
	p, err := r.Channel.Recv(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.view = append(*r.view, fmt.Sprintf("%s %x", r.from, p))
	return p, err
}

// play runs Sum for parties p0, p1, … and returns every party's result and
// what p0 received, in order of sender and time. rands may be nil.
func play(t *testing.T, inputs [][]int64, rands []io.Reader, wrap func(session.PartyID, session.Opener) session.Opener) ([][]int64, []string, error) {
	t.Helper()
	network := session.NewPipeNetwork(1)
	var ids []session.PartyID
	for i := range inputs {
		ids = append(ids, session.PartyID(fmt.Sprintf("p%d", i)))
	}
	results := make([][]int64, len(inputs))
	var mu sync.Mutex
	var view []string
	g, ctx := errgroup.WithContext(t.Context())
	for i, id := range ids {
		g.Go(func() error {
			open := network.Opener(id)
			if wrap != nil {
				open = wrap(id, open)
			}
			cfg := session.Config{ID: "S-test", Self: id, Parties: ids, Open: open}
			if rands != nil {
				cfg.Rand = rands[i]
			}
			if i == 0 {
				cfg.Open = func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
					ch, err := open(ctx, peer, label)
					return recorder{ch, &mu, &view, peer}, err
				}
			}
			s, err := session.New(ctx, cfg)
			if err != nil {
				return err
			}
			results[i], err = Sum(ctx, s, inputs[i])
			return err
		})
	}
	err := g.Wait()
	slices.SortStableFunc(view, func(a, b string) int { return strings.Compare(a[:2], b[:2]) })
	return results, view, err
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := MinParties; n <= 6; n++ {
		limit := int64(1) << 62 / int64(n)
		inputs := make([][]int64, n)
		want := make([]int64, 5)
		for i := range inputs {
			inputs[i] = []int64{0, limit, -limit, int64(i) - 2, r.Int64N(limit) - limit/2}
			for k, x := range inputs[i] {
				want[k] += x
			}
		}
		results, _, err := play(t, inputs, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range results {
			if !slices.Equal(got, want) {
				t.Errorf("%d parties, party %d: %v, want %v", n, i, got, want)
			}
		}
	}
}

// TestViewSaysTheTotalAlone: two worlds in which p1 and p2 hold other numbers
// of the same sum. For every choice of randomness in the one there is exactly
// one in the other under which p0 receives the same bytes, so what it receives
// tells it nothing of which world it is in. In a third world the sum differs,
// and the view with it.
func TestViewSaysTheTotalAlone(t *testing.T) {
	const d = 987654321
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		word := func(x uint64) []byte { return binary.BigEndian.AppendUint64(nil, x) }
		s01, s02, s10, s12, s20, s21 := r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()
		world := func(x1, x2 int64, s12 uint64) []string {
			results, view, err := play(t, [][]int64{{10}, {x1}, {x2}}, []io.Reader{
				bytes.NewReader(append(word(s01), word(s02)...)),
				bytes.NewReader(append(word(s10), word(s12)...)),
				bytes.NewReader(append(word(s20), word(s21)...)),
			}, nil)
			if err != nil || results[0][0] != 10+x1+x2 {
				t.Fatal(results, err)
			}
			return view
		}
		first := world(500, -70, s12)
		if second := world(500+d, -70-d, s12+d); !slices.Equal(first, second) {
			t.Fatalf("the views differ:\n%v\n%v", first, second)
		}
		if third := world(501, -70, s12); slices.Equal(first, third) {
			t.Fatal("the view does not depend on the total: this test sees nothing")
		}
	}
}

// altered changes what one party sends after its first frame.
type altered struct {
	session.Channel
	sent   int
	change func([]byte) []byte
}

func (a *altered) Send(ctx context.Context, p []byte) error {
	if a.sent++; a.sent > 1 {
		p = a.change(slices.Clone(p))
	}
	return a.Channel.Send(ctx, p)
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"empty": func([]byte) []byte { return nil },
		"short": func(p []byte) []byte { return p[:len(p)-1] },
		"long":  func(p []byte) []byte { return append(p, 0) },
	} {
		_, _, err := play(t, [][]int64{{1}, {2}, {3}}, nil, func(id session.PartyID, open session.Opener) session.Opener {
			if id != "p2" {
				return open
			}
			return func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
				ch, err := open(ctx, peer, label)
				return &altered{Channel: ch, change: change}, err
			}
		})
		if !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	if _, _, err := play(t, [][]int64{{1}, {2}}, nil, nil); !errors.Is(err, ErrParties) {
		t.Errorf("two parties: %v", err)
	}
	if _, _, err := play(t, [][]int64{{1}, {math.MaxInt64 / 2}, {3}}, nil, nil); !errors.Is(err, ErrRange) {
		t.Errorf("too large: %v", err)
	}
	var mismatch *session.MismatchError
	if _, _, err := play(t, [][]int64{{1}, {2}, {3, 4}}, nil, nil); !errors.As(err, &mismatch) || mismatch.Field != "sums" {
		t.Errorf("another number of sums: %v", err)
	}
	short := []io.Reader{bytes.NewReader(nil), bytes.NewReader(make([]byte, 64)), bytes.NewReader(make([]byte, 64))}
	if _, _, err := play(t, [][]int64{{1}, {2}, {3}}, short, nil); !errors.Is(err, io.EOF) {
		t.Errorf("no randomness: %v", err)
	}
}

func spec(column string, parties ...session.PartyID) job.Spec {
	params, _ := json.Marshal(Params{Column: column})
	s := job.Spec{Kind: Name, Params: params, Recipients: parties}
	for _, p := range parties {
		s.Parties = append(s.Parties, job.Participant{Party: p, Role: Member, Inputs: []job.Input{{Entry: "e", Items: []string{"id", "amount"}}}})
	}
	return s
}

func source(t *testing.T, amounts ...any) table.Source {
	t.Helper()
	b := table.NewBuilder(table.Schema{{Name: "id", Type: table.Int, Key: true}, {Name: "amount", Type: table.Int}})
	for i, a := range amounts {
		b.Ints(0).Append(int64(i))
		if a == nil {
			b.Ints(1).AppendNull()
		} else {
			b.Ints(1).Append(int64(a.(int)))
		}
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// TestJob runs the job kind as a node does, and holds the result to what it
// says it reveals and to the computation in the clear.
func TestJob(t *testing.T) {
	if _, err := job.NewRegistry(Job()); err != nil {
		t.Fatal(err)
	}
	sp := spec("amount", "a", "b", "c")
	if err := errors.Join(Job().CheckRoles(sp), Job().Validate(sp)); err != nil {
		t.Fatal(err)
	}
	inputs := map[session.PartyID][]table.Source{
		"a": {source(t, 10, 20, nil)}, "b": {source(t)}, "c": {source(t, -5, 100)},
	}
	clear, err := Job().Clear(t.Context(), sp, inputs)
	if err != nil {
		t.Fatal(err)
	}
	revealed := map[string]bool{}
	for _, d := range Job().Reveals(sp) {
		revealed[d.Field] = true
	}
	network := session.NewPipeNetwork(1)
	g, ctx := errgroup.WithContext(t.Context())
	for i, p := range sp.Parties {
		g.Go(func() error {
			s, err := session.New(ctx, session.Config{ID: "S", Self: p.Party, Parties: sp.Recipients, Open: network.Opener(p.Party)})
			if err != nil {
				return err
			}
			r, err := Job().Run(ctx, job.Env{Spec: sp, Session: s, Inputs: inputs[p.Party], Once: &job.MemoryOnce{}})
			if err != nil {
				return err
			}
			for _, f := range r.Fields() {
				if !revealed[f] {
					t.Errorf("field %s is not declared", f)
				}
			}
			if r.Values[FieldTotal] != int64(125) || r.Values[FieldMean] != 31.25 || r.Counts[FieldRows] != 4 || r.Rows != []int64{2, 0, 2}[i] {
				t.Errorf("%s: %v, %v, %d rows", p.Party, r.Values, r.Counts, r.Rows)
			}
			if want := clear["clear"].(map[string]any); want[FieldTotal] != r.Values[FieldTotal] || want[FieldMean] != r.Values[FieldMean] {
				t.Errorf("in the clear %v", want)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestValidate(t *testing.T) {
	two := spec("amount", "a", "b")
	if Job().CheckRoles(two) == nil {
		t.Error("two parties are enough")
	}
	fewer := spec("amount", "a", "b", "c")
	fewer.Recipients = fewer.Recipients[:2]
	unknown := spec("amount", "a", "b", "c")
	unknown.Params = []byte(`{"colum":"amount"}`)
	for name, s := range map[string]job.Spec{
		"no column": spec("", "a", "b", "c"), "a column outside the grant": spec("income", "a", "b", "c"),
		"a party that is no recipient": fewer, "unknown parameter": unknown,
	} {
		if Job().Validate(s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
