package store

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/secret"
)

// Badger answers some damage with silence: a key in a damaged block is "not
// found", a table with a damaged index is left out, a damaged length in the
// manifest makes it delete the tables listed after it, and compaction writes
// what is left as if it were whole. For a use counter "not found" means zero.
// So damage is looked for before Badger may act on it:
//
//   - Close leaves a seal over every file; Open checks it before Badger sees
//     the folder, and removes it.
//   - After a crash there is no seal: the index of every table is checked
//     before, and every block right after Badger has opened, with compaction
//     off.
//   - Compaction runs only right after every block was found whole.

// The folder holds a lock, a seal while it is closed, and Badger's own folder.
const (
	lockName  = "lock"
	sealName  = "seal"
	dataName  = "db"
	sealLabel = "yinqiao/store/seal/v1"
	keyLabel  = "yinqiao/store/key/v1"
)

func mac(key secret.Bytes, parts ...string) string {
	h := hmac.New(sha256.New, key.Reveal())
	for _, p := range parts {
		io.WriteString(h, p)
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// writeSeal records the digest of every file of a closed store: a line for the
// key, one for each file, and one that authenticates them.
func writeSeal(dir string, key secret.Bytes) error {
	list, err := listing(filepath.Join(dir, dataName))
	if err != nil {
		return err
	}
	body := "key " + mac(key, keyLabel) + "\n" + list
	body += "mac " + mac(key, sealLabel, body) + "\n"

	tmp := filepath.Join(dir, sealName+".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, sealName)); err != nil {
		return err
	}
	return syncDir(dir)
}

// breakSeal checks the seal and removes it; no seal is no error.
func breakSeal(dir string, key secret.Bytes) error {
	path := filepath.Join(dir, sealName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	body, ok := strings.CutSuffix(string(raw), "\n")
	i := strings.LastIndexByte(body, '\n')
	if !ok || i < 0 {
		return fmt.Errorf("%w: %s is not a seal", ErrCorrupt, path)
	}
	body, last := body[:i+1], body[i+1:]
	head, list, _ := strings.Cut(body, "\n")
	switch {
	case !hmac.Equal([]byte(head), []byte("key "+mac(key, keyLabel))):
		return fmt.Errorf("%w for %s", ErrKey, dir)
	case !hmac.Equal([]byte(last), []byte("mac "+mac(key, sealLabel, body))):
		return fmt.Errorf("%w: %s is not what this node wrote", ErrCorrupt, path)
	}
	now, err := listing(filepath.Join(dir, dataName))
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if name := firstDifference(list, now); name != "" {
		return fmt.Errorf("%w: %s is not as it was closed; restore the folder from a copy", ErrCorrupt, filepath.Join(dir, dataName, name))
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return syncDir(dir)
}

// listing has a line with name and SHA-256 for each of the store's files.
func listing(dir string) (string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, e := range entries {
		if e.Name() == "LOCK" || !e.Type().IsRegular() {
			continue // Badger's own mark of a running process
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %x\n", e.Name(), h.Sum(nil))
	}
	return b.String(), nil
}

// firstDifference names the first file that two listings disagree on.
func firstDifference(a, b string) string {
	count := map[string]int{}
	for _, s := range []string{a, b} {
		lines := bufio.NewScanner(strings.NewReader(s))
		for lines.Scan() {
			count[lines.Text()]++
		}
	}
	var names []string
	for line, n := range count {
		if n != 2 {
			name, _, _ := strings.Cut(line, " ")
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	sort.Strings(names)
	return names[0]
}

// checkIndexes checks the footer and the index of every table that the
// manifest lists, without trusting a length in them.
func checkIndexes(dir string) error {
	dir = filepath.Join(dir, dataName)
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a new store
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	manifest, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir).WithLogger(nil))
	f.Close()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, f.Name(), err)
	}
	for id := range manifest.Tables {
		name := table.NewFilename(id, dir)
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("%w: the manifest lists a table that cannot be read: %w", ErrCorrupt, err)
		}
		if !wholeIndex(b) {
			return fmt.Errorf("%w: the index of %s", ErrCorrupt, name)
		}
	}
	return nil
}

// wholeIndex checks a table's end: index, its length, checksum, its length.
func wholeIndex(b []byte) bool {
	cut := func(n int) (tail []byte, ok bool) {
		if n < 0 || n > len(b) {
			return nil, false
		}
		tail, b = b[len(b)-n:], b[:len(b)-n]
		return tail, true
	}
	length := func() (int, bool) {
		tail, ok := cut(4)
		if !ok {
			return 0, false
		}
		return int(binary.BigEndian.Uint32(tail)), true
	}
	n, ok := length()
	if !ok {
		return false
	}
	sum, ok := cut(n)
	if !ok {
		return false
	}
	var want pb.Checksum
	if err := proto.Unmarshal(sum, &want); err != nil || want.Algo != pb.Checksum_CRC32C {
		return false
	}
	if again, err := proto.Marshal(&want); err != nil || !bytes.Equal(again, sum) {
		return false
	}
	n, ok = length()
	if !ok {
		return false
	}
	index, ok := cut(n)
	return ok && y.VerifyChecksum(index, &want) == nil
}

// checkBlocks reads every block of every table.
func checkBlocks(db *badger.DB) (err error) {
	// Badger panics on the first damaged block.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: a block of a table fails its checksum", ErrCorrupt)
		}
	}()
	if err := db.VerifyChecksum(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
