package dataset

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/transform"
)

// What one row may hold. The row limit also bounds the memory of a reader
// before a missing closing quotation mark is noticed.
const (
	maxRowBytes   = 1 << 20
	maxFieldBytes = 1 << 16
)

// bufferBytes is how much is read at once. Below 4096 csv.Reader would put a
// buffer of its own behind. A variable for the tests.
var bufferBytes = 1 << 16

// file is a file as Open saw it.
type file struct {
	path string
	info fs.FileInfo
}

func newFile(path string) (*file, error) {
	info, err := os.Stat(path) // before opening: opening a pipe would wait
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{File: path, Rule: FileKind}
	}
	return &file{path, info}, nil
}

func fileError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{File: path, Rule: FileMissing, Err: fs.ErrNotExist}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &Error{File: path, Rule: FileAccess, Err: err}
}

// open opens the file again and fails if it is not the one that Open saw.
func (f *file) open() (*os.File, error) {
	now, err := newFile(f.path)
	if err != nil {
		return nil, err
	}
	h, err := os.Open(f.path)
	if err != nil {
		return nil, fileError(f.path, err)
	}
	if !os.SameFile(now.info, f.info) {
		h.Close()
		return nil, f.changed()
	}
	if err := f.unchanged(h); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// unchanged compares identity, size and modification time.
func (f *file) unchanged(h *os.File) error {
	info, err := h.Stat()
	if err != nil {
		return fileError(f.path, err)
	}
	if !os.SameFile(info, f.info) || info.Size() != f.info.Size() || !info.ModTime().Equal(f.info.ModTime()) {
		return f.changed()
	}
	return nil
}

func (f *file) changed() error {
	return &Error{File: f.path, Rule: FileChanged, Hint: "run again once nothing writes to it"}
}

// reader reads the rows of one CSV file, in the file's column order.
type reader struct {
	file    *file
	h       *os.File
	in      *guard
	buf     *bufio.Reader
	csv     *csv.Reader // reads from buf, and no further than the row it returns
	comma   byte
	gb18030 bool
	// names holds, per field of the file, its configured name; nil until the
	// header has been read.
	names []string
	// line is where the next row begins unless blank lines come first.
	line int
	// rec is the current row as csv has it; nil where it is a plain one.
	rec []string
	// held is a row that was read behind a blank line, and its line.
	held     []string
	heldLine int

	// plain holds the lines that are read without csv, which has not seen the
	// bytes and the lines counted here; see nextPlain.
	plain      window
	plainBytes int64
	plainLines int
}

func newReader(f *file, d Dataset) (*reader, error) {
	h, err := f.open()
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, h: h, comma: ',', gb18030: d.Encoding == "gb18030", line: 1}
	var in io.Reader = h
	if r.gb18030 {
		in = transform.NewReader(h, simplifiedchinese.GB18030.NewDecoder())
	}
	r.in = &guard{r: in}
	r.buf = bufio.NewReaderSize(r.in, bufferBytes)
	start, err := r.buf.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		h.Close()
		return nil, r.readError(err)
	}
	switch {
	case bytes.Equal(start, []byte("\ufeff")):
		r.buf.Discard(3)
		r.in.skipped = 3
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		h.Close()
		return nil, r.fault(1, FileEncoding, "", "the file is UTF-16: save it as UTF-8")
	}
	if d.Delimiter != "" {
		r.comma = d.Delimiter[0]
	}
	r.csv = csv.NewReader(r.buf) // takes a large buffer as its own
	r.csv.ReuseRecord = true
	r.csv.FieldsPerRecord = -1 // next compares, to name the column
	r.csv.Comma = rune(r.comma)
	return r, nil
}

func (r *reader) close() { r.h.Close() }

// offset returns how many bytes of text have been read, without the mark.
func (r *reader) offset() int64 { return r.csv.InputOffset() + r.plainBytes }

func (r *reader) fault(line int, rule Rule, column, hint string) *Error {
	return &Error{File: r.file.path, Line: line, Column: column, Rule: rule, Hint: hint}
}

// name returns the name of the file's field i.
func (r *reader) name(i int) string {
	if i < len(r.names) {
		return r.names[i]
	}
	return ""
}

// field returns a field of the current row, valid until the next.
func (r *reader) field(i int) string {
	if r.rec != nil {
		return r.rec[i]
	}
	return r.plain.field(i)
}

// next goes to the next row and returns the line it begins on. At the end it
// returns io.EOF, or FileChanged. Faults are of type *Error; after RowFields,
// RowBlank and RowQuote the reader can go on.
func (r *reader) next() (line int, err error) {
	if rec := r.held; rec != nil {
		r.held = nil
		return r.judge(rec, r.heldLine)
	}
	if r.nextPlain() {
		if r.rec != nil {
			r.rec = nil
		}
		r.line++
		return r.line - 1, nil
	}
	r.plain.drop(r.buf)
	rec, err := r.csv.Read()
	r.in.begin(r.offset())
	if err == io.EOF {
		if err := r.file.unchanged(r.h); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		line, name := pe.StartLine+r.plainLines, r.name(len(rec))
		r.line = pe.Line + r.plainLines + 1
		return line, r.fault(line, RowQuote, name, "")
	}
	if errors.Is(err, errRowSize) {
		return r.line, r.fault(r.line, RowSize, "", fmt.Sprintf("the limit is %d bytes; is a closing quotation mark missing?", maxRowBytes))
	}
	if err != nil {
		return r.line, r.readError(err)
	}
	line, _ = r.csv.FieldPos(0)
	line += r.plainLines
	blank := line > r.line
	last, _ := r.csv.FieldPos(len(rec) - 1)
	r.line = r.plainLines + last + strings.Count(rec[len(rec)-1], "\n") + 1
	if blank {
		r.held, r.heldLine = rec, line
		return line, r.fault(line-1, RowBlank, "", "remove it")
	}
	return r.judge(rec, line)
}

