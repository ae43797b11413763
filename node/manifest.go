package node

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/yinqiao/yinqiao/internal/audit"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// manifestFormat is raised where a field changes its meaning.
const manifestFormat = "yinqiao.manifest.v1"

// manifest is what a recipient's result says of itself: what was asked for and
// granted, what was done, and which files came of it. The draft is staged with
// the result, so that it outlives a crash; the receipt completes it. It stands
// beside what the result's commitment covers, since it names the receipt, which
// holds that commitment. docs/operations.md documents it.
type manifest struct {
	Format    string `json:"format"`
	Job       string `json:"job"`
	Run       string `json:"run"` // the job of the run's first attempt
	Attempt   int64  `json:"attempt"`
	Session   string `json:"session"`
	Kind      string `json:"kind"`
	Initiator string `json:"initiator"`
	// Party is whose copy this is.
	Party   string        `json:"party"`
	Grant   manifestGrant `json:"grant"`
	Purpose string        `json:"purpose"`
	Scene   string        `json:"scene"`
	// Contract is the digest of the contract that all parties signed.
	Contract hexBytes `json:"contract"`
	// Request is the job's parameters, as the initiator wrote them.
	Request     json.RawMessage `json:"request"`
	Parties     []manifestParty `json:"parties"`
	Recipients  []string        `json:"recipients"`
	Assumptions []string        `json:"assumptions"`
	// Notes are the kind's own: rules in force, noise, parameters.
	Notes    json.RawMessage  `json:"notes"`
	Files    []manifestFile   `json:"files"`
	Software manifestSoftware `json:"software"`
	Receipt  *manifestReceipt `json:"receipt"`
}

type manifestGrant struct {
	ID     string   `json:"id"`
	Digest hexBytes `json:"digest"`
}

type manifestParty struct {
	Party  string          `json:"party"`
	Role   string          `json:"role"`
	Inputs []manifestInput `json:"inputs"`
}

type manifestInput struct {
	Entry   string   `json:"entry"`
	Version int64    `json:"version"`
	Digest  hexBytes `json:"digest"` // of the entry's signed registration
	Items   []string `json:"items"`
}

type manifestFile struct {
	Name   string   `json:"name"`
	Table  string   `json:"table,omitempty"`
	Format string   `json:"format"`
	Bytes  int64    `json:"bytes"`
	SHA256 hexBytes `json:"sha256"`
}

// manifestSoftware is versions of this program.
type manifestSoftware struct {
	Node      string `json:"node"` // that wrote the files
	Initiator string `json:"initiator"`
}

type manifestReceipt struct {
	Digest   hexBytes            `json:"digest"` // leaf hash in the log, the same at every party
	Index    uint64              `json:"index"`  // in this party's log
	Started  time.Time           `json:"started"`
	Finished time.Time           `json:"finished"`
	Signers  []string            `json:"signers"`
	Absent   []string            `json:"absent"`
	Rows     map[string]int64    `json:"rows"` // that each signer put in
	Counts   map[string]int64    `json:"counts"`
	Digests  map[string]hexBytes `json:"digests"`
}

// hexBytes are bytes that people compare.
type hexBytes []byte

// MarshalText writes lower-case hexadecimal.
func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// UnmarshalText reads hexadecimal.
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// draftManifest stages what is known before the receipt.
func (n *Node) draftManifest(dir string, c *contract, notes map[string]any, files []manifestFile) error {
	m := manifest{
		Format: manifestFormat, Job: c.GetJob(), Run: c.runOf(), Attempt: c.attempt(), Session: c.GetSession(), Kind: c.GetKind(),
		Initiator: c.GetInitiator(), Party: n.cfg.Party, Grant: manifestGrant{c.GetGrantId(), c.GetGrantDigest()},
		Purpose: c.GetPurpose(), Scene: c.GetScene(), Contract: c.digest, Request: c.GetParams(),
		Recipients: orEmpty(c.GetRecipients()), Assumptions: orEmpty(c.GetAssumptions()),
		Files: files, Software: manifestSoftware{n.version, c.GetSoftware()},
	}
	if len(m.Request) == 0 {
		m.Request = json.RawMessage("null")
	} else if !json.Valid(m.Request) { // of a kind that takes none and does not look
		b, err := json.Marshal(string(m.Request))
		if err != nil {
			return fmt.Errorf("node: manifest: %w", err)
		}
		m.Request = b
	}
	for _, p := range c.GetParties() {
		line := manifestParty{Party: p.GetParty(), Role: p.GetRole(), Inputs: []manifestInput{}}
		for _, in := range p.GetInputs() {
			line.Inputs = append(line.Inputs, manifestInput{in.GetEntry(), in.GetVersion(), in.GetEntryDigest(), orEmpty(in.GetItems())})
		}
		m.Parties = append(m.Parties, line)
	}
	if notes == nil {
		notes = map[string]any{}
	}
	var err error
	if m.Notes, err = readable(notes); err != nil {
		return err
	}
	b, err := readable(m)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, manifestName)
	return n.writeFile(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// orEmpty is a list that JSON writes as one.
func orEmpty(s []string) []string { return append([]string{}, s...) }

// readable is JSON for people.
func readable(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("node: manifest: %w", err)
	}
	return b.Bytes(), nil
}

// completeManifest enters the receipt into the manifest of a staged result. It
// may be repeated, and then writes the same bytes. A result that has no
// manifest stays without: this party is no recipient.
func (n *Node) completeManifest(dir string, receipt *signv1.Signed, ref audit.Ref) error {
	path := filepath.Join(dir, manifestName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node: manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		// The result itself is whole, and the receipt says that it is released.
		n.log.Error("the manifest of a result is damaged and stays without the receipt", slog.String("dir", filepath.Base(dir)))
		return nil
	}
	r, err := decodeReceipt(receipt)
	if err != nil {
		return err
	}
	m.Receipt = &manifestReceipt{
		Digest: ref.Digest, Index: ref.Index, Started: r.GetStarted().AsTime(), Finished: r.GetFinished().AsTime(),
		Signers: []string{}, Absent: orEmpty(r.GetAbsent()), Rows: map[string]int64{}, Counts: map[string]int64{}, Digests: map[string]hexBytes{},
	}
	for _, s := range receipt.GetSignatures() {
		m.Receipt.Signers = append(m.Receipt.Signers, s.GetSigner())
	}
	for _, p := range r.GetParties() {
		m.Receipt.Rows[p.GetParty()] = p.GetRows()
	}
	for k, v := range r.GetCounts() {
		m.Receipt.Counts[k] = v
	}
	for k, v := range r.GetDigests() {
		m.Receipt.Digests[k] = v
	}
	if b, err = readable(m); err != nil {
		return err
	}
	// The room was there for the draft; these few bytes more do not hold up a
	// result whose receipt is complete.
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("node: manifest: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("node: manifest: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("node: manifest: %w", err)
	}
	return nil
}
