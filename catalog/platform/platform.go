// Package platform is the reference platform: the authority that keeps the
// catalog, the roster of parties and the exchange requests, and signs grants.
// It sees metadata only, never a row.
//
// A request goes through these states; [catalogv1.RequestState] has them:
//
//	draft ─▶ submitted ─▶ accepted ─▶ granted ─▶ revoked
//	             │            │          │
//	             └──▶ refused ◀┘          └─▶ expired (also from every state left of granted)
//
// Accepting is the platform's formal check, by its staff or by itself
// (auto_accept). A request is granted once every provider of a conditionally
// shared entry has approved it; one refusal refuses it, with its reason. A
// provider that refuses after the grant revokes it.
//
// Every caller is known by the key of its TLS connection. Hello and Enrol are
// open to keys that belong to no party yet; the Admin service asks for the
// token in the platform's home folder instead. A party sees the catalog, and
// only those requests and grants that it is a party to; what it may not see is
// answered like what does not exist.
//
// State lives in the home folder, in a store whose every acknowledged write
// survives a crash.
package platform

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/secret"
	"github.com/yinqiao/yinqiao/internal/store"
	"github.com/yinqiao/yinqiao/internal/strictyaml"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// Files of the home folder.
const (
	ConfigFile  = "platform.yaml"
	KeyFile     = "platform.key" // seed of the signing key, hexadecimal
	storeKey    = "store.key"
	TokenFile   = "admin.token"
	AddressFile = "address" // where the running platform was last reached
	storeDir    = "store"
)

// Config is the platform's configuration. Its zero value, with Listen set,
// works.
type Config struct {
	Listen     string        `yaml:"listen"`       // host:port to listen on
	Advertise  string        `yaml:"advertise"`    // host:port that invites name; blank: the listener's
	AutoAccept bool          `yaml:"auto_accept"`  // accept what passes the formal checks, without a person
	StatusLife time.Duration `yaml:"status_life"`  // of statuses and rosters; 0: 60 s
	CodeTable  CodeTable     `yaml:"code_table"`   // blank: the canonical one
	MinFreeMiB int           `yaml:"min_free_mib"` // writes stop before the disk is fuller; 0: the store's default
}

// CodeTable is a platform's own code table: for every coded field, what its
// codes mean, in the canonical words. Fields left out are canonical.
type CodeTable struct {
	Name   string                       `yaml:"name"`
	Fields map[string]map[string]string `yaml:"fields"`
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(path, format string, args ...any) { errs = append(errs, strictyaml.Invalid(path, format, args...)) }
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("listen", "must be host:port")
	}
	if host, _, err := net.SplitHostPort(c.Advertise); c.Advertise != "" && (err != nil || host == "") {
		bad("advertise", "must be host:port")
	}
	if c.StatusLife != 0 && (c.StatusLife < 2*time.Second || c.StatusLife > time.Hour) {
		bad("status_life", "must be 2s to 1h")
	}
	if c.MinFreeMiB < 0 {
		bad("min_free_mib", "must not be negative")
	}
	if _, err := c.codeTable(); err != nil {
		bad("code_table", "%v", err)
	}
	return errors.Join(errs...)
}

func (c *Config) codeTable() (*catalog.CodeTable, error) {
	if c.CodeTable.Name == "" && len(c.CodeTable.Fields) == 0 {
		return catalog.Canonical(), nil
	}
	return catalog.NewCodeTable(c.CodeTable.Name, c.CodeTable.Fields)
}

func (c *Config) life() time.Duration {
	if c.StatusLife == 0 {
		return time.Minute
	}
	return c.StatusLife
}

// Init makes a home folder: keys, admin token and configuration. It refuses a
// folder that already is one.
func Init(home string, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("platform: init: %w", err)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("platform: init: %w", err)
	}
	key, err := suite.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	random := make([]byte, 64)
	if _, err := io.ReadFull(rand.Reader, random); err != nil {
		return fmt.Errorf("platform: init: %w", err)
	}
	// The signing key comes first and is never overwritten: it is the identity
	// that every node has pinned.
	for _, f := range []struct{ name, content string }{
		{KeyFile, hex.EncodeToString(key.Seed()) + "\n"},
		{storeKey, hex.EncodeToString(random[:32]) + "\n"},
		{TokenFile, base64.RawURLEncoding.EncodeToString(random[32:]) + "\n"},
		{ConfigFile, cfg.text()},
	} {
		if err := create(filepath.Join(home, f.name), f.content); err != nil {
			return fmt.Errorf("platform: init: %w", err)
		}
	}
	return nil
}

