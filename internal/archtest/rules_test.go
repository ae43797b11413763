package archtest

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

const module = "github.com/yinqiao/yinqiao"

// everything in the place of a list allows every package of the module.
var everything = []string{"..."}

// rule says what a folder, and what is below it, may import of this module. A
// name ending in "/..." stands for a folder and all below it. The most specific
// rule counts. Packages under one rule may import each other.
type rule struct {
	folder string
	may    []string
	std    bool // of other modules nothing but golang.org/x/sync
	reason string
}

// What a protocol may use: sessions, jobs and tables, and no network, storage,
// catalog or policy.
var protocol = []string{"session", "session/errgroup", "job", "table", "scratch", "internal/wire", "internal/secret", "internal/suite", "internal/disclosure/..."}

var rules = []rule{
	{folder: "cmd/yinqiao", may: []string{"app"}},
	{folder: "cmd/yinqiao-sandbox", may: []string{"sandbox"}},
	{folder: "app", may: everything},
	{folder: "benchmarks", may: everything},
	{folder: "examples", reason: "an example that needs the module stands in a module of its own"},

	{
		folder: "node", may: []string{"node/...", "catalog", "session", "session/errgroup", "job", "table", "scratch", "internal/...", "proto/..."},
		reason: "a node knows jobs only as job.Definition",
	},
	{folder: "node/peer", may: []string{"session", "internal/wire", "internal/suite", "proto/..."}},
	{folder: "node/api", may: nodeFace},
	{folder: "node/console", may: nodeFace},
	{folder: "node/model", may: nodeFace},
	{folder: "node/dataset", may: []string{"table"}},
	{folder: "catalog", may: []string{"internal/...", "proto/..."}},
	{folder: "catalog/platform", may: []string{"catalog", "internal/...", "proto/..."}},

	{folder: "session", std: true, reason: "it is a public package"},
	{folder: "scratch", std: true, reason: "it is a public package"},
	{folder: "job", may: []string{"session", "table", "scratch", "internal/disclosure/rules"}, reason: "it is a public package"},
	{folder: "table", may: []string{"scratch", "session/errgroup"}, reason: "it is a public package"},

	{folder: "mpc", may: protocol},
	{folder: "psi", may: append([]string{"mpc/..."}, protocol...)},
	{
		folder: "psi/psitest", may: append([]string{"psi/...", "session/..."}, protocol...),
		reason: "it is what the tests of protocols share",
	},
	{folder: "fl", may: append([]string{"mpc/...", "psi/..."}, protocol...)},
	{folder: "sandbox", may: []string{"job", "table", "internal/disclosure/..."}},

	{folder: "proto"},
	{folder: "internal/wire", std: true},
	{folder: "internal/secret", std: true},
	{folder: "internal/archtest", std: true},
	{folder: "internal/disclosure", may: []string{"table", "scratch", "internal/disclosure/rules", "internal/wire"}},
	{folder: "internal/disclosure/rules", std: true, reason: "public packages name its types"},
	{folder: "internal/figure", may: []string{"job", "table"}},
	{folder: "internal/strictyaml"},
	{folder: "internal/suite", may: []string{"proto/yinqiao/sign/v1"}},
	{folder: "internal/store", may: []string{"internal/secret"}},
	{folder: "internal/audit", may: []string{"internal/store", "internal/suite", "internal/secret", "proto/..."}},
}

// The operator's side of a node holds tokens, TLS keys and YAML, too.
var nodeFace = []string{"node", "catalog", "job", "table", "proto/...", "internal/suite", "internal/secret", "internal/strictyaml"}

// kept says which packages alone may import a library.
var kept = []struct {
	library string
	by      []string
}{
	{"google.golang.org/grpc", []string{"node/...", "catalog/...", "app/...", "benchmarks/...", "proto/..."}},
	{"github.com/dgraph-io/badger", []string{"internal/store"}},
	{"github.com/transparency-dev/tessera", []string{"internal/audit"}},
	{"github.com/tuneinsight/lattigo", []string{"mpc/he/..."}},
	{"github.com/google/differential-privacy", []string{"internal/disclosure/..."}},
	{"github.com/tjfoc/gmsm", []string{"internal/suite"}},
	{"github.com/emmansun/gmsm", []string{"internal/suite"}},
	{"golang.org/x/sync/errgroup", []string{"session/errgroup"}},
}

