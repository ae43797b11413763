package align

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"math"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/scratch"
)

// Files of the run's scratch space.
const (
	prefix        = "align/"
	manifestName  = prefix + "manifest"
	outcomePrefix = prefix + "done/"
	countsName    = prefix + "counts"
	arrangeFolder = prefix + "out"
)

// manifest is what a later attempt has to know of the ones before it. It is
// written before the first partition begins.
type manifest struct {
	seed       seed
	parameters [32]byte // digest of what the parties agreed on
	rows       int64    // own
	distinct   int64
	peers      int64    // distinct keys of the peer
	digest     [32]byte // of the own items in row order
	key        [32]byte // of the own commitment
	commitment [commitmentSize]byte
}

const (
	manifestMagic = "yinqiao/align/manifest/v1\n"
	outcomeMagic  = "yinqiao/align/outcome/v1\n"
)

func (m *manifest) append(b []byte) []byte {
	b = append(b, manifestMagic...)
	b = append(b, m.seed[:]...)
	b = append(b, m.parameters[:]...)
	b = binary.AppendUvarint(b, uint64(m.rows))
	b = binary.AppendUvarint(b, uint64(m.distinct))
	b = binary.AppendUvarint(b, uint64(m.peers))
	b = append(b, m.digest[:]...)
	b = append(b, m.key[:]...)
	b = append(b, m.commitment[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

var errDamaged = fmt.Errorf("psi/align: %w", scratch.ErrDamaged)

func parseManifest(b []byte) (*manifest, error) {
	if len(b) < sha256.Size {
		return nil, errDamaged
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return nil, errDamaged
	}
	r := wire.NewReader(body)
	magic := r.Fixed(len(manifestMagic))
	var m manifest
	copy(m.seed[:], r.Fixed(seedSize))
	copy(m.parameters[:], r.Fixed(32))
	m.rows = int64(r.Uvarint(MaxRows))
	m.distinct = int64(r.Uvarint(uint64(m.rows)))
	m.peers = int64(r.Uvarint(MaxRows))
	copy(m.digest[:], r.Fixed(32))
	copy(m.key[:], r.Fixed(32))
	copy(m.commitment[:], r.Fixed(commitmentSize))
	if r.Done() != nil || string(magic) != manifestMagic {
		return nil, errDamaged
	}
	return &m, nil
}

// tag names the manifest's seed to the peer, which has it too, or learns nothing.
func (m *manifest) tag() (t [tagSize]byte) {
	if m == nil {
		return t
	}
	h := hmac.New(sha256.New, m.seed[:])
	h.Write([]byte("yinqiao/align/tag"))
	copy(t[:], h.Sum(nil))
	return t
}

// commit returns the own commitment, which tells the peer nothing but whether
// another one of the same run is to the same.
func (m *manifest) commit() (c [commitmentSize]byte) {
	h := hmac.New(sha256.New, m.key[:])
	h.Write(m.parameters[:])
	h.Write(m.digest[:])
	h.Sum(c[:0])
	return c
}

// loadManifest returns what an earlier attempt left, or nil: a manifest that is
// gone or damaged means that there is nothing to go on with.
func loadManifest(files scratch.Files) (*manifest, error) {
	b, err := readAll(files, manifestName, 1<<10)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil, nil
	}
	return m, nil
}

// readAll returns a file of at most limit bytes, or nothing where it is gone,
// longer or damaged.
func readAll(files scratch.Files, name string, limit int64) ([]byte, error) {
	f, err := open(files, name)
	if f == nil || err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if errors.Is(err, scratch.ErrDamaged) || int64(len(b)) > limit {
		return nil, nil
	}
	return b, err
}

func (m *manifest) save(files scratch.Files) error {
	w, err := files.Create(manifestName)
	if err != nil {
		return fmt.Errorf("psi/align: %w", err)
	}
	defer w.Discard()
	if _, err := w.Write(m.append(nil)); err != nil {
		return fmt.Errorf("psi/align: %w", err)
	}
	return w.Commit()
}

// outcome is what one partition gave: of each key that both have, in the order
// that both share, the own rows. The sender of a run for the receiver alone has
// none. In a file it is
//
//	magic, identity, number of keys (8 bytes), for each the number of rows less
//	one (varint) and the rows (4 bytes each), SHA-256 of all this
//
// which is 5 bytes a key where there are no duplicates.
type outcome struct {
	id   outcomeID
	keys int64
	rows int64 // of all keys
}

const outcomeHead = len(outcomeMagic) + digestSize + 8

func outcomeName(p int) string { return fmt.Sprintf("%s%05d", outcomePrefix, p) }

// writeOutcome writes the outcome of partition p: rowsOf gives the rows of key k.
func writeOutcome(files scratch.Files, p int, id outcomeID, keys int, rowsOf func(k int) []int32) (o outcome, err error) {
	o = outcome{id: id, keys: int64(keys)}
	w, err := files.Create(outcomeName(p))
	if err != nil {
		return o, fmt.Errorf("psi/align: %w", err)
	}
	defer w.Discard()
	sum := sha256.New()
	buf := append(make([]byte, 0, 1<<16), outcomeMagic...)
	buf = append(buf, id[:]...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(keys))
	flush := func() error {
		sum.Write(buf)
		_, err := w.Write(buf)
		buf = buf[:0]
		return err
	}
	for k := range keys {
		rows := rowsOf(k)
		o.rows += int64(len(rows))
		buf = binary.AppendUvarint(buf, uint64(len(rows)-1))
		for _, r := range rows {
			if buf = binary.LittleEndian.AppendUint32(buf, uint32(r)); len(buf) > 1<<16-16 {
				if err := flush(); err != nil {
					return o, fmt.Errorf("psi/align: %w", err)
				}
			}
		}
	}
	if err = flush(); err == nil {
		_, err = w.Write(sum.Sum(nil))
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		return o, fmt.Errorf("psi/align: %w", err)
	}
	return o, nil
}

// checkOutcome reads the outcome of partition p to its end; ok is false where it
// is gone or damaged, or names rows beyond the table's.
func checkOutcome(ctx context.Context, files scratch.Files, p int, rows int64) (o outcome, ok bool, err error) {
	f, err := open(files, outcomeName(p))
	if f == nil || err != nil {
		return o, false, err
	}
	defer f.Close()
	o, err = readOutcome(ctx, f, f.Size(), rows, func([]int32) bool { return true })
	if errors.Is(err, scratch.ErrDamaged) {
		return o, false, nil
	}
	return o, err == nil, err
}

// readOutcome hands the rows of each key of an outcome of size bytes to use,
// until that returns false; a table has fewer than limit rows. What it has
// handed on counts only if it returns no error.
func readOutcome(ctx context.Context, f io.Reader, size, limit int64, use func(rows []int32) bool) (o outcome, err error) {
	r := &sumReader{r: bufio.NewReaderSize(f, 1<<16), sum: sha256.New(), left: size - sha256.Size}
	var head [outcomeHead]byte
	if err := r.full(head[:]); err != nil {
		return o, err
	}
	copy(o.id[:], head[len(outcomeMagic):])
	keys := binary.LittleEndian.Uint64(head[outcomeHead-8:])
	if string(head[:len(outcomeMagic)]) != outcomeMagic || keys > uint64(limit) || o.id == (outcomeID{}) {
		return o, errDamaged
	}
	o.keys = int64(keys)
	var rows []int32
	for k := range o.keys {
		if k%(1<<16) == 0 && ctx.Err() != nil {
			return o, context.Cause(ctx)
		}
		more, err := r.uvarint()
		if err != nil {
			return o, err
		}
		if o.rows += int64(min(more, math.MaxInt32)) + 1; o.rows > limit {
			return o, errDamaged
		}
		rows = rows[:0]
		for range more + 1 {
			var b [4]byte
			if err := r.full(b[:]); err != nil {
				return o, err
			}
			row := binary.LittleEndian.Uint32(b[:])
			if int64(row) >= limit {
				return o, errDamaged
			}
			rows = append(rows, int32(row))
		}
		if !use(rows) {
			return o, nil
		}
	}
	return o, r.end()
}

// sumReader reads what a digest follows.
type sumReader struct {
	r    *bufio.Reader
	sum  hash.Hash
	left int64 // bytes before the digest
	// pending is what has been read and not hashed yet.
	pending []byte
}

func (r *sumReader) took(b []byte) {
	if r.pending = append(r.pending, b...); len(r.pending) >= 1<<12 {
		r.sum.Write(r.pending)
		r.pending = r.pending[:0]
	}
}

func (r *sumReader) full(b []byte) error {
	if r.left -= int64(len(b)); r.left < 0 {
		return errDamaged
	}
	if _, err := io.ReadFull(r.r, b); err != nil {
		return ended(err)
	}
	r.took(b)
	return nil
}

func (r *sumReader) uvarint() (uint64, error) {
	var b [1]byte
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		if err := r.full(b[:]); err != nil {
			return 0, err
		}
		if v |= uint64(b[0]&0x7f) << shift; b[0] < 0x80 {
			return v, nil
		}
	}
	return 0, errDamaged
}

func (r *sumReader) end() error {
	r.sum.Write(r.pending)
	var want [sha256.Size]byte
	if _, err := io.ReadFull(r.r, want[:]); err != nil {
		return ended(err)
	}
	if r.left != 0 || !bytes.Equal(want[:], r.sum.Sum(nil)) {
		return errDamaged
	}
	return nil
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged
	}
	return fmt.Errorf("psi/align: %w", err)
}

// matched streams the rows of each common key, partition after partition.
func matched(ctx context.Context, files scratch.Files, parts int, limit int64) iter.Seq2[[]int32, error] {
	return func(yield func([]int32, error) bool) {
		for p := range parts {
			more := true
			err := func() error {
				f, err := files.Open(outcomeName(p))
				if err != nil {
					return fmt.Errorf("psi/align: %w", err)
				}
				defer f.Close()
				_, err = readOutcome(ctx, f, f.Size(), limit, func(rows []int32) bool {
					more = yield(rows, nil)
					return more
				})
				return err
			}()
			if !more {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// removeAll removes what earlier attempts left.
func removeAll(files scratch.Files) error {
	names, err := files.Names(prefix)
	if err != nil {
		return fmt.Errorf("psi/align: %w", err)
	}
	for _, n := range names {
		if err := files.Remove(n); err != nil {
			return fmt.Errorf("psi/align: %w", err)
		}
	}
	return nil
}

// open opens a file; nil where there is none, or it is damaged.
func open(files scratch.Files, name string) (scratch.File, error) {
	f, err := files.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, scratch.ErrDamaged):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("psi/align: %w", err)
	}
	return f, nil
}
