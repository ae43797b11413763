package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/job"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	"github.com/yinqiao/yinqiao/table"
)

const figureKind = "test.figure.v1"

// figureJob gives each party a table of statistics, one without a figure, and
// notes. The parameter wrong makes the figure name a column that is not there.
func figureJob() job.Definition {
	type params struct {
		Wrong bool   `json:"wrong"`
		Text  string `json:"text"`
		Name  string `json:"name"`
	}
	return job.Definition{
		Name: figureKind, Summary: "draws a table", Assumptions: []string{"none"},
		Roles: []job.RoleSpec{{Role: "left", Min: 1, Max: 1}, {Role: "right", Min: 1, Max: 1}},
		Reveals: func(s job.Spec) []job.Disclosure {
			d := []job.Disclosure{{Field: "cells", What: "how many cells"}, {Field: "rates", What: "rates"}, {Field: "list", What: "nothing"}, {Field: "values", What: "rates"}, {Field: "mask", What: "what is suppressed"}}
			return d
		},
		Validate: func(s job.Spec) error { return job.DecodeParams(s.Params, &params{}) },
		Run: func(ctx context.Context, env job.Env) (job.Result, error) {
			p := params{Name: "rates"}
			if err := job.DecodeParams(env.Spec.Params, &p); err != nil {
				return job.Result{}, err
			}
			if err := env.Session.Bind(ctx, figureKind); err != nil {
				return job.Result{}, err
			}
			b := table.NewBuilder(table.Schema{{Name: "year", Type: table.Int}, {Name: "rate", Type: table.Float}, {Name: "status", Type: table.Text}})
			for i := range 4 {
				b.Ints(0).Append(int64(2019 + i))
				if i == 2 {
					b.Floats(1).AppendNull()
					b.Texts(2).Append("suppressed")
				} else {
					b.Floats(1).Append(float64(i) / 8)
					b.Texts(2).Append("")
				}
			}
			rates, err := b.Table()
			if err != nil {
				return job.Result{}, err
			}
			fig := job.Figure{Title: "Rates <by> year", Categories: []string{"year"}, Values: []string{"rate"}, Status: "status"}
			if p.Wrong {
				fig.Values = []string{"none"}
			}
			return job.Result{
				Values:  map[string]any{},
				Tables:  map[string]table.Source{p.Name: rates, "list": rates},
				Figures: map[string]job.Figure{p.Name: fig},
				Notes:   map[string]any{"rules": map[string]any{"min_units": 10}, "noise": "none <at all>"},
				Counts:  map[string]int64{"cells": 4},
				Digests: map[string][]byte{"mask": bytes.Repeat([]byte{7}, 32)},
				Rows:    3,
			}, nil
		},
	}
}

// figures grants figureJob, with the bank as its only recipient.
func (w *world) figures() string {
	w.t.Helper()
	return w.granted(func(q *catalogv1.Request) {
		q.Computations[0].Kind = figureKind
		q.Recipients = []string{"bank"}
	})
}

// resultOf is what a party's operator sees of a result, and its files.
func (w *world) resultOf(party, id string) (*nodev1.GetResultReply, map[string][]byte) {
	w.t.Helper()
	var reply *nodev1.GetResultReply
	must(w.t, w.nodes[party].GetResult(w.ctx, &nodev1.GetResultRequest{Job: id}, func(r *nodev1.GetResultReply) error { reply = r; return nil }))
	files := map[string][]byte{}
	for _, f := range reply.GetFiles() {
		b, err := w.fetch(party, &nodev1.GetResultRequest{Job: id, File: f.GetName()})
		must(w.t, err)
		if int64(len(b)) != f.GetBytes() {
			w.t.Errorf("%s: %d bytes of %s, listed as %d", party, len(b), f.GetName(), f.GetBytes())
		}
		files[f.GetName()] = b
	}
	return reply, files
}

func (w *world) fetch(party string, req *nodev1.GetResultRequest) ([]byte, error) {
	var b []byte
	err := w.nodes[party].GetResult(w.ctx, req, func(r *nodev1.GetResultReply) error {
		b = append(b, r.GetChunk()...)
		return nil
	})
	return b, err
}

