package node

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/strictyaml"
	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/node/dataset"
)

// Home is a node's folder: node.yaml, its keys (readable by the owner alone),
// its store, its audit log, its results, and the sealed files of its jobs.
type Home struct{ Dir string }

// Paths inside a home.
func (h Home) path(name string) string { return filepath.Join(h.Dir, name) }

// ConfigFile is node.yaml.
func (h Home) ConfigFile() string { return h.path("node.yaml") }

// PersonsFile lists the operators and their roles.
func (h Home) PersonsFile() string { return h.path("persons.yaml") }

// AuditDir holds the audit log.
func (h Home) AuditDir() string { return h.path("audit") }

// TokenFile holds the token of one of the first persons, for the operator who
// sets the node up to hand on.
func (h Home) TokenFile(person string) string { return h.path("tokens/" + person + ".token") }

func (h Home) rosterFile() string { return h.path("roster.keys") }
func (h Home) publicFile() string { return h.path("node.pub") }
func (h Home) storeDir() string   { return h.path("store") }
func (h Home) resultDir() string  { return h.path("results") }
func (h Home) keyFile() string    { return h.path("node.key") }
func (h Home) storeKey() string   { return h.path("store.key") }
func (h Home) scratchDir() string { return h.path("scratch") }
func (h Home) cacheDir() string   { return h.path("cache") }
func (h Home) historyDir() string { return h.path("history") }

// ErrHomeExists is returned by Create for a folder that holds a node already.
var ErrHomeExists = errors.New("node: the home folder holds a node already")

// Create makes a new home with fresh keys. It refuses a folder that has one.
func (h Home) Create() (*suite.Key, error) {
	for _, f := range []string{h.keyFile(), h.ConfigFile()} {
		if _, err := os.Stat(f); err == nil {
			return nil, fmt.Errorf("%w: %s", ErrHomeExists, h.Dir)
		}
	}
	for _, d := range []string{h.Dir, h.storeDir(), h.resultDir(), h.AuditDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("node: home: %w", err)
		}
	}
	key, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	var sk [32]byte
	if _, err := rand.Read(sk[:]); err != nil {
		return nil, err
	}
	if err := writeNew(h.keyFile(), hex.EncodeToString(key.Seed())+"\n"); err != nil {
		return nil, err
	}
	if err := writeNew(h.storeKey(), hex.EncodeToString(sk[:])+"\n"); err != nil {
		return nil, err
	}
	return key, writeNew(h.publicFile(), EncodeKey(key.Public())+"\n")
}

// Undo removes what Create made, where nothing came of it. What else the folder
// holds stays, and so does the folder then.
func (h Home) Undo() error {
	var errs []error
	for _, f := range []string{h.keyFile(), h.storeKey(), h.publicFile()} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("node: home: %w", err))
		}
	}
	for _, d := range []string{h.storeDir(), h.resultDir(), h.AuditDir(), h.Dir} {
		_ = os.Remove(d) // only where it is empty
	}
	return errors.Join(errs...)
}

