package psi_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/session/sessiontest"
	"github.com/yinqiao/yinqiao/table"
)

// The tests of this file are of what users of private set intersection have
// met; docs/protocols/psi-cases.md lists them.

// aligned holds results to the keys that are common: want, in the normal form
// that normal gives to what a file has. A kind that only counts is held to their
// number.
func aligned(t testing.TB, results []job.Result, want []string, normal func(string) string) {
	t.Helper()
	var first []string
	for i, r := range results {
		if r.Counts[job.CountCommon] != int64(len(want)) {
			t.Errorf("p%d counts %d common rows, want %d", i, r.Counts[job.CountCommon], len(want))
		}
		src := r.Tables["intersection"]
		if src == nil {
			continue
		}
		columns := len(src.Schema().Keys())
		var keys []string
		for c := range columns {
			for row, x := range textsOf(t, src, keyName(c)) {
				if c == 0 {
					keys = append(keys, normal(x))
				} else {
					keys[row] += "/" + normal(x)
				}
			}
		}
		if i == 0 {
			first = keys
		}
		if !slices.Equal(keys, first) {
			t.Errorf("p%d has %q where p0 has %q", i, keys, first)
		}
		if got := slices.Sorted(slices.Values(keys)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("p%d has %q, want %q", i, got, want)
		}
	}
}

// refused expects that the party with the fault ends with a *table.KeyError and
// that the others end as well, nobody with a result.
func refused(t testing.TB, tr trial, bad int, want error) (ke *table.KeyError) {
	t.Helper()
	results, out := tr.run(t)
	if !errors.As(out[bad].Err, &ke) || !errors.Is(ke, want) {
		t.Fatalf("p%d: %v", bad, out[bad].Err)
	}
	for i, o := range out {
		if i != bad && !isOne(o.Err, ended) {
			t.Errorf("p%d: %v", i, o.Err)
		}
		if len(results[i].Fields()) > 0 {
			t.Errorf("p%d holds %q", i, results[i].Fields())
		}
	}
	return ke
}

// eachParty runs a test for every kind and each of its parties.
func eachParty(t *testing.T, test func(t *testing.T, k kind, party int)) {
	for _, k := range kinds {
		for i := range k.roles {
			t.Run(fmt.Sprintf("%s/p%d", k.Name, i), func(t *testing.T) { test(t, k, i) })
		}
	}
}

// with returns n files, the one at place i being bad.
func with(n, i int, bad, good file) []file {
	files := slices.Repeat([]file{good}, n)
	files[i] = bad
	return files
}

// Keys that come twice, as they stand or by the rule, are counted and refused
// before any row is compared, whoever has them.
func TestDuplicateKeys(t *testing.T) {
	eachParty(t, func(t *testing.T, k kind, party int) {
		files := with(len(k.roles), party, idFile("a", "b", " A", "c", "Ｂ", "a"), idFile("a", "b", "c"))
		ke := refused(t, k.trial(nil, opened(t, files...)...), party, table.ErrDuplicateKeys)
		if ke.Duplicates.Count != 3 || ke.Duplicates.First != 3 || !strings.HasSuffix(ke.Duplicates.Place, "case.csv line 4") || ke.Rows != 6 {
			t.Errorf("%+v", ke)
		}
	})
}

// Rows without a key are counted and refused as well.
func TestBlankKeys(t *testing.T) {
	eachParty(t, func(t *testing.T, k kind, party int) {
		files := with(len(k.roles), party, idFile("a", "", "b", "\u3000", "NULL", "\ufeff "), idFile("a", "b"))
		ke := refused(t, k.trial(nil, opened(t, files...)...), party, table.ErrBlankKeys)
		if ke.Blanks.Count != 4 || ke.Blanks.First != 2 || ke.Rows != 6 {
			t.Errorf("%+v", ke)
		}
	})
}

// A file with a header alone, one row, the same rows, other rows.
func TestEdgeSets(t *testing.T) {
	some, others := []string{"a", "b", "c", "d", "e"}, []string{"v", "w", "x", "y", "z"}
	pairs := [][2][]string{{some, others}, {some, some}, {some, {"c"}}, {{"c"}, some}}
	for _, x := range [][]string{nil, {"a"}, {"b"}} {
		for _, y := range [][]string{nil, {"a"}} {
			pairs = append(pairs, [2][]string{x, y})
		}
	}
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			for _, sets := range pairs {
				third := slices.Clone(sets[1])
				slices.Reverse(third)
				var want []string
				for _, key := range sets[0] {
					if slices.Contains(sets[1], key) {
						want = append(want, key)
					}
				}
				sources := opened(t, idFile(sets[0]...), idFile(sets[1]...), idFile(third...))
				aligned(t, k.trial(nil, sources[:len(k.roles)]...).good(t), want, strings.Clone)
				if t.Failed() {
					t.Fatalf("%q", sets)
				}
			}
		})
	}
}

