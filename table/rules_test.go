package table

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// rulesTable is every rule's table: what comes out of what, or why not.
var ruleCases = []struct {
	rule     KeyRule
	why      string
	in, want string
	err      error // of Append
}{
	{RuleNone, "nothing changes", " １2x\r", " １2x\r", nil},
	{RuleNone, "white space is a value", " ", " ", nil},
	{RuleNone, "invalid UTF-8", "a\xff", "", errKeyText},
	{RuleTrim, "both ends", "\ufeff\u3000 a  b \u200b\r\n", "a  b", nil},
	{RuleTrim, "width and case stay", "ａB", "ａB", nil},
	{RuleTrim, "blank", "\u3000\t", "", nil},
	{RuleTrim, "invalid UTF-8", " \xff ", "", errKeyText},
	{RuleNFKC, "width", "ａ１（\u3000", "a1(", nil},
	{RuleNFKC, "composed", "Zu\u0308rich", "Z\u00fcrich", nil},
	{RuleNFKC, "case stays", "Ab", "Ab", nil},
	{RuleNFKC, "invalid UTF-8", "\xc4\xe3", "", errKeyText},

	// The two worked examples of GB 11643-1999.
	{RuleCNID18, "standard, check character X", "11010519491231002X", "11010519491231002X", nil},
	{RuleCNID18, "standard, digit", "440524188001010014", "440524188001010014", nil},
	{RuleCNID18, "small x", "11010519491231002x", "11010519491231002X", nil},
	{RuleCNID18, "full-width with spaces around", "\u3000１１０１０５１９４９１２３１００２ｘ ", "11010519491231002X", nil},
	{RuleCNID18, "Roman numeral ten", "11010519491231002ⅹ", "11010519491231002X", nil},
	{RuleCNID18, "wrong check character", "110105194912310021", "", ErrUnfitKeys},
	{RuleCNID18, "two digits swapped", "11010519491231020X", "", ErrUnfitKeys},
	{RuleCNID18, "15 digits", "110105491231002", "", ErrUnfitKeys},
	{RuleCNID18, "19 characters", "11010519491231002X0", "", ErrUnfitKeys},
	{RuleCNID18, "X within", "1101051949123100X2", "", ErrUnfitKeys},
	{RuleCNID18, "space within", "110105 19491231002X", "", ErrUnfitKeys},
	{RuleCNID18, "another letter at the end", "11010519491231002A", "", ErrUnfitKeys},
	{RuleCNID18, "blank", " ", "", nil},
	{RuleCNID18, "invalid UTF-8", "11010519491231002\xff", "", errKeyText},

	// The worked example of GB 32100-2015, and codes that companies publish.
	{RuleUSCC, "standard", "91350100M000100Y43", "91350100M000100Y43", nil},
	{RuleUSCC, "published", "91330100799655058B", "91330100799655058B", nil},
	{RuleUSCC, "published", "914403001922038216", "914403001922038216", nil},
	{RuleUSCC, "published, lower case, full-width", "９144030071526726xg", "9144030071526726XG", nil},
	{RuleUSCC, "wrong check character", "91350100M000100Y42", "", ErrUnfitKeys},
	{RuleUSCC, "letter O for zero", "9135O100M000100Y43", "", ErrUnfitKeys},
	{RuleUSCC, "letter I", "91350100M000I00Y43", "", ErrUnfitKeys},
	{RuleUSCC, "17 characters", "91350100M000100Y4", "", ErrUnfitKeys},
	{RuleUSCC, "registration number of 15 digits", "110000007568012", "", ErrUnfitKeys},
	{RuleUSCC, "not ASCII", "91350100M000100Y4三", "", ErrUnfitKeys},
	{RuleUSCC, "blank", "", "", nil},

	{RulePhoneCN, "plain", "13800138000", "13800138000", nil},
	{RulePhoneCN, "+86", "+8613800138000", "13800138000", nil},
	{RulePhoneCN, "0086", "0086-138-0013-8000", "13800138000", nil},
	{RulePhoneCN, "separators", " (+86) 138 0013–8000 ", "13800138000", nil},
	{RulePhoneCN, "full-width", "＋８６（１３８）００１３－８０００", "13800138000", nil},
	{RulePhoneCN, "full stops and no-break spaces", "138.0013\u00a08000", "13800138000", nil},
	{RulePhoneCN, "bare 86", "8613800138000", "", ErrUnfitKeys},
	{RulePhoneCN, "prefix twice", "+86+8613800138000", "", ErrUnfitKeys},
	{RulePhoneCN, "another country", "+85213800138000", "", ErrUnfitKeys},
	{RulePhoneCN, "plus without country", "+13800138000", "", ErrUnfitKeys},
	{RulePhoneCN, "landline", "010-12345678", "", ErrUnfitKeys},
	{RulePhoneCN, "second digit 2", "12800138000", "", ErrUnfitKeys},
	{RulePhoneCN, "10 digits", "1380013800", "", ErrUnfitKeys},
	{RulePhoneCN, "12 digits", "138001380001", "", ErrUnfitKeys},
	{RulePhoneCN, "extension", "13800138000转1", "", ErrUnfitKeys},
	{RulePhoneCN, "slash", "138/00138000", "", ErrUnfitKeys},
	{RulePhoneCN, "a dash for none", "-", "", ErrUnfitKeys},
	{RulePhoneCN, "blank", "\u3000", "", nil},

	{RuleCompanyName, "brackets", "示例（上海）有限公司", "示例(上海)有限公司", nil},
	{RuleCompanyName, "other brackets", "示例【上海】〔a〕[b]", "示例(上海)(A)(B)", nil},
	{RuleCompanyName, "white space of all kinds", " 示例\u3000有限 公\u200b司\u00a0", "示例有限公司", nil},
	{RuleCompanyName, "English", "Example  Co., Ltd.", "EXAMPLECO.,LTD.", nil},
	{RuleCompanyName, "full-width English", "Ｅｘａｍｐｌｅ Ｃｏ．，Ｌｔｄ．", "EXAMPLECO.,LTD.", nil},
	{RuleCompanyName, "Chinese punctuation", "甲、乙。“丙”‘丁’", "甲,乙.\"丙\"'丁'", nil},
	{RuleCompanyName, "middle dots", "埃克森•美孚・中国", "埃克森·美孚·中国", nil},
	{RuleCompanyName, "dashes", "a—b–c-d－e", "A-B-C-D-E", nil},
	{RuleCompanyName, "the numeral one is no dash", "一汽", "一汽", nil},
	{RuleCompanyName, "the suffix stays", "示例有限责任公司", "示例有限责任公司", nil},
	{RuleCompanyName, "an accent after a space", "e \u0301", "É", nil},
	{RuleCompanyName, "blank", " \u200b\u3000", "", nil},
	{RuleCompanyName, "invalid UTF-8", "\xff", "", errKeyText},
}