// judge returns a row of the right size, or its fault.
func (r *reader) judge(rec []string, line int) (int, error) {
	for i, v := range rec {
		if len(v) > maxFieldBytes {
			return line, r.fault(line, FieldSize, r.name(i), fmt.Sprintf("the limit is %d bytes", maxFieldBytes))
		}
	}
	if r.names != nil && len(rec) != len(r.names) {
		hint := fmt.Sprintf("it has %d, the header has %d", len(rec), len(r.names))
		// The column where the row ends too early, or goes on too long.
		return line, r.fault(line, RowFields, r.name(min(len(rec), len(r.names)-1)), hint)
	}
	r.rec = rec
	return line, nil
}

func (r *reader) readError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &Error{File: r.file.path, Line: r.line, Rule: FileRead, Err: err}
}

// text returns the fault of a field that is not clean text, or nil.
func (r *reader) text(v string, line int, column string) *Error {
	switch {
	case r.plain.clean:
		return nil
	case strings.IndexByte(v, 0) >= 0:
		return r.fault(line, FileNUL, column, "")
	case r.gb18030 && strings.ContainsRune(v, utf8.RuneError):
		return r.fault(line, FileEncoding, column, "these bytes are not GB 18030: check encoding")
	case !utf8.ValidString(v):
		return r.fault(line, FileEncoding, column, "not UTF-8: convert the file, or set encoding: gb18030 if it is GBK")
	}
	return nil
}

// header reads the first line and matches it with the configured columns. It
// returns where each of them stands in the file, and every fault. A name of
// the file is never repeated: in a file without a header it is a value.
func (r *reader) header(d Dataset) (at []int, faults []*Error, err error) {
	line, err := r.next()
	if err == io.EOF {
		return nil, []*Error{r.fault(1, HeaderMissing, "", "the file is empty")}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	rec := r.rec // nextPlain leaves the header alone
	at = make([]int, len(d.Columns))
	byName := make(map[string]int, len(d.Columns))
	for i, c := range d.Columns {
		at[i] = -1
		byName[c.Name] = i
	}
	r.names = make([]string, len(rec))
	for j, v := range rec {
		if f := r.text(v, line, ""); f != nil {
			f.Hint = strings.TrimPrefix(fmt.Sprintf("field %d; %s", j+1, f.Hint), "; ")
			faults = append(faults, f)
			continue
		}
		i, ok := byName[v]
		if !ok {
			faults = append(faults, r.fault(line, HeaderUnknown, "", fmt.Sprintf("field %d%s", j+1, nearName(v, d.Columns))))
			continue
		}
		r.names[j] = v
		if at[i] >= 0 {
			faults = append(faults, r.fault(line, HeaderDuplicate, v, fmt.Sprintf("fields %d and %d", at[i]+1, j+1)))
			continue
		}
		at[i] = j
	}
	absent := 0
	for i, c := range d.Columns {
		if at[i] >= 0 {
			continue
		}
		absent++
		rule := HeaderColumn
		if c.Key {
			rule = HeaderKey
		}
		faults = append(faults, r.fault(line, rule, c.Name, ""))
	}
	if absent == len(d.Columns) && !badText(faults) {
		hint := "it holds no configured name"
		if len(rec) == 1 {
			for _, s := range []string{",", ";", "|", "\t"} {
				if strings.Contains(rec[0], s) {
					hint += fmt.Sprintf("; if %q separates the fields, set delimiter", s)
				}
			}
			if strings.Contains(rec[0], "\r") {
				hint += "; the line ends are bare carriage returns: convert them"
			}
		}
		return nil, []*Error{r.fault(line, HeaderMissing, "", hint)}, nil
	}
	return at, faults, nil
}

func badText(faults []*Error) bool {
	for _, f := range faults {
		if f.Rule == FileEncoding || f.Rule == FileNUL {
			return true
		}
	}
	return false
}

// nearName names the configured column that v misses by case or spaces.
func nearName(v string, columns []Column) string {
	for _, c := range columns {
		if strings.EqualFold(strings.TrimSpace(v), strings.TrimSpace(c.Name)) {
			return "; it is " + c.Name + " but for case or spaces"
		}
	}
	return ""
}

var errRowSize = errors.New("row too long")

// guard fails once a row takes more than maxRowBytes, before it is held.
type guard struct {
	r       io.Reader
	read    int64 // bytes given out
	start   int64 // where the current row begins
	skipped int64 // of the byte order mark, which csv.Reader does not count
}

func (g *guard) begin(offset int64) { g.start = offset + g.skipped }

func (g *guard) Read(p []byte) (int, error) {
	// The buffer in between runs ahead of the row by at most its size.
	if g.read-g.start > int64(maxRowBytes+bufferBytes) {
		return 0, errRowSize
	}
	n, err := g.r.Read(p)
	g.read += int64(n)
	return n, err
}