// TestFigures: a table of statistics is released in all formats with a
// manifest, to the recipient alone, and all of it is committed to.
func TestFigures(t *testing.T) {
	w := newWorld(t)
	grant := w.figures()
	const params = `{"text": "a < b & 违约", "name": "rates"}`
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant, Params: []byte(params)})
	must(t, err)
	bank, gov := w.ended("bank", id), w.ended("gov", id)
	if bank.GetState() != "done" || gov.GetState() != "done" {
		t.Fatalf("bank %s: %s, gov %s: %s", bank.GetState(), bank.GetReason(), gov.GetState(), gov.GetReason())
	}

	reply, files := w.resultOf("bank", id)
	names := make([]string, 0, len(files))
	for _, f := range reply.GetFiles() {
		names = append(names, f.GetName()+" "+f.GetTable()+" "+f.GetFormat())
	}
	want := []string{
		"list.csv list csv", "manifest.json  json", "notes.json  json",
		"rates.csv rates csv", "rates.json rates json", "rates.parquet rates parquet", "rates.svg rates svg", "values.json  json",
	}
	if !slices.Equal(names, want) || !slices.Equal(reply.GetTables(), []string{"list", "rates"}) {
		t.Fatalf("files %q, tables %q", names, reply.GetTables())
	}
	if csv := string(files["rates.csv"]); csv != "year,rate,status\n2019,0,\n2020,0.125,\n2021,,suppressed\n2022,0.375,\n" {
		t.Errorf("csv: %q", csv)
	}
	if csv, err := w.fetch("bank", &nodev1.GetResultRequest{Job: id, Table: "rates"}); err != nil || !bytes.Equal(csv, files["rates.csv"]) {
		t.Errorf("by the table's name: %q, %v", csv, err)
	}
	var rows struct{ Rows []map[string]any }
	must(t, json.Unmarshal(files["rates.json"], &rows))
	if len(rows.Rows) != 4 || rows.Rows[1]["rate"] != 0.125 || rows.Rows[2]["rate"] != nil {
		t.Errorf("json: %v", rows)
	}
	if !bytes.HasPrefix(files["rates.parquet"], []byte("PAR1")) || !bytes.HasSuffix(files["rates.parquet"], []byte("PAR1")) {
		t.Error("parquet: not such a file")
	}
	if err := xml.Unmarshal(files["rates.svg"], new(struct{})); err != nil || bytes.Count(files["rates.svg"], []byte(`class="bar"`)) != 3 {
		t.Errorf("svg: %v", err)
	}

	var m manifest
	must(t, json.Unmarshal(files["manifest.json"], &m))
	var request, notes map[string]any
	must(t, json.Unmarshal(m.Request, &request))
	must(t, json.Unmarshal(m.Notes, &notes))
	c := w.view("bank", id)
	switch {
	case m.Format != manifestFormat || m.Job != id || m.Run != id || m.Attempt != 1 || m.Kind != figureKind || m.Party != "bank" || m.Initiator != "bank":
		t.Errorf("manifest of %+v", m)
	case m.Grant.ID != grant || !bytes.Equal(m.Grant.Digest, c.GrantDigest) || !bytes.Equal(m.Contract, c.ContractDigest):
		t.Errorf("grant %+v, contract %x", m.Grant, m.Contract)
	case m.Purpose != "joint count" || m.Scene != "test" || !slices.Equal(m.Recipients, []string{"bank"}) || m.Software.Node != "test" || m.Software.Initiator != "test":
		t.Errorf("manifest of %+v", m)
	case request["text"] != "a < b & 违约" || notes["noise"] != "none <at all>":
		t.Errorf("request %v, notes %v", request, notes)
	case len(m.Parties) != 2 || m.Parties[1].Party != "gov" || m.Parties[1].Role != "right" || m.Parties[1].Inputs[0].Entry != govCode || m.Parties[1].Inputs[0].Version != 1 || !slices.Equal(m.Parties[1].Inputs[0].Items, []string{"id", "x"}):
		t.Errorf("parties %+v", m.Parties)
	case m.Receipt == nil || !bytes.Equal(m.Receipt.Digest, bank.GetReceipt().GetDigest()) || m.Receipt.Index != bank.GetReceipt().GetIndex():
		t.Errorf("receipt %+v", m.Receipt)
	case len(m.Receipt.Signers) != 2 || len(m.Receipt.Absent) != 0 || m.Receipt.Counts["cells"] != 4 || m.Receipt.Rows["gov"] != 3 || len(m.Receipt.Digests["mask"]) != 32:
		t.Errorf("receipt %+v", m.Receipt)
	case len(m.Files) != len(files)-1:
		t.Errorf("%d files in the manifest of %d", len(m.Files), len(files))
	}
	for _, f := range m.Files {
		sum := sha256.Sum256(files[f.Name])
		if !bytes.Equal(f.SHA256, sum[:]) || f.Bytes != int64(len(files[f.Name])) {
			t.Errorf("%s: sha-256 %x of %d bytes, want %x", f.Name, []byte(f.SHA256), f.Bytes, sum)
		}
	}
	if !bytes.Contains(files["manifest.json"], []byte(`"digest": "`+hex.EncodeToString(bank.GetReceipt().GetDigest()))) || bytes.Contains(files["manifest.json"], []byte(`\u003c`)) {
		t.Error("the manifest is not as people read it")
	}

	// The commitment is over every file but the manifest, in the order they were
	// written.
	receipts, _ := w.receiptsOf("bank", id)
	opening, err := w.nodes["bank"].store.Get("opening/" + id + "/result")
	must(t, err)
	again := audit.Commit(secret.New(opening), "result")
	for _, f := range m.Files {
		as := strings.TrimSuffix(f.Name, ".json")
		if f.Table != "" {
			as = "table " + f.Table
			if f.Format != "csv" {
				as += " " + f.Format
			}
		}
		fmt.Fprintf(again, "%s %d\n%s", as, f.Bytes, files[f.Name])
	}
	if !bytes.Equal(receipts[0].GetParties()[0].GetResultCommitment(), again.Sum()) {
		t.Error("the result's commitment is to other bytes")
	}

	reply, files = w.resultOf("gov", id)
	if len(files) != 1 || string(files["values.json"]) != "{}" || len(reply.GetTables()) != 0 {
		t.Errorf("gov, no recipient, has %v", reply)
	}
	for _, f := range []string{"rates.json", "manifest.json", "notes.json"} {
		if _, err := w.fetch("gov", &nodev1.GetResultRequest{Job: id, File: f}); err == nil {
			t.Errorf("gov has %s", f)
		}
	}
	if entries, err := os.ReadDir(w.nodes["gov"].published(id)); err != nil || len(entries) != 1 {
		t.Errorf("gov keeps %v, %v", entries, err)
	}
}

