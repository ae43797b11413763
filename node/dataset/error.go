package dataset

import (
	"fmt"
	"strings"
)

// Rule is the stable name of a requirement that a source does not meet.
type Rule string

// The rules.
const (
	FileMissing  Rule = "file.missing"
	FileAccess   Rule = "file.access"
	FileKind     Rule = "file.kind"
	FileRead     Rule = "file.read"
	FileChanged  Rule = "file.changed"
	FileEncoding Rule = "file.encoding"
	FileNUL      Rule = "file.nul"

	HeaderMissing   Rule = "header.missing"
	HeaderUnknown   Rule = "header.unknown"
	HeaderDuplicate Rule = "header.duplicate"
	HeaderColumn    Rule = "header.column"
	HeaderKey       Rule = "header.key"

	RowFields Rule = "row.fields"
	RowBlank  Rule = "row.blank"
	RowQuote  Rule = "row.quote"
	RowSize   Rule = "row.size"
	FieldSize Rule = "field.size"

	TypeInt    Rule = "type.int"
	TypeFloat  Rule = "type.float"
	TypeRange  Rule = "type.range"
	TypeFinite Rule = "type.finite"

	KeyForm      Rule = "key.form"
	KeyBlank     Rule = "key.blank"
	KeyDuplicate Rule = "key.duplicate"
	KeyText      Rule = "key.text"
	KeyUnfit     Rule = "key.unfit"
)

var ruleText = map[Rule]string{
	FileMissing:  "no such file",
	FileAccess:   "the file cannot be opened",
	FileKind:     "not a regular file",
	FileRead:     "reading failed",
	FileChanged:  "the file changed since it was opened",
	FileEncoding: "bytes that are not text in the expected encoding",
	FileNUL:      "a NUL byte",

	HeaderMissing:   "the first line is not the header",
	HeaderUnknown:   "the header has a name that is not configured",
	HeaderDuplicate: "the header has this name twice",
	HeaderColumn:    "the header lacks this column",
	HeaderKey:       "the header lacks this key column",

	RowFields: "the row's number of fields differs from the header's",
	RowBlank:  "an empty line before a row",
	RowQuote:  "a quotation mark that is not closed, or within a field and not doubled",
	RowSize:   "the row is too long",
	FieldSize: "the field is too long",

	TypeInt:    "not an integer",
	TypeFloat:  "not a number",
	TypeRange:  "the number is out of range",
	TypeFinite: "not a finite number",

	KeyForm:      "an integer key that is not in plain decimal form",
	KeyBlank:     "a blank key",
	KeyDuplicate: "a key that an earlier row has",
	KeyText:      "a key that is not valid text or too long",
	KeyUnfit:     "a key that is not of the key rule's form",
}

// Error is a fault of a data source and where it is. It never holds what the
// source holds: Column is a name from the configuration.
type Error struct {
	File   string // as configured
	Line   int    // from 1; 0 where the fault is the whole file's
	Column string // blank where none applies or the file's name is not a configured one
	Rule   Rule
	Hint   string // what the reader can do; may be blank
	Err    error  // the operating system's error, if there is one
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "dataset: %s", e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, " line %d", e.Line)
	}
	if e.Column != "" {
		fmt.Fprintf(&b, ", column %s", e.Column)
	}
	fmt.Fprintf(&b, ": %s", ruleText[e.Rule])
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	fmt.Fprintf(&b, " [%s]", e.Rule)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the operating system's error.
func (e *Error) Unwrap() error { return e.Err }
