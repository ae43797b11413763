package strictyaml

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type dataset struct {
	Name    string
	Columns []column
	Rows    int64  `yaml:"max_rows"`
	Path    string `yaml:"path"`
}

type column struct {
	Name string
	Type string
}

type limits struct {
	Jobs  uint8         `yaml:"max_jobs"`
	Idle  time.Duration `yaml:"idle"`
	Ratio float64       `yaml:"ratio"`
}

type shared struct {
	Party string
}

type config struct {
	shared   `yaml:",inline"`
	Listen   netip.AddrPort
	Datasets []dataset
	Limits   *limits
	Labels   map[string]string
	Params   JSON
	Debug    bool
	Count    int
	Hidden   string `yaml:"-"`
	internal string
}

const good = `# a node
party: zs-bank
listen: 127.0.0.1:7001
debug: true
count: -3
labels: {code: 0100, version: 1.10, note: yes}
datasets:
  - name: 客户
    max_rows: 30000
    columns:
      - {name: id, type: text}
      - name: amount
        type: float
limits:
  max_jobs: 4
  idle: 1m30s
  ratio: 1e-3
params:
  l2: 1e-3
  iterations: 25
  big: 123456789012345678901234567890
  tags: [a, "1", 2, 2.5, null, false]
  nested: {deep: 'it''s', half: .5, hex: 0x10}
`

func TestDecode(t *testing.T) {
	for _, src := range []string{good, strings.ReplaceAll(good, "\n", "\r\n"), "\ufeff" + good, "---\n" + good} {
		var c config
		if err := Decode(strings.NewReader(src), "node.yaml", &c); err != nil {
			t.Fatal(err)
		}
		want := config{
			shared:   shared{Party: "zs-bank"},
			Listen:   netip.MustParseAddrPort("127.0.0.1:7001"),
			Datasets: []dataset{{Name: "客户", Rows: 30000, Columns: []column{{"id", "text"}, {"amount", "float"}}}},
			Limits:   &limits{Jobs: 4, Idle: 90 * time.Second, Ratio: 1e-3},
			Labels:   map[string]string{"code": "0100", "version": "1.10", "note": "yes"},
			Params: JSON(`{"l2":1e-3,"iterations":25,"big":123456789012345678901234567890,` +
				`"tags":["a","1",2,2.5,null,false],"nested":{"deep":"it's","half":0.5,"hex":16}}`),
			Debug: true, Count: -3,
		}
		if !reflect.DeepEqual(c, want) {
			t.Fatalf("got  %+v %+v %s\nwant %+v %+v %s", c, c.Limits, c.Params, want, want.Limits, want.Params)
		}
	}
}

func TestDefaultsStay(t *testing.T) {
	for _, src := range []string{"", "\n# nothing\n", "---\n", "null\n", "datasets:\nlimits:\nlabels: ~\nparams:\n"} {
		c := config{Count: 7, Limits: &limits{Jobs: 3}, Datasets: []dataset{{Name: "x"}}}
		if err := Decode(strings.NewReader(src), "f", &c); err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		if c.Count != 7 || c.Limits.Jobs != 3 || len(c.Datasets) != 1 || c.Params != nil {
			t.Fatalf("%q: defaults changed: %+v", src, c)
		}
	}
	c := config{Limits: &limits{Jobs: 3, Ratio: 1}, Datasets: []dataset{{Name: "x"}, {Name: "y"}}}
	if err := Decode(strings.NewReader("limits: {max_jobs: 5}\ndatasets: []\n"), "f", &c); err != nil {
		t.Fatal(err)
	}
	if c.Limits.Jobs != 5 || c.Limits.Ratio != 1 || len(c.Datasets) != 0 {
		t.Fatalf("%+v %+v", c, c.Limits)
	}
}

