package ui

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// Table is text in columns. Chinese, Japanese and Korean characters count as
// the two columns they take; columns of numbers stand to the right.
type Table struct {
	head []string
	rows [][]string
}

// NewTable returns a table with these column heads.
func NewTable(head ...string) *Table { return &Table{head: head} }

// Add appends a row. Cells that are missing are blank, those beyond the heads
// are dropped.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(t.head))
	for i := range min(len(cells), len(row)) {
		row[i] = strings.TrimSpace(Clean(cells[i]))
	}
	t.rows = append(t.rows, row)
}

// cellWidth does not look at the environment: a table is the same everywhere.
var cellWidth = &runewidth.Condition{EastAsianWidth: false, StrictEmojiNeutral: true}

// Print writes the table, with two spaces between columns.
func (t *Table) Print(w io.Writer) {
	widths := make([]int, len(t.head))
	right := make([]bool, len(t.head))
	for i, h := range t.head {
		widths[i] = cellWidth.StringWidth(h)
		right[i] = len(t.rows) > 0
		some := false
		for _, row := range t.rows {
			widths[i] = max(widths[i], cellWidth.StringWidth(row[i]))
			right[i] = right[i] && (row[i] == "" || numeric(row[i]))
			some = some || row[i] != ""
		}
		right[i] = right[i] && some
	}
	var b strings.Builder
	line := func(row []string) {
		start := b.Len()
		for i, cell := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			pad := strings.Repeat(" ", widths[i]-cellWidth.StringWidth(cell))
			if right[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		trimmed := strings.TrimRight(b.String()[start:], " ")
		rest := b.String()[:start]
		b.Reset()
		b.WriteString(rest + trimmed + "\n")
	}
	line(t.head)
	for _, row := range t.rows {
		line(row)
	}
	_, _ = io.WriteString(w, b.String())
}

// numeric reports whether s is a number as this package writes them, with or
// without a unit of sizes and durations.
func numeric(s string) bool {
	s = strings.TrimLeft(s, "+-")
	digits, _, _ := strings.Cut(s, " ")
	if digits == "" {
		return false
	}
	for _, r := range digits {
		if (r < '0' || r > '9') && r != '.' && r != ',' && r != '%' {
			return false
		}
	}
	if _, unit, ok := strings.Cut(s, " "); ok {
		for word := range strings.FieldsSeq(unit) {
			switch word {
			case "B", "kB", "MB", "GB", "TB", "PB", "EB", "ms", "s", "min", "h", "d":
			default:
				if !numeric(word) {
					return false
				}
			}
		}
	}
	return true
}
