package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPersons(t *testing.T) {
	path := filepath.Join(t.TempDir(), PersonsFile)
	p, err := OpenPersons(path)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := p.List(); err != nil || len(l) != 0 {
		t.Fatalf("%v %v", l, err)
	}
	tokens := make(map[string]string)
	for name, role := range map[string]Role{"李伟": Operate, "null": Approve, "0100": Audit, "wang.fang@zs-bank": Operate} {
		if tokens[name], err = p.Add(name, role); err != nil {
			t.Fatal(err)
		}
		if raw, err := base64.RawURLEncoding.DecodeString(tokens[name]); err != nil || len(raw) != tokenBytes {
			t.Fatalf("token of %d bytes: %v", len(raw), err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	body, _ := os.ReadFile(path)
	again, err := OpenPersons(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range tokens {
		if strings.Contains(string(body), token) {
			t.Error("the file holds a token")
		}
		if id, err := again.Authenticate(token); err != nil || id.Name != name {
			t.Errorf("%s: %v %v", name, id, err)
		}
	}
	list, err := again.List()
	if err != nil || len(list) != 4 || list[0].Name != "0100" || list[0].Role != Audit || time.Since(list[0].Added) > time.Minute {
		t.Fatalf("%v %v", list, err)
	}

	if _, err := again.Add("李伟", Audit); !errors.Is(err, ErrPersonExists) {
		t.Errorf("a second role for one person: %v", err)
	}
	for _, name := range []string{"", " ", "a b", ".a", "a\n", "a:b", strings.Repeat("a", maxName+1), "e\u0301", "a\u200b"} {
		if _, err := again.Add(name, Audit); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	for _, role := range []Role{"", Any, "admin", "Operate"} {
		if _, err := again.Add("x", role); err == nil {
			t.Errorf("role %q was taken", role)
		}
	}
	if err := again.Remove("nobody"); !errors.Is(err, ErrNoPerson) {
		t.Errorf("%v", err)
	}
	if err := again.Remove("李伟"); err != nil {
		t.Fatal(err)
	}
	// p sees what again wrote.
	if _, err := p.Authenticate(tokens["李伟"]); !errors.Is(err, ErrToken) {
		t.Errorf("%v", err)
	}
	if _, err := p.Authenticate(tokens["null"]); err != nil {
		t.Errorf("%v", err)
	}
}

// A file that cannot be trusted lets nobody in, also when it was good before.
func TestPersonsFileFaults(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	line := "  - {name: a, role: operate, token_sha256: " + hash + ", added: 2026-01-02T03:04:05Z}\n"
	for name, tc := range map[string]struct {
		body, want string
		mode       os.FileMode
	}{
		"unknown key":   {"person:\n", `did you mean "persons"?`, 0o600},
		"two roles":     {"persons:\n" + line + strings.ReplaceAll(line, "operate", "audit"), "persons[1].name: is used twice", 0o600},
		"unknown role":  {"persons:\n" + strings.ReplaceAll(line, "operate", "any"), "persons[0].role: unknown role", 0o600},
		"short hash":    {"persons:\n" + strings.ReplaceAll(line, hash, hash[2:]), "persons[0].token_sha256: want 64 hexadecimal digits", 0o600},
		"no hash":       {"persons:\n  - {name: a, role: operate}\n", "persons[0].token_sha256", 0o600},
		"open to all":   {"persons:\n" + line, "chmod 600", 0o644},
		"open to group": {"persons:\n" + line, "chmod 600", 0o640},
	} {
		path := filepath.Join(t.TempDir(), PersonsFile)
		p, err := OpenPersons(path)
		if err != nil {
			t.Fatal(err)
		}
		token, err := p.Add("good", Operate)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", []byte(tc.body), tc.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := p.Authenticate(token); err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrToken) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := p.Add("more", Audit); err == nil {
			t.Errorf("%s: the file was overwritten", name)
		}
		if _, err := OpenPersons(path); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestPersonsTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), PersonsFile)
	var wg sync.WaitGroup
	for i := range 16 {
		p, err := OpenPersons(path) // as separate processes would
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			token, err := p.Add(fmt.Sprintf("p%02d", i), Operate)
			if err != nil {
				t.Error(err)
			} else if _, err := p.Authenticate(token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p, err := OpenPersons(path)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := p.List(); err != nil || len(l) != 16 {
		t.Fatalf("%d persons, %v", len(l), err)
	}
}
