package psi_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/table"
)

// shape is identifiers of one form, and what people make of them.
type shape struct {
	name string
	rule table.KeyRule
	keys func(t testing.TB) []string
	// vary returns another spelling that the rule holds to be the same.
	vary func(r *rand.Rand, key string) string
	// alter returns another spelling that it does not, and "" where there is none.
	alter func(key string) string
	// The files of the party with the keys as they are, and of the others.
	own, others file
}

// Identifiers as people have them, each party with spellings of its own, from
// files: the rows that the agreed rule holds to be the same are common, and no
// others.
func TestKeyShapes(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			keys := distinct(t, s.rule, s.keys(t))
			for _, k := range kinds {
				n := len(keys)
				switch {
				case k.curve:
					n = min(n, 300)
				case k.Name != "psi.rr22.v1":
					n = min(n, 1500)
				}
				t.Run(k.Name, func(t *testing.T) { s.test(t, k, keys[:n]) })
			}
		})
	}
}

// distinct leaves out keys that the rule or upper case makes the same as an
// earlier one.
func distinct(t testing.TB, rule table.KeyRule, keys []string) (xs []string) {
	t.Helper()
	seen := make(map[string]bool)
	for _, key := range keys {
		a, err := rule.Append(nil, key)
		must(t, err)
		b, err := table.RuleID.Append(nil, strings.ReplaceAll(key, " ", ""))
		must(t, err)
		if !seen["a"+string(a)] && !seen["b"+string(b)] {
			seen["a"+string(a)], seen["b"+string(b)] = true, true
			xs = append(xs, key)
		}
	}
	return xs
}

func (s shape) test(t *testing.T, k kind, keys []string) {
	n := len(keys)
	if n < 300 {
		t.Fatalf("%d keys are too few to tell anything", n)
	}
	// p0 has the first two thirds as they are, the others the last two, shuffled.
	at := make([][]int, len(k.roles)) // which key each row has
	files := make([]file, len(k.roles))
	for party := range k.roles {
		r := rand.New(rand.NewPCG(uint64(party), 11))
		f, first, last := s.others, n/3, n
		if party == 0 {
			f, first, last = s.own, 0, n*2/3
		}
		f.missing = []string{} // a company's symbol is NA
		for i := first; i < last; i++ {
			at[party] = append(at[party], i)
		}
		r.Shuffle(len(at[party]), func(i, j int) { at[party][i], at[party][j] = at[party][j], at[party][i] })
		for _, i := range at[party] {
			key := keys[i]
			if party > 0 && s.altered(i, key) {
				key = s.alter(key)
			} else if party > 0 {
				key = s.vary(r, key)
			}
			f.keys = append(f.keys, []string{key})
		}
		files[party] = f
	}
	var want []int // keys
	for i := n / 3; i < n*2/3; i++ {
		if !s.altered(i, keys[i]) {
			want = append(want, i)
		}
	}
	results := k.trial(params{"key_rule": s.rule}, opened(t, files...)...).good(t)
	lines := make([][]int, 0, len(results)) // which key each row of a result has
	for party, res := range results {
		if res.Counts[job.CountCommon] != int64(len(want)) || res.Rows != int64(len(at[party])) {
			t.Errorf("p%d counts %d of %d rows, want %d of %d", party, res.Counts[job.CountCommon], res.Rows, len(want), len(at[party]))
		}
		src, ok := res.Tables["intersection"]
		if !ok {
			continue
		}
		var line []int
		spelt := textsOf(t, src, keyName(0))
		for j, row := range intsOf(t, src, valueName) {
			if spelt[j] != files[party].keys[row][0] {
				t.Fatalf("p%d: a row's columns are not of one row", party)
			}
			line = append(line, at[party][row])
		}
		lines = append(lines, line)
	}
	for party, line := range lines {
		if !slices.Equal(line, lines[0]) {
			t.Fatalf("p%d has its rows in another order than p0", party)
		}
		if sorted := slices.Sorted(slices.Values(line)); party == 0 && !slices.Equal(sorted, want) {
			t.Errorf("%d rows are common, want %d", len(line), len(want))
		}
	}
}

