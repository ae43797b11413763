// Package strictyaml reads the YAML files people write for this program:
// node and platform configuration, scenarios.
//
// What is not understood is refused, and every fault of a file is reported at
// once with its line, column and key path:
//
//	node.yaml:7:5: unknown key "datasets[0].colums"; did you mean "columns"?
//	node.yaml:9:12: limits.max_jobs: want a whole number, got text
//
// Refused are unknown keys, keys given twice, values of another type, more
// than one document, tags, merge keys, and files above [MaxSize]. Aliases work
// within a bound. Faults name keys and kinds of value, never a value.
//
// # How values become Go values
//
// Plain scalars follow the YAML 1.2 core schema: only true and false are
// booleans, 1e-3 is a number, and a whole number with a leading zero is
// refused as a number, because it may be a code (0100). A text field takes
// any scalar as it is written, so that such codes and versions like 1.10 stay
// what they are. A blank value leaves lists, maps, sections and pointers as
// they were and is a fault everywhere else. A list replaces the default.
//
// Fields are named by the tag `yaml:"name"`, or by their own name in lower
// case; `yaml:"-"` hides a field, `yaml:",inline"` lifts an embedded struct's
// keys. time.Duration is text such as "30s". A type with UnmarshalText reads
// itself from the scalar's text.
package strictyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// MaxSize is the largest file that is read, in bytes.
	MaxSize = 1 << 20
	// maxDepth bounds nesting, in the source and after aliases.
	maxDepth = 64
	// maxAliases bounds how often aliases are followed in one document.
	maxAliases = 64
	// maxNodes bounds the values of one document with its aliases followed.
	maxNodes = 100_000
	// maxTokens bounds what the parser is given: parts of it take time that
	// grows with the square.
	maxTokens = 50_000
	// maxFaults bounds the faults reported for one file.
	maxFaults = 20
)

// JSON is a field that takes any YAML value and holds it as JSON: keys in the
// file's order, whole numbers as whole numbers.
type JSON = json.RawMessage

// Validator is what a configuration implements to check itself once it has
// been read. Validate reports all faults at once, joined with errors.Join and
// made with [Invalid], so that they get their line.
type Validator interface {
	Validate() error
}

// Classes of fault, for errors.Is.
var (
	ErrSyntax       = errors.New("not well-formed YAML")
	ErrLimit        = errors.New("beyond a limit")
	ErrUnsupported  = errors.New("not supported here")
	ErrUnknownKey   = errors.New("unknown key")
	ErrDuplicateKey = errors.New("key given twice")
	ErrType         = errors.New("value of another type")
	ErrInvalid      = errors.New("invalid value")
)

// Fault is one thing wrong with a file. Line and Column count from 1 and are
// 0 where the place is not known.
type Fault struct {
	File         string
	Line, Column int
	Path         string // datasets[0].columns; "" is the document
	Class        error  // one of the Err variables
	Text         string // what is wrong, without place and path
}

func (f *Fault) Error() string {
	s := ""
	if f.File != "" {
		s = f.File + ":"
		if f.Line > 0 {
			s += fmt.Sprintf("%d:%d:", f.Line, f.Column)
		}
		s += " "
	}
	if f.Path != "" && f.Class != ErrUnknownKey { // unknown keys carry the path in the text
		s += f.Path + ": "
	}
	return s + f.Text
}

func (f *Fault) Unwrap() error { return f.Class }

// Invalid is a fault of the value at path, for Validate.
func Invalid(path, format string, args ...any) error {
	return &Fault{Path: path, Class: ErrInvalid, Text: fmt.Sprintf(format, args...)}
}

// Under puts prefix before the path of every fault in err, so that a section
// can validate itself: Under("limits", c.Limits.Validate()).
func Under(prefix string, err error) error {
	var errs []error
	for _, e := range flatten(err) {
		if f, ok := errors.AsType[*Fault](e); ok {
			g := *f
			g.Path = join(prefix, f.Path)
			e = &g
		} else {
			e = &Fault{Path: prefix, Class: ErrInvalid, Text: e.Error()}
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// join appends a relative path: a key or an index.
func join(prefix, rest string) string {
	switch {
	case prefix == "":
		return rest
	case rest == "":
		return prefix
	case rest[0] == '[':
		return prefix + rest
	}
	return prefix + "." + rest
}

// flatten splits what errors.Join put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range j.Unwrap() {
			errs = append(errs, flatten(e)...)
		}
		return errs
	}
	return []error{err}
}

