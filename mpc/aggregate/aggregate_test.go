package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/stats"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// loan is a row of the tables of these tests.
type loan struct {
	unit     int64
	industry string
	year     int64
	amount   int64
	bad      int64
	blank    bool // the amount is missing
}

var loanSchema = table.Schema{
	{Name: "unit", Type: table.Int},
	{Name: "industry", Type: table.Text},
	{Name: "year", Type: table.Int},
	{Name: "amount", Type: table.Int},
	{Name: "bad", Type: table.Int},
}

func loans(t testing.TB, rows []loan) *table.Table {
	t.Helper()
	b := table.NewBuilder(loanSchema)
	for _, r := range rows {
		b.Ints(0).Append(r.unit)
		b.Texts(1).Append(r.industry)
		b.Ints(2).Append(r.year)
		if r.blank {
			b.Ints(3).AppendNull()
		} else {
			b.Ints(3).Append(r.amount)
		}
		b.Ints(4).Append(r.bad)
	}
	tb, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

var industries = []string{"retail", "mining", "health", "transport"}

// someLoans makes n rows; mining is rare.
func someLoans(seed uint64, n int) []loan {
	r := rand.New(rand.NewPCG(seed, 1))
	rows := make([]loan, n)
	for i := range rows {
		ind := industries[[]int{0, 0, 0, 2, 2, 3, 3, 3}[r.IntN(8)]]
		if r.IntN(60) == 0 {
			ind = "mining"
		}
		rows[i] = loan{
			unit: int64(seed)<<32 | int64(i), industry: ind, year: 2004 + r.Int64N(3),
			amount: 1000 + r.Int64N(5000) - 3000*r.Int64N(2), bad: r.Int64N(5) / 4,
		}
	}
	return rows
}

const loanForm = `{
	"entity": "unit",
	"group_by": [{"column": "industry", "domain": ["retail", "mining", "health", "transport"]}, {"column": "year", "domain": [2004, 2005, 2006]}],
	"measures": [
		{"name": "loans", "of": "count"},
		{"name": "rate", "of": "mean", "column": "bad", "range": [0, 1]},
		{"name": "lent", "of": "sum", "column": "amount", "range": [-10000, 10000]},
		{"name": "spread", "of": "variance", "column": "amount", "range": [-10000, 10000]}
	],
	"margins": true, "max_rows": 100000%s
}`

// world is the parties of one test.
type world struct {
	def  job.Definition
	spec job.Spec
	rows map[session.PartyID][]loan
	env  map[session.PartyID]*job.Env // what a node keeps between runs
	// gone is a party that is lost before the run begins.
	gone session.PartyID
	// at is told every stage that a party reports.
	at func(net *session.PipeNetwork, id session.PartyID, stage string)
	// wrap may stand between a party and its channels.
	wrap func(from, to session.PartyID, label string, ch session.Channel) session.Channel
}

func newWorld(def job.Definition, contributors int, more string) *world {
	w := &world{def: def, rows: make(map[session.PartyID][]loan), env: make(map[session.PartyID]*job.Env)}
	w.spec = job.Spec{Kind: def.Name, Params: json.RawMessage(fmt.Sprintf(loanForm, more))}
	for i := range contributors {
		id, role := session.PartyID("p"+strconv.Itoa(i)), Contributor
		if i < 2 {
			role = Gate
		}
		w.spec.Parties = append(w.spec.Parties, job.Participant{Party: id, Role: role, Inputs: []job.Input{
			{Entry: "e" + strconv.Itoa(i), Version: 1, Items: []string{"unit", "industry", "year", "amount", "bad"}},
		}})
		w.rows[id] = someLoans(uint64(i+1), 200)
	}
	w.spec.Parties = append(w.spec.Parties, job.Participant{Party: "bureau", Role: Recipient})
	w.spec.Recipients = []session.PartyID{"bureau"}
	return w
}

func (w *world) ids() []session.PartyID {
	var ids []session.PartyID
	for _, p := range w.spec.Parties {
		ids = append(ids, p.Party)
	}
	return ids
}

// envOf is what a party's node keeps between runs and attempts.
func (w *world) envOf(id session.PartyID) *job.Env {
	if w.env[id] == nil {
		w.env[id] = &job.Env{Scratch: scratch.Memory(), History: &job.MemoryHistory{}}
	}
	return w.env[id]
}

var sessions struct {
	sync.Mutex
	n int
}

// run runs the job once at all parties and returns what each has, or its error.
func (w *world) run(t testing.TB) (map[session.PartyID]job.Result, map[session.PartyID]error) {
	t.Helper()
	if err := errors.Join(w.def.CheckRoles(w.spec), w.def.Validate(w.spec)); err != nil {
		t.Fatal(err)
	}
	sessions.Lock()
	sessions.n++
	name := "S" + strconv.Itoa(sessions.n)
	sessions.Unlock()
	net := session.NewPipeNetwork(1)
	if w.gone != "" {
		net.Drop(w.gone)
	}
	var mu sync.Mutex
	results, errs := make(map[session.PartyID]job.Result), make(map[session.PartyID]error)
	var wg sync.WaitGroup
	for _, id := range w.ids() {
		self, _ := w.spec.Participant(id)
		env := *w.envOf(id)
		env.Spec, env.Once = w.spec, &job.MemoryOnce{} // which a node keeps for each session
		if env.Spec.Limits = w.spec.Limits; env.Reference == "" {
			env.Reference = name
		}
		if own := w.env[id].Spec.Limits; own != (job.Limits{}) {
			env.Spec.Limits = own
		}
		if len(self.Inputs) > 0 {
			env.Inputs = []table.Source{loans(t, w.rows[id])}
		}
		wg.Go(func() {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			open := net.Opener(id)
			s, err := session.New(ctx, session.Config{
				ID: name, Self: id, Parties: w.ids(),
				Open: func(ctx context.Context, peer session.PartyID, label string) (session.Channel, error) {
					ch, err := open(ctx, peer, label)
					if err == nil && w.wrap != nil {
						ch = w.wrap(id, peer, label, ch)
					}
					return ch, err
				},
				Progress: func(stage string, _, _ int64) {
					if w.at != nil {
						w.at(net, id, stage)
					}
				},
			})
			var res job.Result
			if err == nil {
				env.Session = s
				res, err = w.def.Run(ctx, env)
			}
			if err != nil {
				net.Drop(id) // as a node's streams end with its job
			}
			mu.Lock()
			defer mu.Unlock()
			results[id], errs[id] = res, err
		})
	}
	wg.Wait()
	return results, errs
}

func noErrors(t testing.TB, errs map[session.PartyID]error) {
	t.Helper()
	for id, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
}

// csvOf returns a result's table as lines of cells.
func csvOf(t testing.TB, src table.Source) [][]string {
	t.Helper()
	var b bytes.Buffer
	if err := table.WriteCSV(t.Context(), &b, src); err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(b.String()) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), ","))
	}
	return rows
}