func TestFaults(t *testing.T) {
	for _, tc := range []struct {
		src   string
		class error
		want  string
	}{
		{
			"datasets:\n  - name: a\n    colums: []\n", ErrUnknownKey,
			`n.yaml:3:5: unknown key "datasets[0].colums"; did you mean "columns"?`,
		},
		{"datasts: []\n", ErrUnknownKey, `n.yaml:1:1: unknown key "datasts"; did you mean "datasets"?`},
		{"hidden: x\n", ErrUnknownKey, `n.yaml:1:1: unknown key "hidden"; the nearest known key is "listen"`},
		{"internal: x\n", ErrUnknownKey, `n.yaml:1:1: unknown key "internal"; the nearest known key is "listen"`},
		{"Party: x\n", ErrUnknownKey, `n.yaml:1:1: unknown key "Party"; did you mean "party"?`},
		{"count: 1\ndebug: true\ncount: 2\n", ErrDuplicateKey, `n.yaml:3:1: count: the key is given twice, first on line 1`},
		{"params: {a: 1, a: 2}\n", ErrDuplicateKey, `n.yaml:1:16: params.a: the key is given twice, first on line 1`},
		{"labels:\n  a: 1\n  a: 2\n", ErrDuplicateKey, `n.yaml:3:3: labels.a: the key is given twice, first on line 2`},
		{"count: many\n", ErrType, `n.yaml:1:8: count: want a whole number, got text`},
		{"count: \"3\"\n", ErrType, `n.yaml:1:8: count: want a whole number, got text`},
		{"count: 1.5\n", ErrType, `n.yaml:1:8: count: want a whole number, got a number with a fraction`},
		{"count: 010\n", ErrType, `n.yaml:1:8: count: a whole number must not begin with 0`},
		{"count: 1_000\n", ErrType, `n.yaml:1:8: count: want a whole number, got text`},
		{"count: 99999999999999999999\n", ErrType, `n.yaml:1:8: count: the number does not fit in 64 bits`},
		{"count:\n", ErrType, `count: want a whole number, got nothing`},
		{"debug: yes\n", ErrType, `n.yaml:1:8: debug: want true or false, got text`},
		{"party: [a]\n", ErrType, `n.yaml:1:8: party: want text, got a list`},
		{"party: {a: b}\n", ErrType, `n.yaml:1:8: party: want text, got keys with values`},
		{"party:\n", ErrType, `party: want text, got nothing`},
		{"limits:\n  max_jobs: 300\n", ErrType, `n.yaml:2:13: limits.max_jobs: the number does not fit in 8 bits`},
		{"limits:\n  max_jobs: -1\n", ErrType, `n.yaml:2:13: limits.max_jobs: want a whole number that is not negative`},
		{"limits:\n  idle: soon\n", ErrType, `n.yaml:2:9: limits.idle: want a duration such as "30s" or "5m", got text`},
		{"limits:\n  idle: 5\n", ErrType, `n.yaml:2:9: limits.idle: want a duration such as "30s" or "5m", got a whole number`},
		{"limits:\n  ratio: .inf\n", ErrType, `n.yaml:2:10: limits.ratio: want a number, got a number that is not finite`},
		{"limits:\n  ratio: 1e999\n", ErrType, `n.yaml:2:10: limits.ratio: the number is not one this field can hold`},
		{"limits: 5\n", ErrType, `n.yaml:1:9: limits: want keys with values, got a whole number`},
		{"limits:\n- a\n", ErrType, `limits: want keys with values, got a list`},
		{"datasets: {a: b}\n", ErrType, `n.yaml:1:11: datasets: want a list, got keys with values`},
		{"datasets:\n  - name: a\n    columns:\n      - name: b\n      - name: [c]\n", ErrType, `n.yaml:5:15: datasets[0].columns[1].name: want text, got a list`},
		{"listen: nowhere\n", ErrInvalid, `n.yaml:1:9: listen: `},
		{"params: {code: 0100}\n", ErrType, `n.yaml:1:16: params.code: digits that begin with 0: quote them if they are a code`},
		{"params: {x: .nan}\n", ErrType, `n.yaml:1:13: params.x: want a value that JSON can hold, got a number that is not finite`},
		{"params:\n  1: x\n  1: y\n", ErrDuplicateKey, `n.yaml:3:3: params.1: the key is given twice, first on line 2`},
		{"params: {[a]: b}\n", nil, `n.yaml:1:`},
		{"- a\n", ErrType, `n.yaml:1:1: want keys with values, got a list`},
		{"party: a\n---\nparty: b\n", ErrUnsupported, `the file holds more than one document`},
		{"party: !!str a\n", ErrUnsupported, `party: tags are not supported`},
		{"limits: &l {max_jobs: 1}\nlabels:\n  <<: *l\n", ErrUnsupported, `labels: merge keys are not supported`},
		{"party: *nobody\n", ErrSyntax, `party: alias of an anchor that does not come before it`},
		{"params: &a [*a]\n", ErrSyntax, `params[0]: alias of an anchor that does not come before it`},
		{"party: 'open\n", ErrSyntax, `n.yaml:1:`},
		{"party: {a\n", ErrSyntax, `n.yaml:1:`},
		{"\tparty: a\n", ErrSyntax, `n.yaml:1:`},
		{"party: a\nlabels:\n  note: b\x00\n", ErrSyntax, `n.yaml:3:1: the line is not UTF-8 text, or holds a control character`},
		{"party: \xc4\xe3\n", ErrSyntax, `n.yaml:1:1: the line is not UTF-8 text`},
		{strings.Repeat("# x\n", MaxSize/4+1), ErrLimit, `n.yaml: the file is larger than 1048576 bytes`},
		{"params: " + strings.Repeat("[", 40_000), ErrLimit, `nested more than 64 deep`},
		{"params:\n  " + strings.Repeat("- ", 40_000) + "a", ErrLimit, `nested more than 64 deep`},
		{strings.Repeat("a:\n", 30_000), ErrLimit, `the file holds more than 50000 words and signs`},
		{"params: " + strings.Repeat("[", 70) + strings.Repeat("]", 70), ErrLimit, `nested more than 64 deep`},
	} {
		var c config
		err := Decode(strings.NewReader(tc.src), "n.yaml", &c)
		if err == nil {
			t.Errorf("%.60q: accepted as %+v", tc.src, c)
			continue
		}
		if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.60q:\n got %v\nwant %s", tc.src, err, tc.want)
		}
		if tc.class != nil && !errors.Is(err, tc.class) {
			t.Errorf("%.60q: class of %v is not %v", tc.src, err, tc.class)
		}
		if f, ok := errors.AsType[*Fault](err); !ok || f.File != "n.yaml" {
			t.Errorf("%.60q: no fault with a file in %v", tc.src, err)
		}
	}
}

