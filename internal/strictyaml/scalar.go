package strictyaml

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// class is what a scalar means under the YAML 1.2 core schema.
type class int

const (
	none    class = iota // not a scalar
	null                 // blank, null or ~
	boolean              // true, false
	integer
	code    // digits with a leading zero: a number or a code, so neither
	decimal // with a point or an exponent
	special // .inf, .nan
	plain   // text
)

// The core schema of YAML 1.2, section 10.3.2. The parser's own view follows
// YAML 1.1 in places (0100 is octal, 1e-3 is text), so it is not used.
var (
	reInteger = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$|^0x[0-9a-fA-F]+$|^0o[0-7]+$`)
	reCode    = regexp.MustCompile(`^[-+]?0[0-9]+$`)
	reDecimal = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	reSpecial = regexp.MustCompile(`^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$`)
)

func classOf(n ast.Node) class {
	switch x := n.(type) {
	case *ast.NullNode:
		return null
	case *ast.LiteralNode:
		return plain
	case *ast.StringNode:
		if x.Token.Type == token.SingleQuoteType || x.Token.Type == token.DoubleQuoteType {
			return plain
		}
	case ast.ScalarNode:
	default:
		return none
	}
	switch text := n.GetToken().Value; {
	case text == "" || text == "~" || text == "null" || text == "Null" || text == "NULL":
		return null
	case text == "true" || text == "True" || text == "TRUE",
		text == "false" || text == "False" || text == "FALSE":
		return boolean
	case reInteger.MatchString(text):
		return integer
	case reCode.MatchString(text):
		return code
	case reDecimal.MatchString(text):
		return decimal
	case reSpecial.MatchString(text):
		return special
	}
	return plain
}

func isNull(n ast.Node) bool { return classOf(n) == null }

// scalarText returns a scalar as written; false for null and for what is no
// scalar.
func scalarText(n ast.Node) (string, bool) {
	if c := classOf(n); c == none || c == null {
		return "", false
	}
	switch x := n.(type) {
	case *ast.LiteralNode:
		return x.Value.Value, true
	case *ast.StringNode:
		return x.Value, true
	}
	return n.GetToken().Value, true
}

// digits makes a number of the core schema one for strconv.
func digits(text string) string { return strings.TrimPrefix(text, "+") }

// kind names what n is, for people.
func kind(n ast.Node) string {
	switch n.(type) {
	case ast.MapNode:
		return "keys with values"
	case *ast.SequenceNode:
		return "a list"
	}
	switch classOf(n) {
	case null:
		return "nothing"
	case boolean:
		return "true or false"
	case integer:
		return "a whole number"
	case code:
		return "digits that begin with 0"
	case decimal:
		return "a number with a fraction"
	case special:
		return "a number that is not finite"
	case plain:
		return "text"
	}
	return "something else"
}

// first returns the token where n begins.
func first(n ast.Node) *token.Token {
	switch x := n.(type) {
	case nil:
		return nil
	case ast.MapNode:
		if m, ok := n.(*ast.MappingNode); ok && m.IsFlowStyle {
			return m.Start
		}
		if it := x.MapRange(); it.Next() {
			return it.KeyValue().Key.GetToken()
		}
	}
	return n.GetToken()
}

// json appends n as JSON to b.
func (d *decoder) json(b []byte, n ast.Node, path string, depth int) ([]byte, bool) {
	switch x := n.(type) {
	case *ast.SequenceNode:
		b = append(b, '[')
		for i, item := range x.Values {
			if i > 0 {
				b = append(b, ',')
			}
			var ok bool
			if b, ok = d.jsonChild(b, item, path+"["+strconv.Itoa(i)+"]", depth+1); !ok {
				return nil, false
			}
		}
		return append(b, ']'), true
	case ast.MapNode:
		pairs, ok := d.pairs(n, path)
		if !ok {
			return nil, false
		}
		b = append(b, '{')
		for i, p := range pairs {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(quote(b, p.key), ':')
			if b, ok = d.jsonChild(b, p.value, join(path, p.key), depth+1); !ok {
				return nil, false
			}
		}
		return append(b, '}'), true
	}
	return d.jsonScalar(b, n, path)
}

func (d *decoder) jsonChild(b []byte, n ast.Node, path string, depth int) ([]byte, bool) {
	if tk := first(n); tk != nil && d.places[path] == nil {
		d.places[path] = tk.Position
	}
	n, done := d.enter(n, path, depth)
	defer done()
	if n == nil {
		return nil, false
	}
	return d.json(b, n, path, depth)
}

func (d *decoder) jsonScalar(b []byte, n ast.Node, path string) ([]byte, bool) {
	text, _ := scalarText(n)
	switch classOf(n) {
	case null:
		return append(b, "null"...), true
	case boolean:
		return append(b, strings.ToLower(text)...), true
	case integer:
		t := digits(text)
		if strings.HasPrefix(t, "0x") || strings.HasPrefix(t, "0o") {
			u, err := strconv.ParseUint(t, 0, 64)
			if err != nil {
				d.fault(first(n), path, ErrType, "the number does not fit in 64 bits")
				return nil, false
			}
			return strconv.AppendUint(b, u, 10), true
		}
		return append(b, t...), true
	case decimal:
		t := digits(text)
		if json.Valid([]byte(t)) {
			return append(b, t...), true
		}
		f, err := strconv.ParseFloat(t, 64)
		if err != nil {
			break
		}
		v, err := json.Marshal(f)
		if err != nil {
			break
		}
		return append(b, v...), true
	case code:
		d.fault(first(n), path, ErrType, "digits that begin with 0: quote them if they are a code")
		return nil, false
	case plain:
		return quote(b, text), true
	}
	d.want(n, path, "a value that JSON can hold")
	return nil, false
}

// quote appends s as a JSON string, with no HTML escapes.
func quote(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil { // cannot happen for a string
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

// shorten keeps messages readable: at most 80 characters.
func shorten(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return s
}

// nearest returns the name with the smallest edit distance to key; the first
// in order among equals, "" where there are no names.
func nearest(key string, names []string) (string, int) {
	best, least := "", 0
	if len(key) > 256 {
		key = key[:256]
	}
	for _, name := range names {
		if n := distance(key, name); best == "" || n < least {
			best, least = name, n
		}
	}
	return best, least
}

// distance is the Levenshtein distance in characters.
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	row := make([]int, len(t)+1)
	for j := range row {
		row[j] = j
	}
	for i := range s {
		diagonal := row[0]
		row[0] = i + 1
		for j := range t {
			cost := diagonal
			if s[i] != t[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(t)]
}
