package oprf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/psi/tags"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// epochID names one key with its table. It is drawn at random.
type epochID [16]byte

func (id epochID) String() string { return hex.EncodeToString(id[:]) }

// record is what a server keeps of its epoch, beside the table. It is written
// last, so that an epoch is there as a whole or not at all.
type record struct {
	id          epochID
	key         *curve25519.Scalar
	begun       time.Time // in seconds
	total, bits int       // rows, and false_match_bits
	root        rootHash
	fingerprint string // of the rows that it was made from
}

const (
	recordName  = "epoch"
	recordLabel = Name + " epoch v1\n"
	recordLimit = 1 << 10
)

var errRecord = errors.New("psi/oprf: malformed record of an epoch")

func (r *record) append(b []byte) []byte {
	start := len(b)
	b = append(b, recordLabel...)
	b = append(b, r.id[:]...)
	b = append(b, r.key.Bytes().Reveal()...)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.begun.Unix()))
	b = binary.AppendUvarint(b, uint64(r.total))
	b = binary.AppendUvarint(b, uint64(r.bits))
	b = append(b, r.root[:]...)
	b = wire.AppendBytes(b, []byte(r.fingerprint))
	sum := sha256.Sum256(b[start:])
	return append(b, sum[:]...)
}

func parseRecord(b []byte) (*record, error) {
	body, ok := bytes.CutPrefix(b, []byte(recordLabel))
	if !ok || len(body) < sha256.Size || sha256.Sum256(b[:len(b)-sha256.Size]) != [sha256.Size]byte(b[len(b)-sha256.Size:]) {
		return nil, errRecord
	}
	w := wire.NewReader(body[:len(body)-sha256.Size])
	r := &record{}
	copy(r.id[:], w.Fixed(len(r.id)))
	key := w.Fixed(curve25519.Size)
	r.begun = time.Unix(int64(w.Uint64()), 0)
	r.total = int(w.Uvarint(MaxRows))
	r.bits = int(w.Uvarint(maxFalseMatchBits))
	copy(r.root[:], w.Fixed(len(r.root)))
	r.fingerprint = string(w.Bytes(recordLimit))
	if err := w.Done(); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	var err error
	if r.key, err = curve25519.ParseScalar(key); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	return r, nil
}

// epoch is a record with its table.
type epoch struct {
	*record
	layout
	dir         directory
	dirBytes    []byte
	table, sort scratch.File // sort: the row of each tag
	place       place
}

func (e *epoch) close() {
	e.key.Wipe()
	e.table.Close()
	e.sort.Close()
}

func (r *record) file(kind string) string { return r.id.String() + "." + kind }

// vault is where a server keeps its epoch.
type vault struct {
	place
	disk scratch.Files
	src  table.Source
	rule table.KeyRule
	p    Params
	sess *session.Session
}

// Fingerprinter is a source that can tell at once whether its keys are those of
// an earlier run: two sources with one fingerprint have the same key columns with
// the same values in the same rows. Other columns do not count, of which every
// grant has its own. A node, which digests every dataset before a job runs, gives
// what it has computed. Where a source is none, or gives "", the server reads its
// keys to tell.
type Fingerprinter interface {
	table.Source
	KeyFingerprint() string
}

