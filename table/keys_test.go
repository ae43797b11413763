package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
	"pgregory.net/rapid"
)

func normalize(t testing.TB, s string) string {
	t.Helper()
	b, err := RuleID.Append(nil, s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRuleID(t *testing.T) {
	for _, c := range []struct{ why, in, want string }{
		{"plain", "442000198001011234", "442000198001011234"},
		{"leading zeros stay", "000123", "000123"},
		{"check digit x", "44200019800101123x", "44200019800101123X"},
		{"full-width digits", "４４２０００１９８００１０１１２３ｘ", "44200019800101123X"},
		{"full-width space at an end", "\u3000张三\u3000", "张三"},
		{"inner full-width space becomes a space", "张\u3000三", "张 三"},
		{"byte order mark in front", "\ufeff12", "12"},
		{"carriage return at the end", "12\r", "12"},
		{"tabs and line ends", "\t 12 \r\n", "12"},
		{"no-break spaces", "\u00a012\u202f", "12"},
		{"zero-width marks at the ends", "\u200b\u200e12\u200d\u2060", "12"},
		{"zero-width within stays", "1\u200b2", "1\u200b2"},
		{"mixed ends", " \ufeff\u3000 a \u200b ", "A"},
		{"NFD", "Zu\u0308rich", "ZÜRICH"},
		{"NFC", "Z\u00fcrich", "ZÜRICH"},
		{"ligature", "ﬁn", "FIN"},
		{"half-width katakana with voicing", "ｶﾞ", "ガ"},
		{"circled digit", "①", "1"},
		{"CJK compatibility ideograph", "\uf900", "\u8c48"},
		{"number text is not touched", "12.0", "12.0"},
		{"hyphens stay", "91-44-x", "91-44-X"},
		{"blank", " \u3000\ufeff\r\n", ""},
		{"empty", "", ""},
	} {
		if got := normalize(t, c.in); got != c.want {
			t.Errorf("%s: %+q, want %+q", c.why, got, c.want)
		}
	}
	if _, err := RuleID.Append(nil, "12\xb0\xa1"); err == nil {
		t.Error("invalid UTF-8 passed")
	}
	if b, _ := RuleID.Append([]byte("pre"), "x"); string(b) != "preX" {
		t.Errorf("Append gave %q", b)
	}
	if _, err := KeyRule("other").Append(nil, "x"); !errors.Is(err, ErrKeyRule) {
		t.Error("unknown rule passed")
	}
}

// The rule's claims hold for every character: it is idempotent, it folds
// width, and it makes cases agree wherever Unicode pairs them simply.
func TestRuleIDEveryRune(t *testing.T) {
	for c := rune(0); c <= unicode.MaxRune; c++ {
		if !utf8.ValidRune(c) {
			continue
		}
		s := string(c)
		n := normalize(t, s)
		if m := normalize(t, n); m != n {
			t.Errorf("%U: not idempotent: %+q then %+q", c, n, m)
		}
		if m := normalize(t, "\u3000"+s+"\ufeff"); m != n {
			t.Errorf("%U: the ends matter: %+q, %+q", c, n, m)
		}
		if f := width.LookupRune(c).Folded(); f != 0 && normalize(t, string(f)) != n {
			t.Errorf("%U: width not folded", c)
		}
		if l := unicode.ToLower(c); unicode.ToUpper(l) == c && normalize(t, string(l)) != n {
			t.Errorf("%U: %+q and its lower case %+q differ", c, n, normalize(t, string(l)))
		}
	}
}

func FuzzRuleID(f *testing.F) {
	for _, s := range []string{"", "44200019800101123x", "\ufeff１２", "Zu\u0308rich", "\xff", "\u0345\u0399", "ǰJ\u030c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := RuleID.Append(nil, s)
		if utf8.ValidString(s) != (err == nil) {
			t.Fatalf("valid %v, error %v", utf8.ValidString(s), err)
		}
		if err != nil {
			return
		}
		again, err := RuleID.Append(nil, string(b))
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("not idempotent: %+q then %+q (%v)", b, again, err)
		}
	})
}

func TestParseKeyRule(t *testing.T) {
	for _, s := range []string{"", "id.v1"} {
		if r, err := ParseKeyRule(s); r != RuleID || err != nil {
			t.Errorf("%q: %v, %v", s, r, err)
		}
	}
	if _, err := ParseKeyRule("ID.V1"); !errors.Is(err, ErrKeyRule) {
		t.Error("unknown rule accepted")
	}
}