func TestRules(t *testing.T) {
	seen := map[KeyRule]bool{RuleID: true} // has a test of its own
	for _, c := range ruleCases {
		seen[c.rule] = true
		b, err := c.rule.Append([]byte("pre"), c.in)
		if string(b) != "pre"+c.want || !errors.Is(err, c.err) {
			t.Errorf("%s, %s: %+q gives %+q, %v; want %+q, %v", c.rule, c.why, c.in, b, err, c.want, c.err)
		}
		if r, err := ParseKeyRule(string(c.rule)); r != c.rule || err != nil {
			t.Errorf("ParseKeyRule(%q): %q, %v", c.rule, r, err)
		}
	}
	for _, r := range KeyRules() {
		if !seen[r] || !strings.HasSuffix(string(r), ".v1") {
			t.Errorf("%s is not tested, or has no version", r)
		}
	}
	if _, err := ParseKeyRule("cn-id18"); !errors.Is(err, ErrKeyRule) || !strings.Contains(err.Error(), "cn-id18.v1") {
		t.Errorf("a rule without its version: %v", err)
	}
}

// GB 11643 prints the weights and the check characters as tables; the code
// computes them.
func gb11643Check(body string) byte {
	weights := []int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}
	sum := 0
	for i, w := range weights {
		sum += w * int(body[i]-'0')
	}
	return "10X98765432"[sum%11]
}