// DecodeFile reads the file at path into out; see [Decode].
func DecodeFile(path string, out any) error {
	f, err := os.Open(path)
	if err != nil {
		return err // it names the file
	}
	defer f.Close()
	return Decode(f, filepath.Base(path), out)
}

// Decode reads one YAML document into out, a pointer to a struct or map that
// holds the defaults. file is the name that faults begin with. An empty
// document leaves out as it is. Where out is a [Validator], it is asked last.
// The error joins every *Fault found.
func Decode(r io.Reader, file string, out any) error {
	v := reflect.ValueOf(out)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return errors.New("strictyaml: the target must be a pointer that is not nil")
	}
	src, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	d := &decoder{file: file, anchors: make(map[string]ast.Node), places: make(map[string]*token.Position)}
	if body := d.parse(src); body != nil && len(d.faults) == 0 {
		d.value(body, v.Elem(), "", 0)
	}
	if val, ok := out.(Validator); ok && len(d.faults) == 0 {
		d.adopt(val.Validate())
	}
	return errors.Join(d.faults...)
}

// adopt gives the faults of a Validator their file and line.
func (d *decoder) adopt(err error) {
	for _, e := range flatten(err) {
		f, ok := errors.AsType[*Fault](e)
		if !ok {
			f = &Fault{Class: ErrInvalid, Text: e.Error()}
		}
		g := *f
		g.File = d.file
		if pos := d.place(g.Path); pos != nil {
			g.Line, g.Column = pos.Line, pos.Column
		}
		d.faults = append(d.faults, &g)
	}
}

// place returns where path stands, or the nearest section around it.
func (d *decoder) place(path string) *token.Position {
	for path != "" {
		if pos := d.places[path]; pos != nil {
			return pos
		}
		cut := bytes.LastIndexAny([]byte(path), ".[")
		if cut < 0 {
			return nil
		}
		path = path[:cut]
	}
	return nil
}

// parse returns the document's body, or nil for an empty one.
func (d *decoder) parse(src []byte) (body ast.Node) {
	if len(src) > MaxSize {
		d.fault(nil, "", ErrLimit, "the file is larger than %d bytes", MaxSize)
		return nil
	}
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	if line, ok := badByte(src); ok {
		d.faults = append(d.faults, &Fault{
			File: d.file, Line: line, Column: 1, Class: ErrSyntax,
			Text: "the line is not UTF-8 text, or holds a control character",
		})
		return nil
	}
	defer func() { // the parser is not ours: a panic of it is a syntax error
		if recover() != nil {
			body = nil
			d.fault(nil, "", ErrSyntax, "the file is not well-formed YAML")
		}
	}()
	tokens := lexer.Tokenize(string(src))
	if len(tokens) > maxTokens {
		d.fault(tokens[maxTokens], "", ErrLimit, "the file holds more than %d words and signs", maxTokens)
		return nil
	}
	if tk := tooDeep(tokens); tk != nil {
		d.fault(tk, "", ErrLimit, "nested more than %d deep", maxDepth)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return nil
	}
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil || i > 0 {
			d.fault(doc.Body.GetToken(), "", ErrUnsupported, "the file holds more than one document")
			return nil
		}
		body = doc.Body
	}
	return body
}

// syntax reports a parser error by its message alone, up to the first thing it
// quotes: the rest shows the source.
func (d *decoder) syntax(err error) {
	var e interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &e) {
		d.fault(nil, "", ErrSyntax, "the file is not well-formed YAML")
		return
	}
	text, _, _ := strings.Cut(e.GetMessage(), "\"")
	if text = strings.TrimRight(text, ": "); text == "" {
		text = "the file is not well-formed YAML"
	}
	d.fault(e.GetToken(), "", ErrSyntax, "%s", text)
}

// badByte finds the first line that YAML text cannot contain.
func badByte(src []byte) (line int, bad bool) {
	line = 1
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && n == 1,
			r < ' ' && r != '\t' && r != '\r',
			r >= 0x7f && r < 0xa0 && r != 0x85:
			return line, true
		}
		src = src[n:]
	}
	return 0, false
}

// tooDeep bounds nesting before the recursive parser sees the tokens: open
// flow brackets, block levels begun on one line ("- - -", "? ? ?"), and
// properties in a row. Levels begun on lines of their own are indented, so
// that the file's size bounds them; they are counted by column.
func tooDeep(tokens token.Tokens) *token.Token {
	open, onLine, line := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, onLine = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			open++
		case token.SequenceEndType, token.MappingEndType:
			open--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType, token.AliasType:
			onLine++
		}
		if open > maxDepth || onLine > 4*maxDepth {
			return tk
		}
	}
	return nil
}
