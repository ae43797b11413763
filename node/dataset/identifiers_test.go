package dataset

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/table"
)

// The tests of this file go from the bytes of a file to the bytes that protocols
// compare, once for each thing that goes wrong with identifiers in practice.

// identified is a dataset with the given key columns, all of type typ.
func identified(path string, typ table.Type, names ...string) Dataset {
	d := Dataset{Name: "identified", Driver: "csv", Path: path}
	for _, n := range names {
		d.Columns = append(d.Columns, Column{Name: n, Type: typ, Key: true})
	}
	return d
}

// keysOf returns the keys of a file, which table.Keys and table.EachKey must
// give alike. Without an error the check must find none either.
func keysOf(t *testing.T, d Dataset, rule table.KeyRule) ([]string, error) {
	t.Helper()
	src, err := Open(context.Background(), d)
	if err != nil {
		return nil, err
	}
	var got []string
	k, err := table.Keys(context.Background(), src, rule)
	if err == nil {
		for key := range k.All() {
			got = append(got, string(key))
		}
		var streamed []string
		if _, err := table.EachKey(context.Background(), src, rule, nil, func(b table.KeyBatch, _ struct{}) error {
			for _, key := range b.All() {
				streamed = append(streamed, string(key))
			}
			return nil
		}); err != nil || !slices.Equal(got, streamed) {
			t.Errorf("Keys gives %q, EachKey %q, %v", got, streamed, err)
		}
	}
	rep, cerr := src.Check(context.Background(), rule, 10)
	if cerr != nil || (err == nil) != (len(rep.Faults) == 0) {
		t.Errorf("reading the keys gives %v, the check %v, %v", err, rep.Faults, cerr)
	}
	return got, err
}

// same fails unless every row of the file has the key want. Rows are told apart
// by a second key column, n.
func same(t *testing.T, rule table.KeyRule, want string, forms ...string) {
	t.Helper()
	content := "id,n\n"
	for i, f := range forms {
		content += fmt.Sprintf("%s,%c\n", f, 'a'+i)
	}
	d := identified(write(t, content), table.Text, "id", "n")
	got, err := keysOf(t, d, rule)
	if err != nil || len(got) != len(forms) {
		t.Fatalf("%s: %q, %v", rule, got, err)
	}
	for i, key := range got {
		n := string(rune('A' + i))
		if rule != table.RuleID && !strings.HasSuffix(key, n) {
			n = strings.ToLower(n)
		}
		if w := fmt.Sprintf("%c%s\x01%s", len(want), want, n); key != w {
			t.Errorf("%s: %+q has the key %q, want %q", rule, forms[i], key, w)
		}
	}
}

func TestIdentifierFullWidthDigits(t *testing.T) {
	same(t, table.RuleID, "440524188001010014", "440524188001010014", "４４０５２４１８８００１０１００１４", "４４０５２4188001010014")
	same(t, table.RuleNFKC, "13800138000", "１３８００１３８０００", "13800138000")
	same(t, table.RuleCompanyName, "示例(上海)有限公司", "示例（上海）有限公司", "示例(上海)有限公司", "示例（上海)有限公司")
	// In a column of integers they are a fault, not a number.
	_, err := keysOf(t, identified(write(t, "id\n12\n１２\n"), table.Int, "id"), table.RuleID)
	var e *Error
	if !errors.As(err, &e) || e.Rule != TypeInt || e.Line != 3 || e.Hint != keyTextHint {
		t.Errorf("full-width digits in an int: %v", err)
	}
}

func TestIdentifierNormalisationForms(t *testing.T) {
	same(t, table.RuleID, "ZÜRICH", "Zürich", "Zu\u0308rich", "ＺÜＲＩＣＨ")
	same(t, table.RuleNFKC, "Zürich", "Z\u00fcrich", "Zu\u0308rich")
	same(t, table.RuleID, "\u8c48", "\uf900", "\u8c48") // a compatibility ideograph
}