// unreached says what must not be reached from a folder through any number of
// imports, own packages and libraries alike.
var unreached = []struct {
	from []string
	what []string
}{
	{[]string{"node/...", "catalog/..."}, []string{module + "/psi", module + "/mpc", module + "/fl", module + "/app"}},
	{
		[]string{"session/...", "job/...", "table/...", "mpc/...", "psi/...", "fl/...", "sandbox/..."},
		[]string{
			"google.golang.org/grpc", "github.com/dgraph-io/badger", "github.com/transparency-dev/tessera",
			module + "/node", module + "/catalog", module + "/internal/store", module + "/internal/audit",
		},
	},
}

// vague are names that say nothing of what a package is for.
var vague = []string{"util", "utils", "common", "helper", "helpers", "manager", "managers", "base"}

// pkg is what the go tool tells of one package.
type pkg struct {
	ImportPath string
	Name       string
	Imports    []string // of its files, tests left out
	Deps       []string // all of them, near and far
}

// check returns one line for every breach.
func check(pkgs []pkg) []string {
	var faults []string
	fault := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }
	layers := map[string]map[string]bool{}
	for _, p := range pkgs {
		name := local(p.ImportPath)
		if last := name[strings.LastIndexByte(name, '/')+1:]; slices.Contains(vague, p.Name) || slices.Contains(vague, last) {
			fault("%s: the name says nothing; call it after what it does", name)
		}
		r, ok := ruleOf(name)
		if !ok {
			fault("%s: no rule names this folder; add it to the table in internal/archtest and in docs/architecture.md", name)
			continue
		}
		from := layer(name)
		for _, imp := range p.Imports {
			if !inModule(imp) {
				if r.std && library(imp) && !under(imp, "golang.org/x/sync") {
					fault("%s imports %s: %s may import the standard library alone", name, imp, r.folder)
				}
				for _, k := range kept {
					if under(imp, k.library) && !matches(name, k.by) {
						fault("%s imports %s: only %s may", name, imp, strings.Join(k.by, ", "))
					}
				}
				continue
			}
			to := local(imp)
			same, _ := ruleOf(to)
			if same.folder != r.folder && !matches(to, r.may) {
				fault("%s imports %s: %s", name, to, r.allows())
			}
			if layers[from] == nil {
				layers[from] = map[string]bool{}
			}
			if layer(to) != from {
				layers[from][layer(to)] = true
			}
		}
		for _, u := range unreached {
			if !matches(name, u.from) {
				continue
			}
			for _, what := range u.what {
				if i := slices.IndexFunc(p.Deps, func(d string) bool { return under(d, what) }); i >= 0 {
					fault("%s reaches %s through its imports (go list -deps shows how)", name, p.Deps[i])
				}
			}
		}
	}
	if c := cycle(layers); c != nil {
		fault("layers import each other: %s", strings.Join(c, " -> "))
	}
	sort.Strings(faults)
	return faults
}

func (r rule) allows() string {
	s := r.folder + " may import "
	if len(r.may) == 0 {
		s += "nothing of this module"
	} else {
		s += strings.Join(r.may, ", ")
	}
	if r.reason != "" {
		s += " (" + r.reason + ")"
	}
	return s
}

func ruleOf(name string) (rule, bool) {
	var best rule
	for _, r := range rules {
		if under(name, r.folder) && len(r.folder) > len(best.folder) {
			best = r
		}
	}
	return best, best.folder != ""
}

// layer is the part of a package's path that the cycle check looks at.
func layer(name string) string {
	parts := strings.SplitN(name, "/", 3)
	if parts[0] == "internal" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// cycle returns layers that import each other, or nil.
func cycle(edges map[string]map[string]bool) []string {
	const visiting, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(string) []string
	visit = func(n string) []string {
		switch state[n] {
		case done:
			return nil
		case visiting:
			return append(slices.Clone(path[slices.Index(path, n):]), n)
		}
		state[n] = visiting
		path = append(path, n)
		next := make([]string, 0, len(edges[n]))
		for to := range edges[n] {
			next = append(next, to)
		}
		sort.Strings(next)
		for _, to := range next {
			if c := visit(to); c != nil {
				return c
			}
		}
		path = path[:len(path)-1]
		state[n] = done
		return nil
	}
	names := make([]string, 0, len(edges))
	for n := range edges {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if c := visit(n); c != nil {
			return c
		}
	}
	return nil
}

func inModule(path string) bool   { return under(path, module) }
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
func local(path string) string    { return strings.TrimPrefix(path, module+"/") }

// library reports whether a path is of another module: its first part is the
// name of a host.
func library(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".")
}

func matches(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if dir, ok := strings.CutSuffix(p, "/..."); ok {
			return under(name, dir)
		}
		return p == "..." || p == name
	})
}