// reserve returns an epoch that fits the rows, has not ended, and may answer n
// more evaluations, which are written down before it returns. It makes a new one
// where there is none.
func (v *vault) reserve(ctx context.Context, n int) (*epoch, error) {
	unlock, err := v.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	e, err := v.current(ctx, n)
	if err != nil {
		return nil, err
	}
	if e == nil {
		if e, err = v.prepare(ctx); err != nil {
			return nil, err
		}
	}
	// What is there beside it is of an epoch that has ended, or of one that was
	// never finished.
	err = v.prune(func(name string) bool { return name == recordName || strings.HasPrefix(name, e.file("")) })
	if err == nil {
		err = v.spend(e.id, n)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// current returns the epoch that there is, or nil where it cannot serve n more
// evaluations.
func (v *vault) current(ctx context.Context, n int) (*epoch, error) {
	e := v.open()
	if e == nil {
		return nil, nil
	}
	age := v.p.now().Sub(e.begun)
	fits := e.bits == v.p.falseMatchBits() && age >= -time.Hour && age < v.p.maxAge()
	if fits {
		spent, err := v.spent(e.id)
		if err != nil {
			e.close()
			return nil, err
		}
		fits = int64(n) <= v.p.maxEvaluations()-spent
	}
	if fits {
		fp, err := v.fingerprint(ctx)
		if err != nil {
			e.close()
			return nil, err
		}
		fits = fp == e.fingerprint
	}
	if !fits {
		e.close()
		return nil, nil
	}
	return e, nil
}

// open returns the epoch in the cache, or nil where there is none that is whole.
func (v *vault) open() *epoch {
	b, err := v.read(recordName, recordLimit)
	if err != nil {
		return nil
	}
	r, err := parseRecord(b)
	clear(b)
	if err != nil {
		return nil
	}
	l, err := newLayout(r.total, r.bits)
	if err != nil {
		return nil
	}
	e := &epoch{record: r, layout: l, place: v.place}
	if e.dirBytes, err = v.read(r.file("dir"), int64(l.segments()*entrySize)); err != nil || l.rootOf(r.id, e.dirBytes) != r.root {
		return nil
	}
	if e.dir, err = l.parseDirectory(e.dirBytes); err != nil {
		return nil
	}
	var size int64
	for i := range e.dir {
		size += int64(e.dir[i].size)
	}
	if e.table = v.openSized(r.file("table"), size); e.table == nil {
		return nil
	}
	if e.sort = v.openSized(r.file("rows"), int64(r.total)*rowSize+int64(len(e.dir))*rowsCheck); e.sort == nil {
		e.table.Close()
		return nil
	}
	return e
}

// openSized opens a file if it is there and has size bytes.
func (p place) openSized(name string, size int64) scratch.File {
	f, err := p.files.Open(p.dir + name)
	if err != nil {
		return nil
	}
	if f.Size() != size {
		f.Close()
		return nil
	}
	return f
}

// drop ends an epoch whose files turned out to be damaged, and returns the error
// for that.
func (e *epoch) drop() error {
	if err := e.place.files.Remove(e.place.dir + recordName); err != nil {
		return err
	}
	return fmt.Errorf("%w: the server's table; it is made anew by the next run", ErrCache)
}

// stated returns what the source says of its keys, or "".
func (v *vault) stated() string {
	f, ok := v.src.(Fingerprinter)
	if !ok || f.KeyFingerprint() == "" {
		return ""
	}
	return fmt.Sprintf("source %x", sha256.Sum256([]byte(f.KeyFingerprint())))
}

// fingerprint tells whether the keys have changed.
func (v *vault) fingerprint(ctx context.Context) (string, error) {
	if fp := v.stated(); fp != "" {
		return fp, nil
	}
	h := newKeyHash()
	_, err := table.EachKey(ctx, v.src, v.rule, nil, func(keys table.KeyBatch, _ struct{}) error {
		h.add(keys)
		v.sess.Progress(compareStage, keys.First()+int64(keys.Len()), 0)
		return nil
	})
	return h.String(), err
}

// keyHash is the fingerprint of rows from their keys.
type keyHash struct {
	sum hash.Hash
	buf []byte
}

func newKeyHash() *keyHash { return &keyHash{sum: sha256.New()} }

func (h *keyHash) add(keys table.KeyBatch) {
	h.buf = h.buf[:0]
	for _, key := range keys.All() {
		h.buf = wire.AppendBytes(h.buf, key)
	}
	h.sum.Write(h.buf)
}

func (h *keyHash) String() string { return fmt.Sprintf("keys %x", h.sum.Sum(nil)) }

// prepare makes a new epoch: it evaluates all rows under a new key, sorts the
// tags and writes the table, and last the record that says so. It takes 32 MiB
// of memory and twice 16 bytes for a 64th of the rows, and 12 bytes of the disk
// a row, with 16 more until the tags are sorted.
func (v *vault) prepare(ctx context.Context) (*epoch, error) {
	r := &record{bits: v.p.falseMatchBits(), begun: v.p.now()}
	if _, err := io.ReadFull(v.sess.Rand(), r.id[:]); err != nil {
		return nil, fmt.Errorf("psi/oprf: randomness: %w", err)
	}
	var err error
	if r.key, err = curve25519.NewScalar(v.sess.Rand()); err != nil {
		return nil, err
	}
	defer r.key.Wipe()
	s := newSorter(v.disk)
	defer s.close()
	if err := v.evaluate(ctx, r, s); err != nil {
		return nil, err
	}
	if err := v.writeTable(ctx, r, s); err != nil {
		return nil, err
	}
	b := r.append(nil)
	err = v.write(recordName, b)
	clear(b)
	if err != nil {
		return nil, err
	}
	e := v.open()
	if e == nil {
		return nil, fmt.Errorf("%w: the server's table, as soon as it was written", ErrCache)
	}
	return e, nil
}

// evaluate hands the tags of all rows to s, and writes their number and
// fingerprint into r.
func (v *vault) evaluate(ctx context.Context, r *record, s *sorter) error {
	var h *keyHash // of what is evaluated, where nothing is stated
	if r.fingerprint = v.stated(); r.fingerprint == "" {
		h = newKeyHash()
	}
	f := newPRF(r.id)
	buffers := sync.Pool{New: func() any { return new([]tags.Tag) }}
	work := func(keys table.KeyBatch) (*[]tags.Tag, error) {
		if last := keys.First() + int64(keys.Len()); last > MaxRows {
			return nil, fmt.Errorf("%w: more than %d rows", ErrSize, MaxRows)
		}
		dst := buffers.Get().(*[]tags.Tag)
		if cap(*dst) < keys.Len() {
			*dst = make([]tags.Tag, keys.Len())
		}
		*dst = (*dst)[:keys.Len()]
		f.clone().evaluate(*dst, r.key, int(keys.First()), keys.At)
		return dst, nil
	}
	n, err := table.EachKey(ctx, v.src, v.rule, work, func(keys table.KeyBatch, ts *[]tags.Tag) error {
		if h != nil {
			h.add(keys)
		}
		err := s.add(*ts)
		buffers.Put(ts)
		v.sess.Progress(prepareStage, keys.First()+int64(keys.Len()), 0)
		return err
	})
	if err != nil {
		return err
	}
	r.total = int(n)
	if h != nil {
		r.fingerprint = h.String()
	}
	return nil
}

// writeTable writes the tags of s as the table of r, and its root into r.
func (v *vault) writeTable(ctx context.Context, r *record, s *sorter) error {
	l, err := newLayout(r.total, r.bits)
	if err != nil {
		return err
	}
	w := &tableWriter{layout: l}
	if w.table, err = v.files.Create(v.dir + r.file("table")); err != nil {
		return err
	}
	defer w.table.Discard()
	if w.rows, err = v.files.Create(v.dir + r.file("rows")); err != nil {
		return err
	}
	defer w.rows.Discard()
	if err := s.each(ctx, w.add); err != nil {
		return err
	}
	if w.duplicates > 0 {
		return table.DuplicateKeys(ctx, v.src, v.rule, int64(r.total), w.duplicates, w.first)
	}
	if err := w.finish(); err != nil {
		return err
	}
	dir := w.dir.append(nil)
	r.root = l.rootOf(r.id, dir)
	return errors.Join(w.table.Commit(), w.rows.Commit(), v.write(r.file("dir"), dir))
}

// Evaluations that an epoch has answered, or is about to, are files without
// content whose names hold the number, so that two sessions never write one.
// What was written down is never given back.

func spentPrefix(id epochID) string { return id.String() + ".spent/" }

// spend writes down n more evaluations.
func (v *vault) spend(id epochID, n int) error {
	if n == 0 {
		return nil
	}
	var tail [12]byte
	if _, err := io.ReadFull(v.sess.Rand(), tail[:]); err != nil {
		return fmt.Errorf("psi/oprf: randomness: %w", err)
	}
	return v.write(fmt.Sprintf("%s%d-%x", spentPrefix(id), n, tail), nil)
}

// spent returns how many are written down; all of them where that cannot be
// read.
func (v *vault) spent(id epochID) (int64, error) {
	prefix := v.dir + spentPrefix(id)
	names, err := v.files.Names(prefix)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, name := range names {
		count, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil || n < 0 || n > MaxItems {
			return math.MaxInt64, nil
		}
		sum += n
	}
	return sum, nil
}

// readSegment returns the bytes of segment i, which begins at byte at.
func (e *epoch) readSegment(buf []byte, i int, at int64) ([]byte, error) {
	b := append(buf, make([]byte, e.dir[i].size)...)
	if _, err := e.table.ReadAt(b[len(buf):], at); err != nil {
		return nil, err
	}
	if sha256.Sum256(b[len(buf):]) != e.dir[i].sum {
		return nil, errSegment
	}
	return b, nil
}

// rowsAt returns the rows of the tags at places, which ascend.
func (e *epoch) rowsAt(places []uint32) ([]int32, error) {
	rows := make([]int32, 0, len(places))
	var buf []byte
	base, at := 0, int64(0)
	for i := 0; i < len(e.dir) && len(places) > 0; i++ {
		n := e.dir[i].tags
		size := n*rowSize + rowsCheck
		if int(places[0]) < base+n {
			buf = append(buf[:0], make([]byte, size)...)
			if _, err := e.sort.ReadAt(buf, at); err != nil {
				return nil, err
			}
			nums := buf[: n*rowSize : n*rowSize]
			if !bytes.Equal(appendRowsCheck(bytes.Clone(nums), i)[n*rowSize:], buf[n*rowSize:]) {
				return nil, errSegment
			}
			for len(places) > 0 && int(places[0]) < base+n {
				rows = append(rows, int32(binary.LittleEndian.Uint32(nums[(int(places[0])-base)*rowSize:])))
				places = places[1:]
			}
		}
		base, at = base+n, at+int64(size)
	}
	return rows, nil
}