func TestIdentifierByteOrderMarkAndCRLF(t *testing.T) {
	for _, content := range []string{"\ufeffid\r\n007\r\n8\r\n", "id\n007\n8", "\ufeffid\n\ufeff007\n8\n", "id\r\n\"007\"\r\n\"8\"\r\n"} {
		got, err := keysOf(t, identified(write(t, content), table.Text, "id"), table.RuleID)
		if err != nil || !slices.Equal(got, []string{"007", "8"}) {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
}

func TestIdentifierSpacesAtTheEnds(t *testing.T) {
	forms := []string{"13800138000", "13800138000 ", " 13800138000", "\t13800138000", "13800138000\u3000", "\u00a013800138000\u200b", "\"13800138000\r\n\""}
	for _, rule := range []table.KeyRule{table.RuleID, table.RuleTrim, table.RuleNFKC} {
		same(t, rule, "13800138000", forms...)
	}
	d := identified(write(t, "id\n1 \n1\n"), table.Text, "id")
	if got, err := keysOf(t, d, table.RuleNone); err != nil || !slices.Equal(got, []string{"1 ", "1"}) {
		t.Errorf("bytes as they are: %q, %v", got, err)
	}
}

func TestIdentifierCheckDigitX(t *testing.T) {
	same(t, table.RuleID, "11010519491231002X", "11010519491231002x", "11010519491231002X", "１１０１０５１９４９１２３１００２ｘ")
	// A rule with a form refuses a wrong check digit, with its line, and the check
	// of the dataset says so as well.
	d := identified(write(t, "id\n11010519491231002x\n110105194912310021\n440524188001010014\n44052418800101001X\n"), table.Text, "id")
	_, err := keysOf(t, d, table.RuleCNID18)
	var ke *table.KeyError
	if !errors.As(err, &ke) || ke.Unfit.Count != 2 || ke.Unfit.First != 2 || !strings.HasSuffix(ke.Unfit.Place, " line 3") {
		t.Errorf("wrong check digits: %v", err)
	}
	src, err := Open(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := src.Check(context.Background(), table.RuleCNID18, 10)
	if err != nil || len(rep.Faults) != 1 || *rep.Faults[0] != (Error{File: d.Path, Line: 3, Column: "id", Rule: KeyUnfit, Hint: "the first of 2 by cn-id18.v1"}) {
		t.Errorf("check: %v, %v", rep.Faults, err)
	}
	if !strings.Contains(rep.Faults[0].Error(), ruleText[KeyUnfit]) {
		t.Errorf("%v", rep.Faults[0])
	}
	if rep, err := src.Check(context.Background(), table.RuleID, 10); err != nil || len(rep.Faults) != 0 {
		t.Errorf("check by a rule without form: %v, %v", rep.Faults, err)
	}
	d = identified(write(t, "id\n440524188001010014\n11010519491231002X\n"), table.Int, "id")
	var e *Error
	if _, err := keysOf(t, d, table.RuleCNID18); !errors.As(err, &e) || e.Rule != TypeInt || e.Line != 3 || e.Hint != keyTextHint {
		t.Errorf("an X in an int: %v", err)
	}
}

// A program that took identifiers for numbers has written them as such. Nothing
// turns them back, for their last digits may be gone.
func TestIdentifierWrittenAsFloat(t *testing.T) {
	for _, v := range []string{"110101199003070000.0", "1.1e17", "1.10101199003070E+17", "110101199003070000.", "1E5"} {
		content := "id\n440524188001010014\n" + v + "\n"
		var e *Error
		_, err := keysOf(t, identified(write(t, content), table.Int, "id"), table.RuleID)
		if !errors.As(err, &e) || e.Rule != TypeInt || e.Line != 3 || e.Column != "id" || e.Hint != keyFloatHint {
			t.Errorf("int column, %s: %v", v, err)
		}
		var ke *table.KeyError
		_, err = keysOf(t, identified(write(t, content), table.Text, "id"), table.RuleCNID18)
		if !errors.As(err, &ke) || ke.Unfit.Count != 1 || ke.Unfit.First != 2 {
			t.Errorf("text column, cn-id18.v1, %s: %v", v, err)
		}
		// As the rule states, id.v1 keeps the text and so matches no whole number.
		got, err := keysOf(t, identified(write(t, content), table.Text, "id"), table.RuleID)
		if err != nil || got[1] != strings.ToUpper(v) {
			t.Errorf("text column, id.v1, %s: %q, %v", v, got, err)
		}
	}
	if err := identified("x", table.Float, "id").Validate(); err == nil {
		t.Error("a key column may be float")
	}
	// Eighteen and nineteen digits are exact in a column of integers.
	got, err := keysOf(t, identified(write(t, "id\n110101199003070001\n9223372036854775807\n"), table.Int, "id"), table.RuleID)
	if err != nil || !slices.Equal(got, []string{"110101199003070001", "9223372036854775807"}) {
		t.Errorf("long integers: %q, %v", got, err)
	}
}

func TestIdentifierLeadingZeros(t *testing.T) {
	content := "id\n007\n7\n0\n00\n"
	got, err := keysOf(t, identified(write(t, content), table.Text, "id"), table.RuleID)
	if err != nil || !slices.Equal(got, []string{"007", "7", "0", "00"}) {
		t.Errorf("text: %q, %v", got, err)
	}
	var e *Error
	if _, err := keysOf(t, identified(write(t, content), table.Int, "id"), table.RuleID); !errors.As(err, &e) || e.Rule != KeyForm || e.Line != 2 {
		t.Errorf("int: %v", err)
	}
}

func TestIdentifierCompositeParts(t *testing.T) {
	content := "a,b\na,bc\nab,c\na|b,c\na,b|c\nabc,\"\x01\"\n"
	got, err := keysOf(t, identified(write(t, content), table.Text, "a", "b"), table.RuleID)
	if err != nil || !slices.Equal(got, []string{"\x01A\x02BC", "\x02AB\x01C", "\x03A|B\x01C", "\x01A\x03B|C", "\x03ABC\x01\x01"}) {
		t.Errorf("%q, %v", got, err)
	}
	// A blank part makes the key blank, whichever it is.
	var ke *table.KeyError
	if _, err := keysOf(t, identified(write(t, "a,b\nx,1\n,abc\nabc,\n"), table.Text, "a", "b"), table.RuleID); !errors.As(err, &ke) || ke.Blanks.Count != 2 || ke.Blanks.First != 2 {
		t.Errorf("blank parts: %v", err)
	}
}

func TestIdentifierBlankInput(t *testing.T) {
	for _, content := range []string{"id\n", "id", "\ufeffid\r\n", "id\n\n\r\n"} {
		if got, err := keysOf(t, identified(write(t, content), table.Text, "id"), table.RuleID); err != nil || len(got) != 0 {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	for content, rule := range map[string]Rule{"": HeaderMissing, "\n": HeaderMissing, "\ufeff": HeaderMissing, "id\n1\n\n2\n": RowBlank} {
		var e *Error
		if _, err := keysOf(t, identified(write(t, content), table.Text, "id"), table.RuleID); !errors.As(err, &e) || e.Rule != rule {
			t.Errorf("%q: %v", content, err)
		}
	}
	for _, rule := range table.KeyRules() {
		blank := "\"\"\nNULL\n"
		if rule != table.RuleNone {
			blank += "\u3000\n \n"
		}
		var ke *table.KeyError
		if _, err := keysOf(t, identified(write(t, "id\n"+blank), table.Text, "id"), rule); !errors.As(err, &ke) || ke.Blanks.Count != ke.Rows || ke.Blanks.First != 1 {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// Real lists of companies come through with the keys that encoding/csv and the
// rule give their fields, and those that stand for a missing value are counted:
// one company's symbol is NA, so its dataset has to say that NA is none.
func TestIdentifiersOfRealCompanies(t *testing.T) {
	for _, c := range []struct {
		file, key string
		missing   []string
		rows      int
		blanks    int64
	}{
		{"entities/nasdaq-listed-symbols.csv", "Symbol", []string{}, 5569, 0},
		{"entities/nasdaq-listed-symbols.csv", "Symbol", nil, 5569, 1},
		{"entities/nasdaq-listed-symbols.csv", "Security Name", nil, 5569, 0},
		{"sba_loans/SBAnational.csv", "LoanNr_ChkDgt", nil, 22427, 0},
		{"sba_loans/SBAnational.csv", "Name", []string{""}, 22427, 0},
		{"sba_loans/SBAnational.csv", "Name", nil, 22427, 3},
	} {
		content, err := os.ReadFile(filepath.Join(sharedData(t), filepath.FromSlash(c.file)))
		if err != nil {
			t.Skipf("no data: %v", err)
		}
		content, _, _ = bytes.Cut(content, []byte("File Creation Time")) // the footer of Nasdaq's list
		all, err := csv.NewReader(bytes.NewReader(content)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		d := Dataset{Name: "real", Driver: "csv", Path: write(t, string(content)), Missing: c.missing}
		for _, name := range all[0] {
			d.Columns = append(d.Columns, Column{Name: name, Type: table.Text, Key: name == c.key})
		}
		src, err := Open(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.Index(all[0], c.key)
		for _, rule := range []table.KeyRule{table.RuleID, table.RuleCompanyName} {
			rows := 0
			_, err := table.EachKey(context.Background(), src, rule, nil, func(b table.KeyBatch, _ struct{}) error {
				for i, key := range b.All() {
					field := all[1+b.First()+int64(i)][at]
					want, err := rule.Append(nil, field)
					if c.missing == nil && slices.Contains(missingDefault, field) {
						want = nil
					}
					if err != nil || !bytes.Equal(key, want) {
						return fmt.Errorf("row %d: key %q, want %q, %w", b.First()+int64(i), key, want, err)
					}
				}
				rows += b.Len()
				return nil
			})
			var ke *table.KeyError
			switch {
			case rows != c.rows || len(all) != 1+c.rows:
				t.Errorf("%s, %s, %s: %d rows of %d, %v", c.file, c.key, rule, rows, len(all)-1, err)
			case c.blanks == 0 && err != nil, c.blanks > 0 && (!errors.As(err, &ke) || ke.Blanks.Count != c.blanks || ke.Bad.Count+ke.Unfit.Count > 0):
				t.Errorf("%s, %s, %s: %v", c.file, c.key, rule, err)
			}
		}
	}
}

// sharedData finds the data sets that lie beside the checkout.
func sharedData(t *testing.T) string {
	t.Helper()
	if d := os.Getenv("YINQIAO_DATA"); d != "" {
		return d
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "..", "shared", "data")
		}
	}
	return ""
}
