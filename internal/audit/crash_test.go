package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/transparency-dev/tessera/api/layout"
)

const childEnv = "AUDIT_TEST_CHILD"

// child appends for as long as it lives and names each entry on stdout once it
// is published.
func child(dir string) {
	ctx := context.Background()
	l, err := Open(ctx, Config{Dir: dir, Party: "zs-bank", Key: bankKey})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	from, err := l.Size(ctx)
	if err != nil {
		fmt.Println("size:", err)
		os.Exit(1)
	}
	for i := int(from); ; i++ {
		ref, err := l.Append(ctx, eventLeaf(i))
		if err != nil {
			fmt.Println("append:", err)
			os.Exit(1)
		}
		fmt.Println(i, ref.Index)
	}
}

func TestKillLosesNoPublishedEntry(t *testing.T) {
	dir := t.TempDir()
	at := map[int]uint64{} // event number to its place
	for round := range 6 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stdout, cmd.Stderr = w, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		lines := bufio.NewScanner(r)
		for n := 0; lines.Scan(); n++ {
			a, b, _ := strings.Cut(lines.Text(), " ")
			i, err1 := strconv.Atoi(a)
			index, err2 := strconv.ParseUint(b, 10, 64)
			if err1 != nil || err2 != nil {
				t.Fatalf("round %d: child says %q", round, lines.Text())
			}
			at[i] = index
			if n == round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.Close()
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		// As it was left, and again after opening.
		if rep := verify(t, dir); !rep.OK() || rep.Size < uint64(len(at)) {
			t.Fatalf("round %d: %d acknowledged: %+v", round, len(at), rep)
		}
		l := openLog(t, dir)
		for i, index := range at {
			if ref := add(t, l, eventLeaf(i)); ref.Index != index {
				t.Fatalf("round %d: event %d was acknowledged at %d and is at %d", round, i, index, ref.Index)
			}
		}
		closeLog(t, l)
		if rep := verify(t, dir); !rep.OK() {
			t.Fatalf("round %d, reopened: %+v", round, rep)
		}
	}
	t.Logf("%d entries over 6 kills", len(at))
}

// What a kill can leave is cleaned away; what it cannot leave is refused.
func TestTornStates(t *testing.T) {
	const n = 5
	remove := func(rel string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, rel)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(rel, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, rel), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string)
		err  error
	}{
		"untouched":                   {func(*testing.T, string) {}, nil},
		"a file not yet renamed":      {write("tile/0/00012345", "x"), nil},
		"a checkpoint not yet there":  {write("checkpoint99", "x"), nil},
		"a bundle beyond the state":   {write("tile/entries/000.p/9", "torn"), nil},
		"state not yet renamed":       {write(".state/treeState1", "{"), nil},
		"state gone":                  {remove(".state/treeState"), ErrTorn},
		"state cut":                   {write(".state/treeState", `{"size":`), ErrTorn},
		"state of another size":       {write(".state/treeState", `{"size":4,"root":"AAAA"}`), ErrTorn},
		"checkpoint gone":             {remove(layout.CheckpointPath), ErrTorn},
		"checkpoint of an other text": {write(layout.CheckpointPath, "zs-bank\n"), ErrCheckpoint},
		"tiles gone":                  {remove("tile/0"), ErrTorn},
		"entries gone":                {remove("tile/entries"), ErrTorn},
		"last bundle cut":             {write("tile/entries/000.p/5", "\x00\x09x"), ErrTorn},
		"tile changed":                {write("tile/0/000.p/5", strings.Repeat("x", 5*32)), ErrTorn},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openLog(t, dir)
			fillLog(t, l, n)
			closeLog(t, l)
			c.harm(t, dir)
			l, err := Open(t.Context(), Config{Dir: dir, Party: "zs-bank", Key: bankKey})
			if !errors.Is(err, c.err) {
				t.Fatalf("open: %v", err)
			}
			if err != nil {
				return
			}
			if ref := add(t, l, receiptLeaf("x")); ref.Index != n {
				t.Errorf("the next entry went to %d", ref.Index)
			}
			closeLog(t, l)
			if r := verify(t, dir); !r.OK() || r.Size != n+1 {
				t.Errorf("%+v", r)
			}
		})
	}
}
