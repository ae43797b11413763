package dataset

import (
	"bufio"
	"bytes"
	"slices"
	"unicode/utf8"
	"unsafe"
)

// Most rows of most files have no quotation mark, and then a row is a line and
// a field is what stands between two delimiters. Such lines are cut here, in
// place, several times faster than encoding/csv reads them. Whatever is not as
// plain as that is left for csv.Reader to read and for next to judge: quoted
// rows, empty lines, rows with too many or too few fields, very long ones, the
// header, and a last line without an end.

// readPlain is false in the tests that compare.
var readPlain = true

// window is the lines at the front of the buffer that nextPlain reads: whole
// ones, without a quotation mark.
type window struct {
	lines []byte // of the buffer; they stay in it until dropped
	at    int    // where the next line begins
	// clean says that lines are UTF-8 without NUL, and without the mark that the
	// decoder of GB 18030 leaves for what it cannot read.
	clean bool
	start int   // where the current row begins
	ends  []int // where its fields end
	// until is the offset up to which lines were looked through, and found is
	// what clean was: a row within that csv.Reader takes changes neither.
	until int64
	found bool
}

// drop takes the lines that have been read from the buffer.
func (w *window) drop(buf *bufio.Reader) {
	buf.Discard(w.at) // cannot fail: so much is buffered
	w.lines, w.at, w.clean = nil, 0, false
}

// nextPlain goes to the next line if that is a plain row; else it is false, and
// the line has not been read. It writes no pointer, which would cost more than
// the rest while the garbage collector runs.
func (r *reader) nextPlain() bool {
	w := &r.plain
	if w.at == len(w.lines) && !r.fill() {
		return false
	}
	size := bytes.IndexByte(w.lines[w.at:], '\n') + 1 // there is one: lines are whole
	end := w.at + size - 1
	if end > w.at && w.lines[end-1] == '\r' {
		end--
	}
	if end == w.at || end-w.at > maxFieldBytes {
		return false
	}
	at, last := w.at, len(w.ends)-1
	for i := range w.ends[:last] {
		n := bytes.IndexByte(w.lines[at:end], r.comma)
		if n < 0 {
			return false
		}
		w.ends[i] = at + n
		at += n + 1
	}
	if bytes.IndexByte(w.lines[at:end], r.comma) >= 0 {
		return false
	}
	w.ends[last] = end
	w.start = w.at
	w.at += size
	r.plainBytes += int64(size)
	r.plainLines++
	return true
}

// field returns field i of the current row. It shares the buffer's bytes, for to
// copy it would cost as much as to cut it.
func (w *window) field(i int) string {
	from := w.start
	if i > 0 {
		from = w.ends[i-1] + 1
	}
	v := w.lines[from:w.ends[i]]
	return unsafe.String(unsafe.SliceData(v), len(v))
}

// fill looks for plain lines in what is buffered, and in what one more read
// brings if no line of the buffer is whole.
func (r *reader) fill() bool {
	if r.names == nil || !readPlain {
		return false
	}
	w := &r.plain
	w.drop(r.buf)
	if left := w.until - r.offset(); left > 0 {
		w.lines, w.clean = r.peek(int(left)), w.found
		return true
	}
	lines := wholeLines(r.peek(r.buf.Buffered()))
	if len(lines) == 0 {
		r.in.begin(r.offset())
		r.peek(r.buf.Buffered() + 1)
		lines = wholeLines(r.peek(r.buf.Buffered()))
	}
	if quote := bytes.IndexByte(lines, '"'); quote >= 0 {
		lines = wholeLines(lines[:quote])
	}
	if len(lines) == 0 {
		return false
	}
	w.lines = lines
	w.clean = utf8.Valid(lines) && bytes.IndexByte(lines, 0) < 0 && (!r.gb18030 || !bytes.ContainsRune(lines, utf8.RuneError))
	w.until, w.found = r.offset()+int64(len(lines)), w.clean
	w.ends = slices.Grow(w.ends[:0], len(r.names))[:len(r.names)]
	return true
}

// peek returns the next n bytes, or as many as there are. An error shows again
// when csv.Reader reads on.
func (r *reader) peek(n int) []byte {
	b, _ := r.buf.Peek(n)
	return b
}

func wholeLines(b []byte) []byte { return b[:bytes.LastIndexByte(b, '\n')+1] }
