package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/yinqiao/yinqiao/app/files"
)

// preflight checks what a scenario needs of this program and of this machine,
// before anything is started and anybody signs: the job kinds, and the files of
// its datasets.
func (c *cli) preflight(s *files.Scenario, base string) error {
	var errs []error
	for i, k := range s.Request.Computations {
		if _, ok := c.registry.Lookup(k.Kind); !ok {
			errs = append(errs, fmt.Errorf("request.computations[%d].kind: no job kind %q: there are %s", i, k.Kind, strings.Join(c.registry.Names(), ", ")))
		}
	}
	missing := false
	for i, p := range s.Parties {
		for j, d := range p.Datasets {
			if _, err := os.Stat(d.In(base).Path); errors.Is(err, fs.ErrNotExist) {
				missing = true
				errs = append(errs, fmt.Errorf("parties[%d].datasets[%d].path: no such file %s", i, j, d.In(base).Path))
			}
		}
	}
	err := errors.Join(errs...)
	if readme := filepath.Join(base, "README.md"); missing {
		if _, stat := os.Stat(readme); stat == nil {
			return noData{err, readme}
		}
	}
	return err
}

// noData is a scenario without its tables, in a folder that says something of
// itself.
type noData struct {
	error
	readme string
}

func (e noData) Unwrap() error { return e.error }

// Hint says where to read on.
func (e noData) Hint() string { return e.readme + " says where the tables come from" }
