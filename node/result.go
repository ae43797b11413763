package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// The files of a result that hold no table.
const (
	valuesFile   = "values.json"
	notesFile    = "notes.json"
	manifestName = "manifest.json"
)

var (
	ownFiles      = []string{valuesFile, notesFile, manifestName}
	resultFormats = []string{"csv", "json", "parquet", "svg"}
)

// resultName takes the name of a result's file apart; false for a name that no
// such file has. The table is blank for the node's own files.
func resultName(file string) (table, format string, ok bool) {
	base, format, _ := strings.Cut(file, ".")
	if !plainTable(base) || !slices.Contains(resultFormats, format) {
		return "", "", false
	}
	if slices.Contains(ownFiles, file) {
		base = ""
	}
	return base, format, true
}

// resultFiles lists the files of a released result, sorted by name.
func resultFiles(dir string) ([]*nodev1.ResultFile, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, fmt.Errorf("node: result: %w", err)
	}
	var files []*nodev1.ResultFile
	for _, e := range entries {
		table, format, ok := resultName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("node: result: %w", err)
		}
		files = append(files, &nodev1.ResultFile{Name: e.Name(), Table: table, Format: format, Bytes: info.Size()})
	}
	return files, nil
}

// resultChunk is the size of one piece of a file, in bytes.
const resultChunk = 128 << 10

// GetResult sends a released result: its values and what files there are, or
// one of the files.
func (n *Node) GetResult(ctx context.Context, req *nodev1.GetResultRequest, send func(*nodev1.GetResultReply) error) error {
	r, err := n.load(req.GetJob())
	if err != nil {
		return err
	}
	if r.State != Done {
		return invalid("the job is %s, so there is no result", r.State)
	}
	dir := n.published(r.Job)
	name, what := req.GetFile(), "file"
	switch {
	case name != "" && req.GetTable() != "":
		return invalid("name a table or a file, not both")
	case req.GetTable() != "":
		name, what = req.GetTable()+".csv", "table"
	case name == "":
		return sendValues(dir, send)
	}
	if _, _, ok := resultName(name); !ok {
		return &NotFound{What: what}
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return &NotFound{What: what + " " + clip(strings.TrimSuffix(name, ".csv"), 64)}
	}
	defer f.Close()
	buf := make([]byte, resultChunk)
	for {
		k, err := io.ReadFull(f, buf)
		if k > 0 {
			if err := send(&nodev1.GetResultReply{Chunk: slices.Clone(buf[:k])}); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// sendValues sends the values of the result in dir, and what else it has.
func sendValues(dir string, send func(*nodev1.GetResultReply) error) error {
	values, err := os.ReadFile(filepath.Join(dir, valuesFile))
	if err != nil {
		return &NotFound{What: "result: it was removed from this node"}
	}
	reply := &nodev1.GetResultReply{Values: values}
	if reply.Files, err = resultFiles(dir); err != nil {
		return err
	}
	for _, f := range reply.Files {
		if f.GetFormat() == "csv" {
			reply.Tables = append(reply.Tables, f.GetTable())
		}
	}
	slices.Sort(reply.Tables)
	return send(reply)
}
