package archtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the module's folder, seen from this package.
const root = "../.."

func TestImports(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,Imports,Deps", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
	for _, known := range []string{"session", "internal/archtest"} {
		if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/"+known }) {
			t.Fatalf("go list does not know %s: this test looks at another module", known)
		}
	}
	for _, f := range check(pkgs) {
		t.Error(f)
	}
}

// The checker finds what it is for: each planted breach by its own line.
func TestCheckerFindsBreaches(t *testing.T) {
	m := func(names ...string) []string {
		var paths []string
		for _, n := range names {
			if strings.HasPrefix(n, "+") {
				paths = append(paths, n[1:])
			} else {
				paths = append(paths, module+"/"+n)
			}
		}
		return paths
	}
	clean := []pkg{
		{ImportPath: module + "/cmd/yinqiao", Name: "main", Imports: m("app")},
		{ImportPath: module + "/app", Name: "app", Imports: m("node", "psi", "fl", "catalog/platform", "+google.golang.org/grpc")},
		{ImportPath: module + "/node", Name: "node", Imports: m("node/peer", "catalog", "job", "internal/store", "+context")},
		{ImportPath: module + "/node/peer", Name: "peer", Imports: m("session", "internal/suite", "+google.golang.org/grpc/codes")},
		{ImportPath: module + "/catalog/platform", Name: "platform", Imports: m("catalog", "internal/store", "+google.golang.org/grpc")},
		{ImportPath: module + "/fl/logit", Name: "logit", Imports: m("fl/metrics", "mpc/he", "psi/ecdh", "session")},
		{ImportPath: module + "/mpc/he", Name: "he", Imports: m("mpc/share", "+github.com/tuneinsight/lattigo/v5/ring")},
		{ImportPath: module + "/session", Name: "session", Imports: m("+io", "session/errgroup", "+golang.org/x/sync/semaphore")},
		{ImportPath: module + "/internal/store", Name: "store", Imports: m("+github.com/dgraph-io/badger/v4")},
	}
	if faults := check(clean); len(faults) != 0 {
		t.Fatalf("a clean list has faults: %q", faults)
	}
	for _, c := range []struct {
		planted pkg
		want    []string // parts of one line
	}{
		{pkg{ImportPath: module + "/node/engine", Name: "engine", Imports: m("psi/ecdh")}, []string{"node/engine imports psi/ecdh", "job.Definition"}},
		{pkg{ImportPath: module + "/psi/new", Name: "new", Imports: m("internal/store")}, []string{"psi/new imports internal/store", "psi may import"}},
		{pkg{ImportPath: module + "/psi/new", Name: "new", Imports: m("fl/logit")}, []string{"psi/new imports fl/logit"}},
		{pkg{ImportPath: module + "/session", Name: "session", Imports: m("job")}, []string{"session imports job", "nothing of this module"}},
		{pkg{ImportPath: module + "/session", Name: "session", Imports: m("+google.golang.org/protobuf/proto")}, []string{"session imports google.golang.org/protobuf/proto", "standard library"}},
		{pkg{ImportPath: module + "/psi/new", Name: "new", Imports: m("+google.golang.org/grpc/status")}, []string{"psi/new imports google.golang.org/grpc/status", "only node/..."}},
		{pkg{ImportPath: module + "/catalog", Name: "catalog", Imports: m("+github.com/dgraph-io/badger/v4/y")}, []string{"catalog imports github.com/dgraph-io/badger/v4/y", "internal/store"}},
		{pkg{ImportPath: module + "/fl/gbdt", Name: "gbdt", Imports: m("+github.com/tuneinsight/lattigo/v5/ring")}, []string{"fl/gbdt imports github.com/tuneinsight", "mpc/he"}},
		{pkg{ImportPath: module + "/node/dataset", Name: "dataset", Imports: m("catalog")}, []string{"node/dataset imports catalog"}},
		{pkg{ImportPath: module + "/catalog", Name: "catalog", Imports: m("node/peer")}, []string{"catalog imports node/peer"}},
		{pkg{ImportPath: module + "/catalog", Name: "catalog", Imports: m("node/peer")}, []string{"layers import each other", "catalog -> node -> catalog"}},
		{pkg{ImportPath: module + "/cmd/yinqiao", Name: "main", Imports: m("node")}, []string{"cmd/yinqiao imports node"}},
		{pkg{ImportPath: module + "/internal/secret", Name: "secret", Imports: m("internal/wire")}, []string{"internal/secret imports internal/wire"}},
		{pkg{ImportPath: module + "/job", Name: "job", Deps: m("table", "+google.golang.org/grpc")}, []string{"job reaches google.golang.org/grpc"}},
		{pkg{ImportPath: module + "/node", Name: "node", Deps: m("mpc/he")}, []string{"node reaches", "mpc/he"}},
		{pkg{ImportPath: module + "/mpc/utils", Name: "utils"}, []string{"mpc/utils", "name says nothing"}},
		{pkg{ImportPath: module + "/mpc/fine", Name: "common"}, []string{"mpc/fine", "name says nothing"}},
		{pkg{ImportPath: module + "/internal/grab", Name: "grab"}, []string{"internal/grab", "no rule"}},
		{pkg{ImportPath: module + "/nodes", Name: "nodes"}, []string{"nodes: no rule"}}, // not under node
	} {
		faults := check(append(slices.Clone(clean), c.planted))
		if !slices.ContainsFunc(faults, func(f string) bool {
			return !slices.ContainsFunc(c.want, func(part string) bool { return !strings.Contains(f, part) })
		}) {
			t.Errorf("%s planted: no line has %q in %q", c.planted.ImportPath, c.want, faults)
		}
	}
}

const maxLines = 700

var generated = regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.$`)

func TestFilesAreShort(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, other := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || other == nil) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		seen++
		n := 0
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if n++; generated.MatchString(lines.Text()) {
				return nil
			}
		}
		if n > maxLines {
			rel, _ := filepath.Rel(root, path)
			t.Errorf("%s has %d lines: split it by what its parts do (at most %d)", rel, n, maxLines)
		}
		return lines.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("found %d files: this test looks in another place", seen)
	}
}

// TestGoroutinesAreContained: the code of protocols, and what reads their inputs,
// starts goroutines by session/errgroup alone. A panic on any other ends the node.
func TestGoroutinesAreContained(t *testing.T) {
	seen := 0
	for _, folder := range []string{"session", "table", "scratch", "job", "mpc", "psi", "fl", "sandbox", "internal/disclosure", "internal/figure"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "psitest" || d.Name() == "sessiontest"):
				return filepath.SkipDir // they serve tests
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			seen++
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if loose(n) {
					t.Errorf("%s: a goroutine whose panic nobody catches: use session/errgroup", files.Position(n.Pos()))
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 20 {
		t.Fatalf("found %d files: this test looks in another place", seen)
	}
}

// loose reports whether n is a go statement or names sync.WaitGroup.
func loose(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		return true
	case *ast.SelectorExpr:
		x, ok := n.X.(*ast.Ident)
		return ok && x.Name == "sync" && n.Sel.Name == "WaitGroup"
	}
	return false
}

func TestLooseGoroutinesAreFound(t *testing.T) {
	for code, want := range map[string]bool{
		"go f()":                        true,
		"var wg sync.WaitGroup":         true,
		"var g errgroup.Group; g.Go(f)": false,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "", "package p; func _() { "+code+" }", 0)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		ast.Inspect(f, func(n ast.Node) bool { found = found || loose(n); return true })
		if found != want {
			t.Errorf("%s: %v", code, found)
		}
	}
}