// altered says whether the parties but the first spell key i as another one.
func (s shape) altered(i int, key string) bool {
	return s.alter != nil && i%4 == 0 && s.alter(key) != ""
}

// textsOf reads a column without missing values, integers as their digits.
func textsOf(t testing.TB, src table.Source, name string) []string {
	t.Helper()
	xs := textsOrNone(t, src, name)
	if slices.Contains(xs, "") {
		t.Fatal("a value is missing")
	}
	return xs
}

// textsOrNone reads a column; a missing value is "".
func textsOrNone(t testing.TB, src table.Source, name string) (xs []string) {
	t.Helper()
	for b, err := range src.Batches(t.Context()) {
		must(t, err)
		a := b.Column(src.Schema().Index(name))
		for r := range a.Len() {
			if a.IsNull(r) {
				xs = append(xs, "")
			} else {
				xs = append(xs, strings.Clone(a.ValueStr(r)))
			}
		}
	}
	return xs
}

var shapes = []shape{
	{
		name: "identity numbers", rule: table.RuleCNID18,
		keys: made(3000, identityNumber), vary: either(fullWidth, strings.ToLower, spaced),
		others: file{bom: true, crlf: true},
	},
	{
		name: "credit codes", rule: table.RuleUSCC,
		keys: made(3000, creditCode), vary: either(fullWidth, strings.ToLower, spaced),
		others: file{crlf: true},
	},
	{
		name: "phone numbers", rule: table.RulePhoneCN,
		keys: made(3000, phoneNumber),
		vary: either(fullWidth, spaced, func(s string) string { return "+86 " + s }, func(s string) string { return "0086-" + s },
			func(s string) string { return s[:3] + " " + s[3:7] + " " + s[7:] }, func(s string) string { return "（+86）" + s[:3] + "-" + s[3:] }),
		others: file{bom: true},
	},
	{
		name: "phone numbers in a column of integers", rule: table.RuleID,
		keys: made(600, phoneNumber), vary: either(fullWidth, spaced),
		alter: func(s string) string { return "+86" + s },
		own:   file{typ: table.Int},
	},
	{
		name: "company names of Nasdaq", rule: table.RuleCompanyName,
		keys: real("entities/nasdaq-listed-symbols.csv", "Security Name"), vary: companySpelling,
		alter:  func(s string) string { return s + " Holdings" },
		others: file{crlf: true},
	},
	{
		name: "company names of loans", rule: table.RuleCompanyName,
		keys: real("sba_loans/SBAnational.csv", "Name"), vary: companySpelling,
	},
	{
		name: "company names in Chinese, one side in GB 18030", rule: table.RuleCompanyName,
		keys: made(600, func(r *rand.Rand) string {
			return fmt.Sprintf("%s第%d“%s”贸易(%s)有限公司", pick(r, "中山", "珠海", "佛山"), r.IntN(1e6), pick(r, "隐桥", "示例"), pick(r, "广东", "集团"))
		}),
		vary: either(
			strings.NewReplacer("(", "（", ")", "）").Replace, strings.NewReplacer("(", "【", ")", "】").Replace,
			strings.NewReplacer("“", "「", "”", "」").Replace, func(s string) string { return strings.ReplaceAll(s, "第", " 第　") },
		),
		alter:  func(s string) string { return strings.Replace(s, "有限公司", "公司", 1) },
		others: file{gb18030: true},
	},
	{
		name: "symbols as they are", rule: table.RuleNone,
		keys: real("entities/nasdaq-listed-symbols.csv", "Symbol"), vary: either(asItIs),
		alter: strings.ToLower,
	},
	{
		name: "loan numbers trimmed", rule: table.RuleTrim,
		keys: real("sba_loans/SBAnational.csv", "LoanNr_ChkDgt"), vary: either(spaced, asItIs),
		alter: fullWidth,
	},
	{
		name: "names in NFKC", rule: table.RuleNFKC,
		keys: real("sba_loans/SBAnational.csv", "Name"), vary: either(fullWidth, spaced),
		alter: func(s string) string {
			if lower := strings.ToLower(s); lower != s {
				return lower
			}
			return ""
		},
	},
	{
		name: "names by the default rule", rule: table.RuleID,
		keys: real("sba_loans/SBAnational.csv", "Name"), vary: either(fullWidth, spaced, strings.ToLower, strings.ToUpper),
		alter: func(s string) string {
			if one, two, ok := strings.Cut(s, " "); ok && two != "" && one != "" {
				return one + "  " + two
			}
			return ""
		},
		others: file{bom: true, crlf: true},
	},
}