func create(path, content string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(content); err != nil {
		return err
	}
	return f.Sync()
}

// text writes the configuration with its explanations.
func (c *Config) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# where this platform listens\nlisten: %q\n", c.Listen)
	fmt.Fprintf(&b, "# host:port that invites name, if it differs\nadvertise: %q\n", c.Advertise)
	fmt.Fprintf(&b, "# accept requests that pass the formal checks without a person's review\nauto_accept: %v\n", c.AutoAccept)
	fmt.Fprintf(&b, "# life of statuses and rosters\nstatus_life: %s\n", c.life())
	fmt.Fprintf(&b, "# refuse to write when less is free; 0: the store's default\nmin_free_mib: %d\n", c.MinFreeMiB)
	if c.CodeTable.Name != "" {
		fmt.Fprintf(&b, "code_table:\n  name: %q\n  fields:\n", c.CodeTable.Name)
		for _, field := range slices.Sorted(keys(c.CodeTable.Fields)) {
			fmt.Fprintf(&b, "    %s:\n", field)
			for _, code := range slices.Sorted(keys(c.CodeTable.Fields[field])) {
				fmt.Fprintf(&b, "      %q: %q\n", code, c.CodeTable.Fields[field][code])
			}
		}
	}
	return b.String()
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// readPrivate reads a file that must be its owner's alone.
func readPrivate(path string) (string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others: chmod 600 it", path)
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

func readSeed(path string) ([]byte, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	seed, err := hex.DecodeString(text)
	if err != nil || len(seed) != 32 {
		return nil, fmt.Errorf("%s does not hold 32 bytes in hexadecimal", path)
	}
	return seed, nil
}

// Options are what Open takes besides the home folder; all may be left out.
type Options struct {
	Log     *slog.Logger     // nil: silent
	Version string           // of the software, for Hello
	Now     func() time.Time // nil: time.Now
}

// Server is the reference platform. It is safe for concurrent use.
type Server struct {
	catalogv1.UnimplementedPlatformServer
	admin adminServer

	cfg   Config
	home  string
	opt   Options
	key   *suite.Key
	token secret.Bytes
	table *catalog.CodeTable
	store *store.Store

	// write serialises everything that changes state, so that versions rise in
	// the order in which they are handed out.
	write  sync.Mutex
	roster atomic.Pointer[catalog.Roster]

	mu      sync.Mutex
	address string // for invites
}

// noHome says that a folder is not one made by Init.
func noHome(home string, err error) error {
	return fmt.Errorf("platform: %s holds no platform: run `yinqiao platform init` first, or name its folder with --home: %w", home, err)
}

// Open opens the platform in a home folder made by Init.
func Open(home string, opt Options) (*Server, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Server{home: home, opt: opt}
	s.admin.s = s
	if err := s.read(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, noHome(home, err)
		}
		return nil, fmt.Errorf("platform: %w", err)
	}
	// Whatever the configuration now says goes into a roster of its own.
	if _, err := update(s, func(t *tx) (*signv1.Signed, error) { return t.issueRoster(true) }); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	return s, nil
}

func (s *Server) read() error {
	if err := strictyaml.DecodeFile(filepath.Join(s.home, ConfigFile), &s.cfg); err != nil {
		return err
	}
	var err error
	if s.table, err = s.cfg.codeTable(); err != nil {
		return err
	}
	seed, err := readSeed(filepath.Join(s.home, KeyFile))
	if err != nil {
		return err
	}
	if s.key, err = suite.NewKey(seed); err != nil {
		return err
	}
	token, err := readPrivate(filepath.Join(s.home, TokenFile))
	if err != nil {
		return err
	}
	if len(token) < 32 {
		return fmt.Errorf("%s is too short to be a token", TokenFile)
	}
	s.token = secret.New([]byte(token))
	seal, err := readSeed(filepath.Join(s.home, storeKey))
	if err != nil {
		return err
	}
	s.address = s.cfg.Advertise
	s.store, err = store.Open(store.Config{
		Dir:          filepath.Join(s.home, storeDir),
		Key:          secret.New(seal),
		MinFreeBytes: uint64(s.cfg.MinFreeMiB) << 20,
		Log:          s.opt.Log,
	})
	return err
}

// Config returns the configuration the platform runs by.
func (s *Server) Config() Config { return s.cfg }

// PublicKey is what nodes pin.
func (s *Server) PublicKey() []byte { return s.key.Public() }

// CodeTable is the platform's.
func (s *Server) CodeTable() *catalog.CodeTable { return s.table }

// Close closes the store. Serve must have returned.
func (s *Server) Close() error { return s.store.Close() }