// GB 32100 prints the weights and the values of the characters as tables.
func gb32100Check(body string) byte {
	weights := []int{1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28}
	values := map[byte]int{}
	chars := map[int]byte{}
	add := func(c byte) { chars[len(values)], values[c] = c, len(values) }
	for c := byte('0'); c <= '9'; c++ {
		add(c)
	}
	for c := byte('A'); c <= 'Z'; c++ {
		if !strings.ContainsRune("IOSVZ", rune(c)) {
			add(c)
		}
	}
	sum := 0
	for i, w := range weights {
		sum += w * values[body[i]]
	}
	c := 31 - sum%31
	if c == 31 {
		c = 0
	}
	return chars[c]
}

// For every value of the other characters, exactly one check character passes:
// the one that the tables of the standard give.
func TestCheckCharacters(t *testing.T) {
	rng := rand.New(rand.NewPCG(11643, 32100))
	const all = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	seen := map[KeyRule]map[byte]bool{RuleCNID18: {}, RuleUSCC: {}}
	for range 2000 {
		id := fmt.Sprintf("%d%04d%d%02d%02d%03d", 10+rng.IntN(80), rng.IntN(10000),
			1900+rng.IntN(120), 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(1000))
		uscc := fmt.Sprintf("%c%c%06d", usccAlphabet[rng.IntN(31)], usccAlphabet[rng.IntN(31)], rng.IntN(1_000_000))
		for range 9 {
			uscc += usccAlphabet[rng.IntN(31):][:1]
		}
		for rule, c := range map[KeyRule]struct {
			body string
			want byte
		}{RuleCNID18: {id, gb11643Check(id)}, RuleUSCC: {uscc, gb32100Check(uscc)}} {
			for _, last := range []byte(all) {
				_, err := rule.Append(nil, c.body+string(last))
				if (last == c.want) != (err == nil) || (err != nil && !errors.Is(err, ErrUnfitKeys)) {
					t.Fatalf("%s: %s with check character %c, by the tables %c: %v", rule, c.body, last, c.want, err)
				}
			}
			seen[rule][c.want] = true
		}
	}
	if len(seen[RuleCNID18]) != 11 || len(seen[RuleUSCC]) != 31 {
		t.Errorf("%d and %d check characters were tried, there are 11 and 31", len(seen[RuleCNID18]), len(seen[RuleUSCC]))
	}
}