func made(n int, key func(*rand.Rand) string) func(testing.TB) []string {
	return func(testing.TB) (xs []string) {
		r := rand.New(rand.NewPCG(uint64(n), 13))
		for range n {
			xs = append(xs, key(r))
		}
		return xs
	}
}

func real(file, name string) func(testing.TB) []string {
	return func(t testing.TB) []string { return column(t, file, name) }
}

func pick(r *rand.Rand, xs ...string) string { return xs[r.IntN(len(xs))] }

// identityNumber makes a number of GB 11643 with its check character.
func identityNumber(r *rand.Rand) string {
	b := fmt.Appendf(nil, "4420%02d%d%02d%02d%03d", r.IntN(100), 1930+r.IntN(90), 1+r.IntN(12), 1+r.IntN(28), r.IntN(1000))
	sum, weight := 0, 1
	for i := len(b) - 1; i >= 0; i-- {
		weight = weight * 2 % 11
		sum += int(b[i]-'0') * weight
	}
	return string(append(b, "10X98765432"[sum%11]))
}

// creditCode makes a code of GB 32100 with its check character.
func creditCode(r *rand.Rand) string {
	const values = "0123456789ABCDEFGHJKLMNPQRTUWXY"
	b := fmt.Appendf(nil, "91%06d", 440000+r.IntN(10000))
	for len(b) < 17 {
		b = append(b, values[r.IntN(len(values))])
	}
	sum, weight := 0, 1
	for _, c := range b {
		sum += strings.IndexByte(values, c) * weight
		weight = weight * 3 % 31
	}
	return string(append(b, values[(31-sum%31)%31]))
}

func phoneNumber(r *rand.Rand) string { return fmt.Sprintf("1%d%09d", 3+r.IntN(7), r.IntN(1e9)) }

// either spells in one of several ways.
func either(ways ...func(string) string) func(*rand.Rand, string) string {
	return func(r *rand.Rand, s string) string { return ways[r.IntN(len(ways))](s) }
}

func asItIs(s string) string { return s }

// fullWidth is how an input method for Chinese writes ASCII.
func fullWidth(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '\u3000'
		case '!' <= c && c <= '~':
			return c + 0xFEE0
		}
		return c
	}, s)
}

// spaced has the white space that comes with copying from elsewhere.
func spaced(s string) string { return "\ufeff \t" + s + "\u00a0\u3000" }

// companySpelling is what one clerk makes of a name that another has written.
func companySpelling(r *rand.Rand, s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case r.IntN(3) > 0:
			return c
		case 'a' <= c && c <= 'z':
			return c - ('a' - 'A')
		case 'A' <= c && c <= 'Z':
			return c + ('a' - 'A')
		case c == ' ':
			return []rune{'\u3000', '\u00a0', -1}[r.IntN(3)]
		case c == '(':
			return []rune("（【[{〔")[r.IntN(5)]
		case c == ')':
			return []rune("）】]}〕")[r.IntN(5)]
		case c == '-':
			return []rune("–—－")[r.IntN(3)]
		case c == '\'':
			return []rune("’‘＇")[r.IntN(3)]
		case c == '"':
			return []rune("“”＂")[r.IntN(3)]
		case c == ',':
			return []rune("，、")[r.IntN(2)]
		case c == '.':
			return []rune("．。")[r.IntN(2)]
		case '!' <= c && c <= '~':
			return c + 0xFEE0
		}
		return c
	}, s)
	if r.IntN(2) == 0 {
		s = spaced(s)
	}
	return s
}