// texts makes a table of key columns k0, k1, … and one float column v. A nil
// cell is missing.
func texts(t testing.TB, rows ...[]any) *Table {
	t.Helper()
	s := Schema{}
	for i, v := range rows[0] {
		typ := Text
		if _, ok := v.(int); ok {
			typ = Int
		}
		s = append(s, Column{Name: fmt.Sprintf("k%d", i), Type: typ, Key: true})
	}
	s = append(s, Column{Name: "v", Type: Float})
	b := NewBuilder(s)
	for _, row := range rows {
		for i, v := range row {
			switch v := v.(type) {
			case int:
				b.Ints(i).Append(int64(v))
			case string:
				b.Texts(i).Append(v)
			default:
				b.rb.Field(i).AppendNull()
			}
		}
		b.Floats(len(row)).Append(1)
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func keys(t testing.TB, src Source) []string {
	t.Helper()
	k, err := Keys(context.Background(), src, RuleID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for b := range k.All() {
		got = append(got, string(b))
	}
	if len(got) != k.Len() {
		t.Fatalf("All gave %d of %d", len(got), k.Len())
	}
	return got
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		why  string
		tab  *Table
		want []string
	}{
		{"text", texts(t, []any{"０1x"}, []any{"1X"}), []string{"01X", "1X"}},
		{"int", texts(t, []any{9007199254740993}, []any{-1}, []any{0}), []string{"9007199254740993", "-1", "0"}},
		{"composite", texts(t, []any{"a", "bc"}, []any{"ab", "c"}), []string{"\x01A\x02BC", "\x02AB\x01C"}},
		{"composite with int", texts(t, []any{1, "1"}, []any{11, "x"}), []string{"\x011\x011", "\x0211\x01X"}},
	} {
		if got := keys(t, c.tab); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
}

func TestKeysRefused(t *testing.T) {
	const secret = "SECRET"
	long := strings.Repeat("z", MaxKeyBytes+1)
	for _, c := range []struct {
		why  string
		tab  *Table
		want KeyError
		is   []error
	}{
		{
			"duplicates after normalisation",
			texts(t, []any{secret}, []any{"other"}, []any{" secret"}, []any{"ｓｅｃｒｅｔ"}),
			KeyError{Rows: 4, Duplicates: KeyFault{Count: 2, First: 3}},
			[]error{ErrDuplicateKeys},
		},
		{
			"blanks",
			texts(t, []any{secret}, []any{"\u3000"}, []any{nil}, []any{""}),
			KeyError{Rows: 4, Blanks: KeyFault{Count: 3, First: 2}},
			[]error{ErrBlankKeys},
		},
		{
			"both", texts(t, []any{secret}, []any{secret}, []any{nil}),
			KeyError{Rows: 3, Duplicates: KeyFault{Count: 1, First: 2}, Blanks: KeyFault{Count: 1, First: 3}},
			[]error{ErrDuplicateKeys, ErrBlankKeys},
		},
		{
			"a blank part", texts(t, []any{secret, "a"}, []any{secret, " "}),
			KeyError{Rows: 2, Blanks: KeyFault{Count: 1, First: 2}},
			[]error{ErrBlankKeys},
		},
		{
			"invalid UTF-8", texts(t, []any{secret}, []any{"\xc4\xe3"}),
			KeyError{Rows: 2, Bad: KeyFault{Count: 1, First: 2}},
			[]error{ErrBadKeys},
		},
		{
			"too long", texts(t, []any{secret}, []any{long}),
			KeyError{Rows: 2, Bad: KeyFault{Count: 1, First: 2}},
			[]error{ErrBadKeys},
		},
		{
			"too long together", texts(t, []any{long[:3000], long[:3000]}),
			KeyError{Rows: 1, Bad: KeyFault{Count: 1, First: 1}},
			[]error{ErrBadKeys},
		},
	} {
		k, err := Keys(context.Background(), c.tab, RuleID)
		var ke *KeyError
		if k != nil || !errors.As(err, &ke) {
			t.Errorf("%s: %v, %v", c.why, k, err)
			continue
		}
		got := *ke
		got.Columns, got.Rule = nil, ""
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", c.why, got, c.want)
		}
		for _, is := range []error{ErrDuplicateKeys, ErrBlankKeys, ErrBadKeys, ErrNoKey} {
			if errors.Is(err, is) != slices.Contains(c.is, is) {
				t.Errorf("%s: errors.Is(%v) = %v", c.why, is, errors.Is(err, is))
			}
		}
		if s := strings.ToUpper(err.Error()); strings.Contains(s, secret) || strings.Contains(s, "ZZZ") {
			t.Errorf("%s: the error tells the key: %v", c.why, err)
		}
	}
}

// located tells places the way a file does.
type located struct{ *Table }

func (located) Locate(_ context.Context, row int64) (string, error) {
	return fmt.Sprintf("people.csv line %d", row+1), nil
}

func TestKeysPlace(t *testing.T) {
	_, err := Keys(context.Background(), located{texts(t, []any{"a"}, []any{" "}, []any{"A"})}, RuleID)
	want := "table: key k0: of 3 rows, 1 duplicate (first: people.csv line 4), 1 blank (first: people.csv line 3)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestKeysSchema(t *testing.T) {
	ctx := context.Background()
	b := NewBuilder(Schema{{Name: "v", Type: Float}})
	tab, _ := b.Table()
	if _, err := Keys(ctx, tab, RuleID); !errors.Is(err, ErrNoKey) {
		t.Errorf("no key: %v", err)
	}
	b = NewBuilder(Schema{{Name: "v", Type: Float, Key: true}})
	tab, _ = b.Table()
	if _, err := Keys(ctx, tab, RuleID); !errors.Is(err, ErrType) {
		t.Errorf("float key: %v", err)
	}
	if _, err := Keys(ctx, tab, "other"); !errors.Is(err, ErrKeyRule) {
		t.Errorf("other rule: %v", err)
	}
	b = NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	tab, _ = b.Table()
	if k, err := Keys(ctx, tab, RuleID); err != nil || k.Len() != 0 {
		t.Errorf("empty table: %v, %v", k, err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Keys(done, texts(t, []any{"a"}), RuleID); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	defer func(n int) { maxKeys = n }(maxKeys)
	maxKeys = 2
	if _, err := Keys(ctx, texts(t, []any{1}, []any{2}, []any{3}), RuleID); !errors.Is(err, ErrTooManyRows) {
		t.Errorf("too many: %v", err)
	}
}

// Keys across blocks agree with a plain map, whatever their lengths.
func TestKeysBlocks(t *testing.T) {
	b := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	n := 2*keysPerBlock + 17
	want := make([]string, n)
	for i := range n {
		want[i] = strings.Repeat("A", i%7) + fmt.Sprint(i)
		b.Texts(0).Append(want[i])
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, tab); !slices.Equal(got, want) {
		t.Error("keys differ across blocks")
	}
	// The last repeats one of the first block.
	for i := range n {
		b.Texts(0).Append(want[i])
	}
	b.Texts(0).Append(want[1])
	tab, err = b.Table()
	if err != nil {
		t.Fatal(err)
	}
	var ke *KeyError
	if _, err := Keys(context.Background(), tab, RuleID); !errors.As(err, &ke) || ke.Duplicates.Count != 1 || ke.Duplicates.First != int64(n+1) {
		t.Errorf("repeat across blocks: %v", err)
	}
}

// Two composite keys are equal exactly if their normalised parts are.
func TestKeysComposite(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		part := rapid.StringMatching(`[aB|,１\x00]{1,4}`)
		a := []any{part.Draw(rt, "a0"), part.Draw(rt, "a1")}
		b := []any{part.Draw(rt, "b0"), part.Draw(rt, "b1")}
		same := normalize(t, a[0].(string)) == normalize(t, b[0].(string)) && normalize(t, a[1].(string)) == normalize(t, b[1].(string))
		_, err := Keys(context.Background(), texts(t, a, b), RuleID)
		if same != errors.Is(err, ErrDuplicateKeys) {
			rt.Fatalf("%q %q: same %v, error %v", a, b, same, err)
		}
	})
}

func TestKeySetMemory(t *testing.T) {
	const n = 1 << 18
	b := NewBuilder(Schema{{Name: "id", Type: Int, Key: true}})
	for i := range n {
		b.Ints(0).Append(int64(1e11) + int64(i))
	}
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	k, err := Keys(context.Background(), tab, RuleID)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	perKey := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / n
	if perKey > 12+4+2 {
		t.Errorf("%.1f bytes a key of 12", perKey)
	}
	runtime.KeepAlive(k)
	runtime.KeepAlive(tab)
}

func BenchmarkKeys(b *testing.B) {
	const n = 1 << 18
	tb := NewBuilder(Schema{{Name: "id", Type: Text, Key: true}})
	for i := range n {
		tb.Texts(0).Append(fmt.Sprintf("44200019%09dx", i))
	}
	tab, err := tb.Table()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Keys(context.Background(), tab, RuleID); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}
