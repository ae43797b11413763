package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

const childEnv = "STORE_TEST_CHILD"

// child writes for as long as it lives and names each write on stdout once the
// store has acknowledged it.
func child(dir string) {
	s, err := Open(Config{Dir: dir, Key: testKey()})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	from, err := s.Used("writes")
	if err != nil {
		fmt.Println("used:", err)
		os.Exit(1)
	}
	for i := from; ; i++ {
		key := strconv.FormatInt(i, 10)
		if _, err := s.Reserve("writes", key, 1<<40); err != nil {
			fmt.Println("reserve:", err)
			os.Exit(1)
		}
		// Large values make memtables turn over under the kill.
		if err := s.Put(key, append(make([]byte, 64<<10), key...)); err != nil {
			fmt.Println("put:", err)
			os.Exit(1)
		}
		fmt.Println(key)
	}
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	var acked []string // what the children said was done
	for round := range 10 {
		// The child's output goes through a pipe of our own, so that what it
		// wrote before its death is still read.
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(context.Background(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stdout, cmd.Stderr = w, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		kill := 1 + 23*round
		killed := false
		lines := bufio.NewScanner(r)
		for n := 0; lines.Scan(); n++ {
			if _, err := strconv.ParseInt(lines.Text(), 10, 64); err != nil {
				t.Fatalf("round %d: child says %q", round, lines.Text())
			}
			acked = append(acked, lines.Text())
			if n >= kill && !killed {
				killed = true
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.Close()
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		if round%3 != 0 {
			continue // the next child opens what this one left
		}
		s, err := Open(Config{Dir: dir, Key: testKey()})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, key := range acked {
			if v, err := s.Get(key); err != nil || string(v[64<<10:]) != key {
				t.Fatalf("round %d: acknowledged key %s: %v", round, key, err)
			}
		}
		// At most the write under way at each kill is counted beyond that, and
		// whoever reserved keeps it.
		used, err := s.Used("writes")
		if done := int64(len(acked)); err != nil || used < done || used > done+int64(round)+1 {
			t.Fatalf("round %d: %d acknowledged, %d counted (%v)", round, done, used, err)
		}
		if again, err := s.Reserve("writes", acked[0], used); err != nil || again != used {
			t.Fatalf("round %d: %d, %v", round, again, err)
		}
		if _, err := s.Reserve("writes", "stranger", used); !errors.Is(err, ErrExhausted) {
			t.Fatalf("round %d: the limit is not held after a crash: %v", round, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged writes over 10 kills", len(acked))
}