// With the right check character, but a date or a region that cannot be.
func TestCNID18Calendar(t *testing.T) {
	for body, ok := range map[string]bool{
		"11010520000229001": true,
		"11010519000229001": false, // 1900 had no leap day
		"11010519491331001": false,
		"11010519490431001": false,
		"11010519490001001": false,
		"01010519491231001": false, // no region begins with 0
	} {
		_, err := RuleCNID18.Append(nil, body+string(gb11643Check(body)))
		if (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Every rule that takes any text is idempotent on every character, and a company
// name holds no white space and no small letter that has a capital one.
func TestRulesEveryRune(t *testing.T) {
	for c := rune(0); c <= unicode.MaxRune; c++ {
		// What Unicode has given no meaning, and the unified ideographs and Hangul
		// syllables, which are their own normal forms, are many and all alike.
		if !unicode.In(c, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf) ||
			unicode.Is(unicode.Unified_Ideograph, c) || 0xAC10 <= c && c <= 0xD7A0 {
			continue
		}
		for _, s := range []string{string(c), "a" + string(c) + "\u0301"} {
			for _, r := range []KeyRule{RuleTrim, RuleNFKC, RuleCompanyName} {
				checkIdempotent(t, r, s)
			}
		}
		n, err := RuleCompanyName.Append(nil, string(c))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range string(n) {
			if trimmed(f) || unicode.IsLower(f) && unicode.ToUpper(f) != f {
				t.Errorf("%U: %+q is left in a company name", c, n)
			}
		}
	}
}

func checkIdempotent(t testing.TB, r KeyRule, s string) {
	t.Helper()
	b, err := r.Append(nil, s)
	if err != nil {
		if len(b) != 0 {
			t.Fatalf("%s: %+q fails and gives %+q", r, s, b)
		}
		return
	}
	again, err := r.Append(nil, string(b))
	if err != nil || string(again) != string(b) {
		t.Fatalf("%s: %+q gives %+q, and that %+q, %v", r, s, b, again, err)
	}
}

func FuzzRules(f *testing.F) {
	for _, c := range ruleCases {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range KeyRules() {
			checkIdempotent(t, r, s)
			if _, err := r.Append(nil, s); !utf8.ValidString(s) && !errors.Is(err, errKeyText) {
				t.Fatalf("%s: invalid UTF-8: %v", r, err)
			}
		}
		checkSimple(t, s)
	})
}

// checkSimple fails if the short way for simple characters does not give what
// Unicode's tables give.
func checkSimple(t testing.TB, s string) {
	t.Helper()
	for r, long := range map[KeyRule]func([]byte, string) ([]byte, error){
		RuleID: appendID, RuleNFKC: RuleNFKC.appendAny, RuleCompanyName: RuleCompanyName.appendAny,
	} {
		got, err := r.Append([]byte("pre "), s)
		want, werr := long([]byte("pre "), s)
		if string(got) != string(want) || (err == nil) != (werr == nil) {
			t.Fatalf("%s: %+q gives %+q, %v; the long way %+q, %v", r, s, got, err, want, werr)
		}
	}
}

// Every simple character is one NFKC segment by itself, so that a text of such
// characters may be folded one by one; and every one, alone and beside others,
// comes out as by the long way.
func TestSimpleCharacters(t *testing.T) {
	for c := range rune(unicode.MaxRune + 1) {
		f := c
		if c >= utf8.RuneSelf {
			f = simple(c)
		}
		if f < 0 {
			continue
		}
		if string(f) != norm.NFKC.String(string(c)) || !norm.NFKC.PropertiesString(string(c)).BoundaryBefore() ||
			f >= utf8.RuneSelf && unicode.ToUpper(f) != f {
			t.Errorf("%U is not simple", c)
		}
		for _, s := range []string{string(c), "a" + string(c) + "1", string(c) + " 公" + string(c), "\u3000" + string(c) + "\ufeff"} {
			checkSimple(t, s)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	chars := []rune("aZ09 \t\r()[]-.,'\"x\x00\x7f\u00a0\u3000\ufeff\u200b\u0301甲有限公司（）【】、。“”‘’—–·ＡｚＸ０９　￥ｱﾞéÉßıǰ①ﬁ\u302a\u2011\u30fb\u2022")
	for range 30_000 {
		s := make([]rune, rng.IntN(9))
		for i := range s {
			s[i] = chars[rng.IntN(len(chars))]
		}
		checkSimple(t, string(s))
	}
}

// A date is what the standard library takes for one.
func TestIsDate(t *testing.T) {
	for _, year := range []int{0, 4, 1600, 1899, 1900, 1999, 2000, 2023, 2024, 9999} {
		for rest := range 10_000 {
			s := fmt.Sprintf("%04d%04d", year, rest)
			if _, err := time.Parse("20060102", s); (err == nil) != isDate([]byte(s)) {
				t.Errorf("%s: %v", s, err)
			}
		}
	}
}

// Rows that do not fit are counted, apart from the other faults, and the first
// is named by its place; their values are not.
func TestKeysUnfit(t *testing.T) {
	tab := texts(t, []any{"11010519491231002x"}, []any{" "}, []any{"SECRET"}, []any{"11010519491231002X"}, []any{"110105491231002"}, []any{"\xff"})
	k, err := Keys(context.Background(), located{tab}, RuleCNID18)
	var ke *KeyError
	if k != nil || !errors.As(err, &ke) {
		t.Fatalf("%v, %v", k, err)
	}
	want := "table: key k0: of 6 rows, 1 duplicate (first: people.csv line 5), 1 blank (first: people.csv line 3), " +
		"1 not valid UTF-8 or too long (first: people.csv line 7), 2 not of the form of cn-id18.v1 (first: people.csv line 4)"
	if err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	for _, is := range []error{ErrUnfitKeys, ErrDuplicateKeys, ErrBlankKeys, ErrBadKeys} {
		if !errors.Is(err, is) {
			t.Errorf("it is not %v", is)
		}
	}
	if _, err := Keys(context.Background(), texts(t, []any{"a"}), RuleCNID18); !errors.Is(err, ErrUnfitKeys) || errors.Is(err, ErrBadKeys) {
		t.Errorf("an unfit row alone: %v", err)
	}
}

// A column of integers is held to the rule as text is, part by part.
func TestKeysRuleOnColumns(t *testing.T) {
	get := func(rule KeyRule, rows ...[]any) ([]string, error) {
		k, err := Keys(context.Background(), texts(t, rows...), rule)
		if err != nil {
			return nil, err
		}
		var got []string
		for b := range k.All() {
			got = append(got, string(b))
		}
		return got, nil
	}
	for _, c := range []struct {
		rule KeyRule
		rows [][]any
		want []string
		err  error
	}{
		{RulePhoneCN, [][]any{{13800138000}, {13900139000}}, []string{"13800138000", "13900139000"}, nil},
		{RulePhoneCN, [][]any{{13800138000}, {138}}, nil, ErrUnfitKeys},
		{RuleCNID18, [][]any{{440524188001010014}}, []string{"440524188001010014"}, nil},
		{RuleCNID18, [][]any{{440524188001010015}}, nil, ErrUnfitKeys},
		{RuleNone, [][]any{{-5}}, []string{"-5"}, nil},
		{RulePhoneCN, [][]any{{"138 0013 8000", 13900139000}}, []string{"\x0b13800138000\x0b13900139000"}, nil},
		{RulePhoneCN, [][]any{{"138 0013 8000", "x"}}, nil, ErrUnfitKeys},
		{RuleNone, [][]any{{"a"}, {"A"}, {"a "}}, []string{"a", "A", "a "}, nil},
		{RuleCompanyName, [][]any{{"甲（乙）"}, {"甲 (乙)"}}, nil, ErrDuplicateKeys},
	} {
		got, err := get(c.rule, c.rows...)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s of %v: %q, %v", c.rule, c.rows, got, err)
		}
	}
}

func BenchmarkRules(b *testing.B) {
	for _, c := range []struct {
		rule KeyRule
		s    string
	}{
		{RuleID, "44052418800101001x"},
		{RuleID, "４４０５２４１８８００１０１００１ｘ"},
		{RuleNone, "44052418800101001x"},
		{RuleTrim, "44052418800101001x "},
		{RuleNFKC, "44052418800101001x"},
		{RuleCNID18, "440524188001010014"},
		{RuleUSCC, "91350100M000100Y43"},
		{RulePhoneCN, "13800138000"},
		{RulePhoneCN, "+86 138-0013-8000"},
		{RuleCompanyName, "Example Co., Ltd."},
		{RuleCompanyName, "示例（上海）有限公司"},
	} {
		b.Run(string(c.rule)+"/"+c.s, func(b *testing.B) {
			var dst []byte
			for b.Loop() {
				dst, _ = c.rule.Append(dst[:0], c.s)
			}
		})
	}
}