// What identifiers go through on their way into a file either does not matter by
// the rule, or makes another identifier, or is refused with its number of rows;
// which of these does not depend on the kind.
func TestIdentifierTraps(t *testing.T) {
	const id, x = "440524188001010014", "11010519491231002X"
	upper := func(s string) string {
		b, err := table.RuleID.Append(nil, s)
		must(t, err)
		return string(b)
	}
	for _, c := range []struct {
		name        string
		rule        table.KeyRule
		own, others file
		want        []string
		refused     error // at the others, the first of them
	}{
		{name: "composed and decomposed accents", own: idFile("Z\u00fcrich", "a"), others: idFile("b", "Zu\u0308rich"), want: []string{"ZÜRICH"}},
		{
			name: "byte order mark and CRLF", own: idFile(id, "a"), others: file{keys: idFile(id, "b").keys, bom: true, crlf: true},
			want: []string{id},
		},
		{name: "lower-case check character", rule: table.RuleCNID18, own: idFile(x, id), others: idFile("１１０１０５１９４９１２３１００２ｘ"), want: []string{x}},
		{name: "leading zeros", own: idFile("007", "0"), others: idFile("7", "0"), want: []string{"0"}},
		{
			name: "leading zeros in a column of integers", own: file{keys: idFile("7", "0").keys, typ: table.Int}, others: idFile("007", "0"),
			want: []string{"0"},
		},
		{name: "an identifier that became a float", own: idFile(id, "1"), others: idFile(id+".0", "1"), want: []string{"1"}},
		{
			name: "an identifier that became a float, by a rule with a form", rule: table.RuleCNID18, own: idFile(id), others: idFile("4.40524188001010E+17"),
			refused: table.ErrUnfitKeys,
		},
		{name: "a wrong check character", rule: table.RuleCNID18, own: idFile(x), others: idFile("110105194912310021"), refused: table.ErrUnfitKeys},
		{name: "as they are", rule: table.RuleNone, own: idFile("a", "A", "a "), others: idFile("a", "ａ"), want: []string{"A"}},
	} {
		for _, k := range kinds {
			t.Run(c.name+"/"+k.Name, func(t *testing.T) {
				tr := k.trial(params{"key_rule": c.rule}, opened(t, c.own, c.others, c.others)[:len(k.roles)]...)
				if c.refused == nil {
					aligned(t, tr.good(t), c.want, upper)
					return
				}
				if len(k.roles) > 2 {
					tr.sources[2] = c.own.open(t) // so that there is one fault
				}
				if ke := refused(t, tr, 1, c.refused); ke.Unfit.Count != 1 || ke.Unfit.First != 1 {
					t.Errorf("%+v", ke)
				}
			})
		}
	}
}

// The parts of a key of several columns stay apart.
func TestCompositeKeys(t *testing.T) {
	own := file{keys: [][]string{{"a", "bc"}, {"a|", "b"}, {"x", "1"}, {"a,", ",b"}, {"\x01a", "b"}, {"ab", "c"}}}
	others := file{keys: [][]string{{"ab", "c"}, {"a", "|b"}, {"x1", "x"}, {"a", ",,b"}, {"X", "１"}, {"a", "b"}, {"b", "a"}, {"abc", "abc"}}}
	for _, k := range kinds {
		t.Run(k.Name, func(t *testing.T) {
			results := k.trial(nil, opened(t, own, others, others)[:len(k.roles)]...).good(t)
			aligned(t, results, []string{"X/1", "AB/C"}, func(s string) string {
				b, err := table.RuleID.Append(nil, s)
				must(t, err)
				return string(b)
			})
		})
	}
}