// TestResultFiles: nothing but the files of a result can be asked for.
func TestResultFiles(t *testing.T) {
	w := newWorld(t)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: w.figures()})
	must(t, err)
	w.ended("bank", id)
	dir := w.nodes["bank"].published(id)
	must(t, os.WriteFile(filepath.Join(dir, "mine.txt"), []byte("x"), 0o600))
	for _, f := range []string{"../" + id + "/values.json", "mine.txt", ".csv", "none.csv", "rates", "rates.svg.json", "/etc/passwd", "rates.CSV", "manifest.csv"} {
		if b, err := w.fetch("bank", &nodev1.GetResultRequest{Job: id, File: f}); err == nil || len(b) != 0 {
			t.Errorf("%s: %q, %v", f, b, err)
		}
		if b, err := w.fetch("bank", &nodev1.GetResultRequest{Job: id, Table: f + "."}); err == nil || len(b) != 0 {
			t.Errorf("table %s: %q, %v", f, b, err)
		}
	}
	if _, err := w.fetch("bank", &nodev1.GetResultRequest{Job: id, File: "rates.csv", Table: "rates"}); err == nil {
		t.Error("a table and a file at once")
	}
	if _, files := w.resultOf("bank", id); len(files) != 8 {
		t.Errorf("%d files", len(files))
	}
}

// TestFigureFails: a figure that does not fit its table, or whose name is taken,
// fails the job, and nobody has a part of the result.
func TestFigureFails(t *testing.T) {
	w := newWorld(t)
	grant := w.figures()
	for _, params := range []string{`{"wrong": true}`, `{"name": "values"}`, `{"name": "a b"}`} {
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant, Params: []byte(params)})
		must(t, err)
		if v := w.ended("bank", id); v.GetState() != "failed" {
			t.Errorf("%s: bank: %s", params, v.GetState())
		}
		if v := w.ended("gov", id); v.GetState() != "failed" {
			t.Errorf("%s: gov: %s", params, v.GetState())
		}
		w.noOutput()
	}
}

// TestManifestAfterCrash: a node that stops when the receipt is complete and
// the result is not out yet publishes the same manifest at its next start.
func TestManifestAfterCrash(t *testing.T) {
	w := newWorld(t)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: w.figures()})
	must(t, err)
	w.ended("bank", id)
	_, before := w.resultOf("bank", id)
	for _, cut := range []string{"the draft", "a half-written manifest", "the complete manifest", "a damaged draft"} {
		n := w.nodes["bank"]
		rec, err := n.load(id)
		must(t, err)
		rec.State = Releasing
		must(t, n.save(rec))
		w.stops["bank"]()
		must(t, os.Rename(n.published(id), n.staging(id)))
		path := filepath.Join(n.staging(id), manifestName)
		var m manifest
		must(t, json.Unmarshal(before[manifestName], &m))
		m.Receipt = nil
		draft, err := readable(m)
		must(t, err)
		switch cut {
		case "the draft":
			must(t, os.WriteFile(path, draft, 0o600))
		case "a half-written manifest":
			must(t, os.WriteFile(path, draft, 0o600))
			must(t, os.WriteFile(path+".new", before[manifestName][:100], 0o600))
		case "a damaged draft":
			must(t, os.WriteFile(path, draft[:len(draft)/2], 0o600))
		}
		w.start("bank")
		if v := w.ended("bank", id); v.GetState() != "done" {
			t.Fatalf("%s: %s", cut, v.GetState())
		}
		_, after := w.resultOf("bank", id)
		if cut == "a damaged draft" { // the result comes out all the same
			before[manifestName] = draft[:len(draft)/2]
		}
		for f := range before {
			if !bytes.Equal(before[f], after[f]) {
				t.Errorf("%s: %s is\n%s\nwant\n%s", cut, f, after[f], before[f])
			}
		}
		entries, err := os.ReadDir(w.nodes["bank"].published(id))
		if err != nil || len(entries) != len(before) {
			t.Errorf("%s: left behind: %v, %v", cut, entries, err)
		}
	}
}
