package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/secret"
)

// The node's verbs and the platform's have folders of their own, whichever
// verb was declared last.
func TestDefaultHomes(t *testing.T) {
	t.Setenv("HOME", "/h")
	t.Setenv("YINQIAO_HOME", "")
	registry, err := Registry()
	if err != nil {
		t.Fatal(err)
	}
	c := &cli{registry: registry}
	c.root()
	if c.home != "/h/.yinqiao/node" || c.platform != "/h/.yinqiao/platform" {
		t.Errorf("node at %s, platform at %s", c.home, c.platform)
	}
}

// An enrolment that fails leaves the folder as it was, with what lay in it.
func TestFailedInitKeepsTheFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "clients.csv"), []byte("id\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, stderr strings.Builder
	// A well-formed code of a platform that is not there.
	code := catalog.Invite{Address: "127.0.0.1:1", PlatformKey: make([]byte, 32), Party: "bank", Secret: secret.New(make([]byte, catalog.InviteSecretSize))}.Code()
	got := Run(t.Context(), []string{"node", "init", "--home", dir, "--invite", code, "--listen", "127.0.0.1:1"}, nil, &out, &stderr)
	if got != exitFailed {
		t.Fatalf("exit code %d: %s", got, stderr.String())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "clients.csv" {
		t.Errorf("left %v, %v", left, err)
	}
}

// Who interrupts a job's display hears that, and that the job goes on.
func TestInterruptedWatch(t *testing.T) {
	var stderr strings.Builder
	c := &cli{err: &stderr}
	if code := c.report(interrupted{goesOn{errors.New("the call was cancelled"), "J-a", " --home ./bank"}}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	want := "error: interrupted\nhint: the job goes on: `yinqiao job watch J-a --home ./bank` follows it, `yinqiao job cancel J-a --home ./bank` ends it\n"
	if stderr.String() != want {
		t.Errorf("got %q, want %q", stderr.String(), want)
	}
}