// Parties that do not mean the same end at the handshake, and the field is
// named.
func TestMismatchNamesTheField(t *testing.T) {
	for _, k := range kinds {
		changes := map[string]func(tr *trial, k kind){
			"items|key_rule": func(tr *trial, k kind) { tr.specs[1] = k.spec(params{"key_rule": "trim.v1"}) },
			"items|key_columns": func(tr *trial, _ kind) {
				tr.sources[1] = file{keys: [][]string{{"a", "b"}}}.open(t)
			},
			"output|count_to": func(tr *trial, k kind) { tr.specs[1] = k.spec(params{"output": oneOutput(t, k)}) },
			"sender|leader|client": func(tr *trial, k kind) {
				s := k.spec(nil)
				s.Parties[0].Role, s.Parties[1].Role = s.Parties[1].Role, s.Parties[0].Role
				tr.specs[1] = s
			},
		}
		if k.Name != "psi.multi.v1" {
			changes["false_match_bits"] = func(tr *trial, k kind) { tr.specs[1] = k.spec(params{"false_match_bits": 41}) }
			changes["protocol|kind"] = func(tr *trial, k kind) {
				i := slices.IndexFunc(kinds, func(o kind) bool { return o.Name != k.Name && len(o.roles) == 2 })
				tr.others = map[int]kind{1: kinds[i]}
				tr.specs[1] = kinds[i].spec(nil)
			}
		}
		if k.joins {
			changes["join"] = func(tr *trial, k kind) { tr.specs[1] = k.spec(params{"join": "full"}) }
			changes["duplicates"] = func(tr *trial, k kind) { tr.specs[1] = k.spec(params{"duplicates": "join"}) }
			changes["partition_rows"] = func(tr *trial, k kind) { tr.specs[1] = k.spec(params{"partition_rows": 5000}) }
			changes["left"] = func(tr *trial, k kind) {
				s := k.spec(nil)
				slices.Reverse(s.Parties)
				tr.specs[1] = s
			}
		}
		for fields, change := range changes {
			t.Run(k.Name+"/"+fields, func(t *testing.T) {
				tr := k.trial(nil, opened(t, slices.Repeat([]file{idFile("a")}, len(k.roles))...)...)
				tr.specs = make(map[int]job.Spec)
				change(&tr, k)
				results, out := tr.run(t)
				named := false
				for i, o := range out {
					var m *session.MismatchError
					if errors.As(o.Err, &m) {
						named = true
						if !slices.Contains(strings.Split(fields, "|"), m.Field) {
							t.Errorf("p%d: the field named is %q", i, m.Field)
						}
					} else if !isOne(o.Err, ended) {
						t.Errorf("p%d: %v", i, o.Err)
					}
					if len(results[i].Fields()) > 0 {
						t.Errorf("p%d holds %q", i, results[i].Fields())
					}
				}
				if !named {
					t.Errorf("no field was named: %v, %v", out[0].Err, out[1].Err)
				}
			})
		}
	}
}

// oneOutput is the output of a kind that gives one party alone the result.
func oneOutput(t testing.TB, k kind) string {
	t.Helper()
	for _, o := range []string{"receiver", "client", "leader"} {
		if k.Validate(withoutRecipients(k.spec(params{"output": o}))) == nil {
			return o
		}
	}
	t.Fatalf("%s gives the result to all alone", k.Name)
	return ""
}

func withoutRecipients(s job.Spec) job.Spec {
	s.Recipients = nil
	return s
}

// One table of many rows and one of few, either way round.
func TestSkew(t *testing.T) {
	for _, c := range []struct {
		kind        string
		n, m        int64
		both, large bool // both ways round; too many rows for a default run
	}{
		{"psi.rr22.v1", 2_000_000, 1000, false, false},
		{"psi.rr22.v1", 1000, 1_000_000, false, false},
		{"psi.multi.v1", 200_000, 100, true, false},
		{"psi.ecdh.v1", 10_000, 5, true, false},
		{"psi.oprf.v1", 20_000, 10, false, false},
		{"psi.cardinality.v1", 10_000, 5, true, false},
		{"psi.ecdh.v1", 2_000_000, 1000, true, true},
		{"psi.oprf.v1", 2_000_000, 1000, false, true},
		{"psi.oprf.v1", 10_000_000, 10_000, false, true},
	} {
		if c.large && !large || max(c.n, c.m) > onDisk && testing.Short() {
			continue
		}
		k := only(t, c.kind)[0]
		sizes := [][2]int64{{c.n, c.m}}
		if c.both {
			sizes = append(sizes, [2]int64{c.m, c.n})
		}
		for _, s := range sizes {
			p := k.peopleOf(overlaps[3], s[0], s[1])
			t.Run(c.kind+"/"+p.String(), func(t *testing.T) { plaintext(t, k, p, nil, nil) })
		}
	}
}

// Once a client has fetched the table of psi.oprf.v1, a session costs what its
// own few rows cost, however many the server has.
func TestSkewWithAWarmCache(t *testing.T) {
	k := only(t, "psi.oprf.v1")[0]
	p := k.peopleOf(overlaps[3], 20_000, 20)
	tr := k.trial(nil, p.tables()...)
	tr.caches = disks(t, 2)
	for _, most := range []int64{20_000 * 10, 20*200 + 4096} {
		results, out := tr.run(t)
		sessiontest.NoErrors(t, out)
		p.check(t, results)
		if sent := out[0].Traffic.Sent + out[1].Traffic.Sent; sent > most {
			t.Errorf("%d bytes, want at most %d", sent, most)
		}
	}
}