// Neither values nor other lines of the file may appear in an error: it ends
// up in logs and on other people's screens.
func TestFaultsQuoteNoValue(t *testing.T) {
	const secret = "hunter2"
	for _, src := range []string{
		"party: hunter2\ncount: hunter2\n",
		"party: hunter2\nparty2: hunter2\n",
		"party: hunter2\nlimits: {idle: hunter2, max_jobs: hunter2, ratio: hunter2}\n",
		"party: hunter2\ndebug: hunter2\n",
		"party: hunter2\nlabels: {a: [hunter2]}\n",
		"party: hunter2\n  bad: indent\n",
		"party: hunter2\nlabels: {a: hunter2\n",
		"party: \"hunter2\nx: y",
		"party: hunter2\n---\nparty: hunter2",
		"party: hunter2\n\tlabels: x\n",
		"party: *hunter2\n",
		"party: hunter2\nparty: hunter2\n",
		"party: hunter2: hunter2\n",
		"party: |1hunter2\n hunter2\n",
		"party: ! hunter2\n",
		"party: @hunter2\n",
		"party: %hunter2\n",
		"party: [hunter2]]\n",
	} {
		var c config
		err := Decode(strings.NewReader(src), "n.yaml", &c)
		if err == nil {
			t.Errorf("%q accepted", src)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error shows the value: %v", src, err)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	var c config
	err := Decode(strings.NewReader("debug: 1\ncont: 2\nlimits:\n  idle: x\n  max_jobs: y\n"), "n.yaml", &c)
	want := strings.Join([]string{
		`n.yaml:1:8: debug: want true or false, got a whole number`,
		`n.yaml:2:1: unknown key "cont"; did you mean "count"?`,
		`n.yaml:4:9: limits.idle: want a duration such as "30s" or "5m", got text`,
		`n.yaml:5:13: limits.max_jobs: want a whole number, got text`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "k%d: 1\n", i)
	}
	err = Decode(strings.NewReader(many.String()), "n.yaml", &c)
	if n := strings.Count(err.Error(), "\n"); n != maxFaults || !strings.HasSuffix(err.Error(), "more faults follow") {
		t.Fatalf("%d lines: %v", n+1, err)
	}
}

type checked struct {
	Name   string
	Inner  inner
	Things []inner
}

type inner struct{ Size int }

func (i inner) Validate() error {
	if i.Size < 1 {
		return errors.Join(Invalid("size", "must be at least 1"), errors.New("is hopeless"))
	}
	return nil
}

func (c *checked) Validate() error {
	errs := []error{Under("inner", c.Inner.Validate())}
	for i, th := range c.Things {
		errs = append(errs, Under(fmt.Sprintf("things[%d]", i), th.Validate()))
	}
	if c.Name == "" {
		errs = append(errs, Invalid("name", "is blank"))
	}
	return errors.Join(errs...)
}

func TestValidator(t *testing.T) {
	var c checked
	err := Decode(strings.NewReader("inner:\n  size: 0\nthings:\n  - size: 3\n  - {}\n"), "n.yaml", &c)
	want := strings.Join([]string{
		`n.yaml:2:9: inner.size: must be at least 1`,
		`n.yaml:2:3: inner: is hopeless`,
		`n.yaml:5:5: things[1].size: must be at least 1`,
		`n.yaml:5:5: things[1]: is hopeless`,
		`n.yaml: name: is blank`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	if !errors.Is(err, ErrInvalid) {
		t.Fatal("class is lost")
	}
	c = checked{}
	if err := Decode(strings.NewReader("name: a\ninner: {size: 1}\n"), "n.yaml", &c); err != nil {
		t.Fatal(err)
	}
}

func TestAliases(t *testing.T) {
	var c config
	src := "datasets:\n  - &base {name: a, columns: &cols [{name: id, type: text}]}\n  - name: b\n    columns: *cols\nparams: [*base]\n"
	if err := Decode(strings.NewReader(src), "f", &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Datasets) != 2 || !reflect.DeepEqual(c.Datasets[0].Columns, c.Datasets[1].Columns) ||
		string(c.Params) != `[{"name":"a","columns":[{"name":"id","type":"text"}]}]` {
		t.Fatalf("%+v %s", c, c.Params)
	}
	// A billion laughs: each level doubles the one before ten times over.
	bomb := "params:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 10; i++ {
		bomb += fmt.Sprintf("  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	err := Decode(strings.NewReader(bomb), "f", &c)
	if !errors.Is(err, ErrLimit) {
		t.Fatalf("got %v", err)
	}
}

func TestLongTextBlocks(t *testing.T) {
	var c config
	if err := Decode(strings.NewReader("labels:\n  a: |\n    one\n    two\n  b: >-\n    one\n    two\n  c: \"x\\ty\"\n"), "f", &c); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"a": "one\ntwo\n", "b": "one two", "c": "x\ty"}; !reflect.DeepEqual(c.Labels, want) {
		t.Fatalf("%q", c.Labels)
	}
}

func TestDecodeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	var c config
	if err := DecodeFile(path, &c); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("cout: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := DecodeFile(path, &c); err == nil || !strings.HasPrefix(err.Error(), "node.yaml:1:1: ") {
		t.Fatalf("got %v", err)
	}
	if err := Decode(strings.NewReader(""), "f", c); err == nil {
		t.Fatal("a target that is no pointer was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	for _, s := range []string{"a: &a [*a]", "? a\n: b", "- - - a", "{a: {b: [c, 'd', \"e\"]}}", "a: |\n  b\n", "<<: {a: b}", "!!map {}", "%YAML 1.2\n---\na: b\n...\n", "params: {a: 1e5, b: -0, c: 0o7}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var c config
		if err := Decode(strings.NewReader(string(src)), "f", &c); err != nil {
			for _, e := range flatten(err) {
				if _, ok := errors.AsType[*Fault](e); !ok {
					t.Fatalf("not a fault: %v", e)
				}
			}
			return
		}
		if c.Params != nil && !json.Valid(c.Params) {
			t.Fatalf("invalid JSON %q from %q", c.Params, src)
		}
		if c.Hidden != "" || c.internal != "" {
			t.Fatal("a hidden field was set")
		}
	})
}
