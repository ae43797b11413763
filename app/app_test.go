package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/yinqiao/yinqiao/app"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"yinqiao": func() { app.Main(ratesKind()) }})
}

// TestScripts runs the command line as a person does: testdata/script holds one
// story a file. $TINY is a scenario of two parties with six rows each, $EXAMPLES
// the folder of the shipped ones.
func TestScripts(t *testing.T) {
	tiny, err := filepath.Abs("testdata/tiny")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TINY", tiny)
			e.Setenv("EXAMPLES", examples)
			e.Setenv("TMPDIR", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"await":   await,
			"ports":   ports,
			"capture": capture,
			"match":   match,
			"mistype": mistype,
			"flip":    flip,
			"bytes":   writeBytes,
			"onejson": oneJSON,
			"field":   field,
			"replace": replace,
			"nothing": nothing,
		},
	})
}

// exits CODE COMMAND... runs a command that must end with this code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d\n%s%s", code, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// await ARG... runs yinqiao ARG... until it succeeds.
func await(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i, a := range args {
		if args[max(0, i-1)] == "--home" {
			args[i] = ts.MkAbs(a)
		}
	}
	var out bytes.Buffer
	for {
		out.Reset()
		if code := app.Run(ctx, args, strings.NewReader(""), &out, &out); code == 0 {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("yinqiao %s: %s", strings.Join(args, " "), out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ports NAME... sets variables to free addresses on the loopback interface.
func ports(ts *testscript.TestScript, neg bool, args []string) {
	addrs, err := app.FreePorts(len(args))
	ts.Check(err)
	for i, name := range args {
		ts.Setenv(name, addrs[i])
	}
}

// capture NAME sets a variable to what the last command printed.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// match NAME REGEXP sets a variable to the group in what the last command
// printed.
func match(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("no match of %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// mistype NAME FROM sets a variable to FROM's value with one letter changed.
func mistype(ts *testscript.TestScript, neg bool, args []string) {
	b := []byte(ts.Getenv(args[1]))
	i := len(b) / 2
	for b[i] == '-' || b[i] == '.' || b[i] == ':' {
		i++
	}
	if b[i] == 'a' || b[i] == 'A' {
		b[i]++
	} else {
		b[i] = 'a'
	}
	ts.Setenv(args[0], string(b))
}

// flip FILE changes one bit in the middle of a file; the pattern must match
// one file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("%s matches %d files", args[0], len(files))
	}
	b, err := os.ReadFile(files[0])
	ts.Check(err)
	b[len(b)/2] ^= 1
	info, err := os.Stat(files[0])
	ts.Check(err)
	ts.Check(os.Chmod(files[0], 0o600))
	ts.Check(os.WriteFile(files[0], b, info.Mode()))
	ts.Check(os.Chmod(files[0], info.Mode()))
}

// bytes FILE TEXT writes a Go string literal's bytes, for what a script file
// cannot hold.
func writeBytes(ts *testscript.TestScript, neg bool, args []string) {
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// onejson FILE holds the last command's output to exactly one JSON object with
// exactly the keys in FILE, one path a line.
func oneJSON(ts *testscript.TestScript, neg bool, args []string) {
	object := decodeOne(ts)
	paths := map[string]bool{}
	walk("", object, paths)
	var got []string
	for p := range paths {
		got = append(got, p)
	}
	slices.Sort(got)
	want := strings.Fields(ts.ReadFile(args[0]))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		ts.Fatalf("keys\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func decodeOne(ts *testscript.TestScript) map[string]any {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var object map[string]any
	ts.Check(dec.Decode(&object))
	if _, err := dec.Token(); err != io.EOF {
		ts.Fatalf("more than one object on standard output")
	}
	return object
}

// walk collects the paths of all leaves.
func walk(at string, v any, paths map[string]bool) {
	switch x := v.(type) {
	case map[string]any:
		for k, sub := range x {
			walk(strings.TrimPrefix(at+"."+k, "."), sub, paths)
		}
		if len(x) == 0 {
			paths[at+"{}"] = true
		}
	case []any:
		for _, sub := range x {
			walk(at+"[]", sub, paths)
		}
		if len(x) == 0 {
			paths[at+"[]"] = true
		}
	default:
		paths[at] = true
	}
}

// field NAME PATH sets a variable to a text in the last command's JSON object.
func field(ts *testscript.TestScript, neg bool, args []string) {
	var v any = decodeOne(ts)
	for _, k := range strings.Split(args[1], ".") {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	text, ok := v.(string)
	if !ok {
		ts.Fatalf("no text %s", args[1])
	}
	ts.Setenv(args[0], text)
}

// replace FILE OLD NEW replaces a text that must occur once.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if n := strings.Count(string(b), args[1]); n != 1 {
		ts.Fatalf("%q occurs %d times in %s", args[1], n, args[0])
	}
	ts.Check(os.WriteFile(path, []byte(strings.Replace(string(b), args[1], args[2], 1)), 0o600))
}

// nothing FOLDER checks that no file below it holds a text.
func nothing(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(args[1])) {
			ts.Fatalf("%s holds %q", path, args[1])
		}
		return err
	}))
}