func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("node: home: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// WriteConfig writes the first node.yaml, with an example of a dataset in it.
func (h Home) WriteConfig(c Config) error {
	text := configHead + configLines(c) +
		"\n# The tables behind this node's catalog entries, for example:\n" +
		"#   - name: customers\n#     driver: csv\n#     path: customers.csv   # relative to this file\n" +
		"#     columns:\n#       - {name: id, type: int, key: true}\n#       - {name: balance, type: float}\n" +
		"datasets: []\n" +
		"\n# What this node takes part in, on top of what a grant allows. Empty lists narrow nothing.\npolicy: {}\n"
	return writeNew(h.ConfigFile(), text)
}

// ReplaceConfig writes node.yaml anew from c.
func (h Home) ReplaceConfig(c Config) error {
	type source struct {
		Name      string           `yaml:"name"`
		Driver    string           `yaml:"driver"`
		Path      string           `yaml:"path"`
		Columns   []dataset.Column `yaml:"columns"`
		Missing   *[]string        `yaml:"missing,omitempty"` // absent and empty differ
		Encoding  string           `yaml:"encoding,omitempty"`
		Delimiter string           `yaml:"delimiter,omitempty"`
		KeyRule   string           `yaml:"key_rule,omitempty"`
		Repeated  bool             `yaml:"repeated_keys,omitempty"`
	}
	sources := make([]source, len(c.Datasets))
	for i, d := range c.Datasets {
		sources[i] = source{
			Name: d.Name, Driver: d.Driver, Path: d.Path, Columns: d.Columns, Encoding: d.Encoding, Delimiter: d.Delimiter,
			KeyRule: string(d.KeyRule), Repeated: d.RepeatedKeys,
		}
		if d.Missing != nil {
			sources[i].Missing = &d.Missing
		}
	}
	body, err := yaml.Marshal(struct {
		Datasets []source `yaml:"datasets"`
		Policy   Policy   `yaml:"policy"`
	}{sources, c.Policy})
	if err != nil {
		return fmt.Errorf("node: config: %w", err)
	}
	tmp := h.ConfigFile() + ".new"
	if err := errors.Join(os.RemoveAll(tmp), writeNew(tmp, configHead+configLines(c)+string(body)), os.Rename(tmp, h.ConfigFile())); err != nil {
		return fmt.Errorf("node: config: %w", err)
	}
	return nil
}

const configHead = "# The configuration of this node. Every key is described in docs/operations.md.\n"

func configLines(c Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "party: %s\nlisten: %q\nadvertise: %q\napi: %q\n", c.Party, c.Listen, c.Advertise, c.API)
	if c.Metrics != "" {
		fmt.Fprintf(&b, "metrics: %q\n", c.Metrics)
	}
	fmt.Fprintf(&b, "platform:\n  address: %q\n  public_key: %s\n", c.Platform.Address, c.Platform.PublicKey)
	return b.String()
}

// Key reads the node's identity key.
func (h Home) Key() (*suite.Key, error) {
	seed, err := readHex(h.keyFile())
	if err != nil {
		return nil, err
	}
	return suite.NewKey(seed)
}

func readHex(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("node: no %s: run `yinqiao node init --invite CODE` first", filepath.Base(path))
	}
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("node: %s can be read by others than its owner: chmod 600 it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("node: %s does not hold a key", path)
	}
	return b, nil
}

func (h Home) storeSecret() (secret.Bytes, error) {
	b, err := readHex(h.storeKey())
	return secret.New(b), err
}

// Config reads and validates node.yaml.
func (h Home) Config() (Config, error) {
	var c Config
	if err := strictyaml.DecodeFile(h.ConfigFile(), &c); errors.Is(err, fs.ErrNotExist) {
		return c, h.noNode()
	} else if err != nil {
		return c, err
	}
	for i, d := range c.Datasets {
		c.Datasets[i] = d.In(h.Dir)
	}
	return c, nil
}

func (h Home) noNode() error {
	return fmt.Errorf("node: %s holds no node: run `yinqiao node init --invite CODE` first, or name its folder with --home", h.Dir)
}

// PublicKey reads the public half, which clients of the operator API pin.
func (h Home) PublicKey() ([]byte, error) {
	text, err := os.ReadFile(h.publicFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, h.noNode()
	}
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	k, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(k) != 32 {
		return nil, fmt.Errorf("node: %s does not hold a public key", h.publicFile())
	}
	return k, nil
}

// KnownKeys reads the public keys of the parties that the node last saw on the
// roster, for verifying its log offline.
func (h Home) KnownKeys() (map[string][]byte, error) {
	text, err := os.ReadFile(h.rosterFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	keys := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		id, k, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, err := base64.StdEncoding.DecodeString(k)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("node: %s does not hold keys", h.rosterFile())
		}
		keys[id] = key
	}
	return keys, nil
}

func (h Home) writeKnownKeys(keys map[string][]byte) error {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(&b, "%s %s\n", id, EncodeKey(keys[id]))
	}
	if old, err := os.ReadFile(h.rosterFile()); err == nil && string(old) == b.String() {
		return nil
	}
	tmp := h.rosterFile() + ".new"
	return errors.Join(os.WriteFile(tmp, []byte(b.String()), 0o600), os.Rename(tmp, h.rosterFile()))
}

// EncodeKey is how public keys stand in configuration files.
func EncodeKey(public []byte) string { return base64.StdEncoding.EncodeToString(public) }
