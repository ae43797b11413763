package dataset

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"testing"

	"github.com/yinqiao/yinqiao/table"
)

// sample has one row of every oddity: missing values, an empty text, quotes.
func sample(t testing.TB) *table.Table {
	t.Helper()
	b := table.NewBuilder(table.Schema{
		{Name: "id", Type: table.Text, Key: true},
		{Name: "n", Type: table.Int},
		{Name: "x", Type: table.Float},
		{Name: "s", Type: table.Text},
	})
	b.Texts(0).AppendValues([]string{"a", "b", "c"}, nil)
	b.Ints(1).AppendValues([]int64{math.MaxInt64, 0, -3}, []bool{true, false, true})
	b.Floats(2).AppendValues([]float64{0.1, 1e300, 0}, []bool{true, true, false})
	b.Texts(3).AppendValues([]string{"say \"hi\",\nyou", "", "张"}, []bool{true, false, true})
	tab, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestDigest(t *testing.T) {
	ctx := context.Background()
	digest := func(s table.Source) string {
		t.Helper()
		d, err := Digest(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(d)
	}
	whole := digest(sample(t))
	// Worked out from the documented encoding by an independent program.
	if want := "6273b8a5304fdc89828dc00d78d17e84ae66a9d1fd3f7ce294a3d1a6a4d21d16"; whole != want {
		t.Errorf("digest %s, want %s", whole, want)
	}

	seen := map[string]string{whole: "the table"}
	differ := func(why string, s table.Source) {
		t.Helper()
		d := digest(s)
		if other, ok := seen[d]; ok {
			t.Errorf("%s digests like %s", why, other)
		}
		seen[d] = why
	}
	take := func(rows ...int) *table.Table {
		tab, err := table.Take(ctx, sample(t), rows)
		if err != nil {
			t.Fatal(err)
		}
		return tab
	}
	differ("another order", take(1, 0, 2))
	differ("a row fewer", take(0, 1))
	differ("a row twice", take(0, 1, 2, 2))
	sel, err := table.Select(sample(t), []string{"id", "n", "s", "x"})
	if err != nil {
		t.Fatal(err)
	}
	differ("another column order", sel)
	// one returns a table of one cell; nil is missing.
	one := func(c table.Column, v any) *table.Table {
		b := table.NewBuilder(table.Schema{c})
		switch v := v.(type) {
		case int:
			b.Ints(0).Append(int64(v))
		case float64:
			b.Floats(0).Append(v)
		case string:
			b.Texts(0).Append(v)
		default:
			switch c.Type {
			case table.Int:
				b.Ints(0).AppendNull()
			case table.Float:
				b.Floats(0).AppendNull()
			default:
				b.Texts(0).AppendNull()
			}
		}
		tab, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		return tab
	}
	for _, c := range []struct {
		c table.Column
		v any
	}{
		{table.Column{Name: "a", Type: table.Int}, 0},
		{table.Column{Name: "a", Type: table.Int, Key: true}, 0},
		{table.Column{Name: "b", Type: table.Int}, 0},
		{table.Column{Name: "a", Type: table.Int}, nil},
		{table.Column{Name: "a", Type: table.Float}, 0.0},
		{table.Column{Name: "a", Type: table.Float}, math.Copysign(0, -1)},
		{table.Column{Name: "a", Type: table.Text}, ""},
		{table.Column{Name: "a", Type: table.Text}, nil},
	} {
		differ(fmt.Sprint(c), one(c.c, c.v))
	}
}

// The digest of a file is that of its content: not of its line ends, batches or
// column order in the file.
func TestDigestFile(t *testing.T) {
	plain, other := header, "\ufeffcity,\"income\",age,id\r\n"
	for i := range batchRows + 10 {
		plain += fmt.Sprintf("k%d,%d,2.50,x\n", i, i)
		other += fmt.Sprintf("x,2.5,%d,\"k%d\"\r\n", i, i)
	}
	var want string
	for _, content := range []string{plain, other} {
		src, err := Open(context.Background(), people(write(t, content)))
		if err != nil {
			t.Fatal(err)
		}
		d, err := Digest(context.Background(), src)
		if err != nil {
			t.Fatal(err)
		}
		rows := make([]int, batchRows+10)
		for i := range rows {
			rows[i] = i
		}
		tab, err := table.Take(context.Background(), src, rows) // one batch
		if err != nil {
			t.Fatal(err)
		}
		m, err := Digest(context.Background(), tab)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = hex.EncodeToString(d)
		}
		if hex.EncodeToString(d) != want || hex.EncodeToString(m) != want {
			t.Errorf("digests %x and %x, want %s", d, m, want)
		}
	}
	src, err := Open(context.Background(), people(write(t, header+"a,x,2,x\n")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Digest(context.Background(), src); err == nil {
		t.Error("digest of a bad file")
	}
}

// What other columns there are does not count in the fingerprint of the keys,
// and everything about the keys does.
func TestKeyFingerprint(t *testing.T) {
	build := func(name string, key bool, keys ...string) table.Source {
		tb := table.NewBuilder(table.Schema{{Name: name, Type: table.Text, Key: key}, {Name: "v", Type: table.Int}})
		for i, k := range keys {
			tb.Texts(0).Append(k)
			tb.Ints(1).Append(int64(i))
		}
		src, err := tb.Table()
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	of := func(src table.Source) string {
		d, err := Read(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		return d.KeyFingerprint()
	}
	whole := build("id", true, "a", "b")
	alone, err := table.Select(whole, []string{"id"})
	if err != nil {
		t.Fatal(err)
	}
	if of(whole) != of(alone) {
		t.Error("a column that is no key counts")
	}
	for what, other := range map[string]table.Source{
		"another key":   build("id", true, "a", "c"),
		"another order": build("id", true, "b", "a"),
		"fewer rows":    build("id", true, "a"),
		"another name":  build("no", true, "a", "b"),
		"no key":        build("id", false, "a", "b"),
	} {
		if of(whole) == of(other) {
			t.Errorf("%s has the same fingerprint", what)
		}
	}
}