// bare is the statistics of rows that a person would compute, by cell.
type bare struct {
	n, bad, sum int64
	squares     float64
	units       map[int64]bool
	parties     map[session.PartyID]bool
}

func inTheOpen(rows map[session.PartyID][]loan, parties []session.PartyID) map[[2]string]*bare {
	cells := make(map[[2]string]*bare)
	for _, id := range parties {
		for _, r := range rows[id] {
			for _, ind := range []string{r.industry, stats.All} {
				for _, year := range []string{strconv.FormatInt(r.year, 10), stats.All} {
					k := [2]string{ind, year}
					if cells[k] == nil {
						cells[k] = &bare{units: map[int64]bool{}, parties: map[session.PartyID]bool{}}
					}
					c := cells[k]
					c.n, c.bad, c.sum = c.n+1, c.bad+r.bad, c.sum+r.amount
					c.squares += float64(r.amount) * float64(r.amount)
					c.units[r.unit], c.parties[id] = true, true
				}
			}
		}
	}
	return cells
}

// check holds a released table to the rows of parties: what is shown is right,
// and what stands on too little is not shown. It returns how many cells are
// withheld.
func check(t testing.TB, got table.Source, rows map[session.PartyID][]loan, parties []session.PartyID, least int, providers int) (withheld int) {
	t.Helper()
	lines := csvOf(t, got)
	if want := "industry,year,loans,rate,lent,spread,status"; strings.Join(lines[0], ",") != want {
		t.Fatalf("columns %v, want %s", lines[0], want)
	}
	cells := inTheOpen(rows, parties)
	if len(lines) != 1+5*4 {
		t.Fatalf("%d rows, want 20", len(lines)-1)
	}
	number := func(s string) float64 {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, l := range lines[1:] {
		want := cells[[2]string{l[0], l[1]}]
		if want == nil {
			want = &bare{}
		}
		small := len(want.units) > 0 && (len(want.units) < least || len(want.parties) < providers)
		if l[6] == stats.Suppressed {
			withheld++
			if l[2] != "" || l[3] != "" || l[4] != "" || l[5] != "" {
				t.Errorf("%s %s is withheld and has values", l[0], l[1])
			}
			continue
		}
		if small {
			t.Errorf("%s %s is shown, with %d units of %d parties", l[0], l[1], len(want.units), len(want.parties))
			continue
		}
		if want.n == 0 {
			continue
		}
		mean := float64(want.sum) / float64(want.n)
		variance := (want.squares - mean*float64(want.sum)) / float64(want.n-1)
		for i, x := range []float64{float64(want.n), float64(want.bad) / float64(want.n), float64(want.sum), variance} {
			if y := number(l[2+i]); math.Abs(y-x) > 1e-9*max(1, math.Abs(x)) {
				t.Errorf("%s %s: %s is %v, want %v", l[0], l[1], lines[0][2+i], y, x)
			}
		}
	}
	return withheld
}

func definitions() []job.Definition { return []job.Definition{Definition(), MaskedDefinition()} }

func eachKind(t *testing.T, f func(t *testing.T, def job.Definition)) {
	for _, def := range definitions() {
		t.Run(def.Name, func(t *testing.T) { f(t, def) })
	}
}

// What the recipient has is the plaintext's table with small cells withheld,
// and nobody else has any; everybody has the same counts and digests.
func TestIdealFunctionality(t *testing.T) {
	eachKind(t, func(t *testing.T, def job.Definition) {
		w := newWorld(def, 3, "")
		results, errs := w.run(t)
		noErrors(t, errs)
		withheld := check(t, results["bureau"].Tables[fieldStatistics], w.rows, w.ids()[:3], 10, 3)
		if withheld == 0 {
			t.Error("no cell is withheld: mining should be")
		}
		for id, r := range results {
			if id != "bureau" && len(r.Tables) != 0 {
				t.Errorf("%s holds a table and is no recipient", id)
			}
			if r.Counts[fieldSuppressed] != int64(withheld) || r.Counts[fieldContributors] != 3 || r.Counts[job.CountCells] != 20 {
				t.Errorf("%s counts %v", id, r.Counts)
			}
			for name, d := range results["bureau"].Digests {
				if len(d) != 32 || !bytes.Equal(r.Digests[name], d) {
					t.Errorf("%s and the recipient differ in the digest of %s", id, name)
				}
			}
			p, _ := w.spec.Participant(id)
			var declared []string
			for _, d := range def.Reveals(w.spec) {
				if d.To == "" || d.To == p.Role {
					declared = append(declared, d.Field)
				}
			}
			for _, f := range r.Fields() {
				if !slices.Contains(declared, f) {
					t.Errorf("%s holds %s, which is not declared", id, f)
				}
			}
		}
		for id, r := range results { // the receipt has it, and so everybody
			if r.Rows != 0 {
				t.Errorf("%s tells that it put in %d rows", id, r.Rows)
			}
		}
	})
}

// Every party's rules count: the strictest of all are in force.
func TestStrictestPartyWins(t *testing.T) {
	w := newWorld(Definition(), 3, "")
	w.envOf("p2").Spec.Limits.Release = rules.Set{MinUnits: 60, RoundTo: 5}
	results, errs := w.run(t)
	noErrors(t, errs)
	for _, l := range csvOf(t, results["bureau"].Tables[fieldStatistics])[1:] {
		n, err := strconv.ParseInt(l[2], 10, 64)
		switch {
		case l[6] == stats.Suppressed:
		case err != nil || n%5 != 0:
			t.Errorf("%s %s has %q loans, which is no multiple of 5", l[0], l[1], l[2])
		case n != 0 && n < 60:
			t.Errorf("%s %s is shown with %d units, and p2 wants 60", l[0], l[1], n)
		}
	}
}

// A request cannot lower what the defaults ask for.
func TestRequestOnlyMakesRulesStricter(t *testing.T) {
	w := newWorld(Definition(), 3, `, "rules": {"min_units": 2}`)
	results, errs := w.run(t)
	noErrors(t, errs)
	check(t, results["bureau"].Tables[fieldStatistics], w.rows, w.ids()[:3], 10, 3)
}

const (
	stageCounts   = "add the units of every cell"
	stageMeasures = "add the measures"
)

// lose drops a party as it comes to a stage.
func lose(id session.PartyID, stage string) func(*session.PipeNetwork, session.PartyID, string) {
	return func(net *session.PipeNetwork, at session.PartyID, now string) {
		if at == id && now == stage {
			net.Drop(id)
		}
	}
}

// A party that is lost before anything is opened is left out.
func TestLostBeforeCounts(t *testing.T) {
	for _, stage := range []string{"", "count rows", stageCounts} {
		t.Run(stage, func(t *testing.T) { testLostBeforeCounts(t, stage) })
	}
}

func testLostBeforeCounts(t *testing.T, stage string) {
	eachKind(t, func(t *testing.T, def job.Definition) {
		w := newWorld(def, 4, `, "threshold": 3`)
		if w.at = lose("p3", stage); stage == "" {
			w.gone = "p3"
		}
		results, errs := w.run(t)
		for _, id := range []session.PartyID{"p0", "p1", "p2", "bureau"} {
			if errs[id] != nil {
				t.Errorf("%s: %v", id, errs[id])
			}
		}
		if t.Failed() {
			return
		}
		if n := results["bureau"].Counts[fieldContributors]; n != 3 {
			t.Errorf("%d contributors, want 3", n)
		}
		check(t, results["bureau"].Tables[fieldStatistics], w.rows, w.ids()[:3], 10, 3)
	})
}

// One that is lost later ends the attempt. The next has the same contributors.
func TestLostAfterCounts(t *testing.T) {
	eachKind(t, func(t *testing.T, def job.Definition) {
		w := newWorld(def, 4, `, "threshold": 3`)
		w.at = lose("p3", stageMeasures)
		_, errs := w.run(t)
		for id, err := range errs {
			if !errors.Is(err, session.ErrGone) {
				t.Errorf("%s ends with %v, want ErrGone", id, err)
			}
		}
		w.at = lose("p2", stageCounts) // the others may not be counted without it
		_, errs = w.run(t)
		if err := errs["p0"]; !errors.Is(err, session.ErrGone) {
			t.Errorf("an attempt with fewer contributors than the first ends with %v", err)
		}
		w.at = nil
		results, errs := w.run(t)
		noErrors(t, errs)
		check(t, results["bureau"].Tables[fieldStatistics], w.rows, w.ids()[:4], 10, 3)
	})
}

func TestAllAreNeededWithoutThreshold(t *testing.T) {
	w := newWorld(Definition(), 4, "")
	w.at = lose("p3", stageCounts)
	_, errs := w.run(t)
	for id, err := range errs {
		if !errors.Is(err, session.ErrGone) {
			t.Errorf("%s ends with %v, want ErrGone", id, err)
		}
	}
	if n := w.def.Spare(w.spec); n != 0 {
		t.Errorf("%d parties can be spared, want 0", n)
	}
}
