package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"
	"golang.org/x/text/unicode/norm"

	"github.com/yinqiao/yinqiao/internal/strictyaml"
)

// PersonsFile is the usual name of the file in a node's home.
const PersonsFile = "persons.yaml"

const (
	tokenBytes = 32
	maxPersons = 1000
	maxName    = 64 // characters
)

var (
	// ErrToken is returned for a token of nobody.
	ErrToken = errors.New("api: the token is not one of this node's persons")
	// ErrPersonExists is returned when a person is added twice.
	ErrPersonExists = errors.New("api: a person of this name exists already")
	// ErrNoPerson is returned for a name that is not listed.
	ErrNoPerson = errors.New("api: no person of this name")
)

// Persons is the file that lists who may call: names, roles and hashes of
// tokens. Several processes may use one file; each sees the others' changes.
// It is safe for concurrent use.
type Persons struct {
	path string

	mu   sync.Mutex
	seen os.FileInfo // the version of the file that list was read from
	list []record
	err  error // why that version could not be read
}

// Listed is what may be shown of a person.
type Listed struct {
	Identity
	Added time.Time
}

// record is a person in the file.
type record struct {
	Name  string    `yaml:"name"`
	Role  Role      `yaml:"role"`
	Token string    `yaml:"token_sha256"` // hex
	Added time.Time `yaml:"added"`

	hash [sha256.Size]byte
}

type personsFile struct {
	Persons []record `yaml:"persons"`
}

// Validate reports every fault of the file.
func (f *personsFile) Validate() error {
	var errs []error
	if len(f.Persons) > maxPersons {
		return strictyaml.Invalid("persons", "more than %d", maxPersons)
	}
	names := make(map[string]bool)
	for i := range f.Persons {
		p := &f.Persons[i]
		at := fmt.Sprintf("persons[%d].", i)
		if err := checkName(p.Name); err != nil {
			errs = append(errs, strictyaml.Invalid(at+"name", "%s", reason(err)))
		} else if names[p.Name] {
			errs = append(errs, strictyaml.Invalid(at+"name", "is used twice: a person has one role"))
		}
		names[p.Name] = true
		if _, err := ParseRole(string(p.Role)); err != nil {
			errs = append(errs, strictyaml.Invalid(at+"role", "%s", reason(err)))
		}
		if n, err := hex.Decode(p.hash[:], []byte(p.Token)); len(p.Token) != 2*sha256.Size || err != nil || n != sha256.Size {
			errs = append(errs, strictyaml.Invalid(at+"token_sha256", "want %d hexadecimal digits", 2*sha256.Size))
		}
	}
	return errors.Join(errs...)
}

func reason(err error) string { return strings.TrimPrefix(err.Error(), "api: ") }

// checkName takes letters of any script, digits and . _ - @ within a name.
func checkName(name string) error {
	if name == "" || utf8.RuneCountInString(name) > maxName || !norm.NFC.IsNormalString(name) {
		return fmt.Errorf("api: a person's name has 1 to %d characters in normal form", maxName)
	}
	for i, r := range name {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r):
		case i > 0 && strings.ContainsRune("._-@", r):
		default:
			return errors.New("api: a person's name is letters, digits and . _ - @, and begins with a letter or digit")
		}
	}
	return nil
}

// OpenPersons reads the file at path; one that does not exist lists nobody.
func OpenPersons(path string) (*Persons, error) {
	p := &Persons{path: path}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p, p.refresh()
}

// refresh reads the file again where it is not the version read last.
func (p *Persons) refresh() error {
	info, err := os.Stat(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		p.seen, p.list, p.err = nil, nil, nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if s := p.seen; s != nil && os.SameFile(s, info) && s.ModTime().Equal(info.ModTime()) && s.Size() == info.Size() {
		return p.err
	}
	p.seen, p.list, p.err = info, nil, nil // a file that cannot be read lets nobody in
	if info.Mode().Perm()&0o077 != 0 {
		p.err = fmt.Errorf("api: %s can be read by others: run chmod 600 on it", filepath.Base(p.path))
		return p.err
	}
	var f personsFile
	if err := strictyaml.DecodeFile(p.path, &f); err != nil {
		p.err = fmt.Errorf("api: %w", err)
		return p.err
	}
	p.list = f.Persons
	return nil
}

// Add lists a new person and returns the token, which is stored nowhere.
func (p *Persons) Add(name string, role Role) (token string, err error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if _, err := ParseRole(string(role)); err != nil {
		return "", err
	}
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	token = base64.RawURLEncoding.EncodeToString(raw)
	err = p.change(func(list []record) ([]record, error) {
		if slices.ContainsFunc(list, func(r record) bool { return r.Name == name }) {
			return nil, fmt.Errorf("%w: remove it first to change the role or the token", ErrPersonExists)
		}
		if len(list) >= maxPersons {
			return nil, fmt.Errorf("api: more than %d persons", maxPersons)
		}
		hash := sha256.Sum256([]byte(token))
		return append(list, record{
			Name: name, Role: role, Token: hex.EncodeToString(hash[:]), Added: time.Now().UTC().Truncate(time.Second),
		}), nil
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// Remove takes a person off the list; the token stops working at once.
func (p *Persons) Remove(name string) error {
	return p.change(func(list []record) ([]record, error) {
		i := slices.IndexFunc(list, func(r record) bool { return r.Name == name })
		if i < 0 {
			return nil, ErrNoPerson
		}
		return slices.Delete(list, i, i+1), nil
	})
}

// List returns all persons, by name.
func (p *Persons) List() ([]Listed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil {
		return nil, err
	}
	out := make([]Listed, 0, len(p.list))
	for _, r := range p.list {
		out = append(out, Listed{Identity{r.Name, r.Role}, r.Added})
	}
	slices.SortFunc(out, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Authenticate returns whose token it is, or an error that wraps ErrToken. The
// time it takes depends on the number of persons alone.
func (p *Persons) Authenticate(token string) (Identity, error) {
	id, _, err := p.authenticate(token)
	return id, err
}

func (p *Persons) authenticate(token string) (Identity, [sha256.Size]byte, error) {
	hash := sha256.Sum256([]byte(token))
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != tokenBytes {
		return Identity{}, hash, ErrToken
	}
	id, err := p.byHash(hash)
	return id, hash, err
}

// byHash finds the person with this hash of a token.
func (p *Persons) byHash(hash [sha256.Size]byte) (Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil {
		return Identity{}, err
	}
	found := -1
	for i := range p.list {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], p.list[i].hash[:]), i, found)
	}
	if found < 0 {
		return Identity{}, ErrToken
	}
	return Identity{p.list[found].Name, p.list[found].Role}, nil
}

// change writes the list that edit returns, while no other process does.
func (p *Persons) change(edit func([]record) ([]record, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	lock, err := os.OpenFile(p.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	defer lock.Close() // and with it the lock is gone
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("api: lock %s: %w", p.path, err)
	}
	if err := p.refresh(); err != nil {
		return err
	}
	list, err := edit(slices.Clone(p.list))
	if err != nil {
		return err
	}
	if err := writeFile(p.path, personsFile{list}); err != nil {
		return err
	}
	p.seen = nil
	return p.refresh()
}

const personsHead = "# Who may use this node's API. Written by the node; tokens are stored as hashes.\n"

// writeFile replaces the file in one step, readable by its owner alone.
func writeFile(path string, f personsFile) (err error) {
	body, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".persons-*") // 0600
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
			err = fmt.Errorf("api: %w", err)
		}
	}()
	if _, err = tmp.WriteString(personsHead + string(body)); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
