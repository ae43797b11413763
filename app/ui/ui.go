// Package ui is what people see of the program in a terminal: how far long
// work is, tables, sizes, and error and hint lines.
//
// Messages follow a few rules: they go to standard error, begin in lower case
// with "error:" or "hint:", and end without a full stop. Text that
// came from elsewhere is shown without the characters a terminal would obey.
package ui

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// Error prints err, one line for each line of its text.
func Error(w io.Writer, err error) { lines(w, "error", err.Error()) }

// Hint prints what would help; nothing where the text is blank.
func Hint(w io.Writer, format string, a ...any) { lines(w, "hint", fmt.Sprintf(format, a...)) }

func lines(w io.Writer, kind, text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(Clean(line), " ")
		if !strings.HasSuffix(line, "...") {
			line = strings.TrimSuffix(line, ".")
		}
		if line != "" {
			fmt.Fprintf(w, "%s: %s\n", kind, line)
		}
	}
}

// Clean replaces what a terminal would obey or could be misled by: control
// characters and those that turn the direction of text. Line ends and tabs
// become spaces.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// IsTerminal reports whether w is a terminal that a person looks at.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// Bytes writes a size for people, in decimal units: "950 B", "12.3 MB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + Bytes(-max(n, -1<<62))
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		f /= 1000
		if f < 99.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		if f < 999.5 {
			return fmt.Sprintf("%.0f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.0f EB", f)
}

// Count writes a whole number with its thousands apart: "30,000".
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
