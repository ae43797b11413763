package strictyaml

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder holds the state of one file.
type decoder struct {
	file    string
	faults  []error
	anchors map[string]ast.Node // anchors whose value is complete, so that no alias meets itself
	aliases int
	nodes   int
	places  map[string]*token.Position
}

func (d *decoder) fault(tk *token.Token, path string, class error, format string, args ...any) {
	f := &Fault{File: d.file, Path: path, Class: class, Text: fmt.Sprintf(format, args...)}
	if tk != nil && tk.Position != nil {
		f.Line, f.Column = tk.Position.Line, tk.Position.Column
	}
	switch {
	case len(d.faults) < maxFaults:
		d.faults = append(d.faults, f)
	case len(d.faults) == maxFaults:
		d.faults = append(d.faults, &Fault{File: d.file, Class: ErrLimit, Text: "more faults follow"})
	}
}

func (d *decoder) want(n ast.Node, path, what string) {
	d.fault(first(n), path, ErrType, "want %s, got %s", what, kind(n))
}

var (
	jsonType     = reflect.TypeFor[json.RawMessage]()
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// enter counts n against the bounds, and follows anchors and aliases. It
// returns nil where n is refused. The second result is called when the value
// is complete.
func (d *decoder) enter(n ast.Node, path string, depth int) (ast.Node, func()) {
	done := func() {}
	for {
		d.nodes++
		switch {
		case len(d.faults) > maxFaults:
			return nil, done
		case d.nodes > maxNodes:
			if d.nodes == maxNodes+1 {
				d.fault(first(n), path, ErrLimit, "the document holds more than %d values", maxNodes)
			}
			return nil, done
		case depth > maxDepth:
			d.fault(first(n), path, ErrLimit, "nested more than %d deep", maxDepth)
			return nil, done
		}
		switch x := n.(type) {
		case *ast.AnchorNode:
			name, value, before := nameOf(x.Name), x.Value, done
			done = func() { d.anchors[name] = value; before() }
			n = value
		case *ast.AliasNode:
			if d.aliases++; d.aliases > maxAliases {
				if d.aliases == maxAliases+1 {
					d.fault(first(x), path, ErrLimit, "aliases are followed more than %d times", maxAliases)
				}
				return nil, done
			}
			target, ok := d.anchors[nameOf(x.Value)]
			if !ok {
				d.fault(first(x), path, ErrSyntax, "alias of an anchor that does not come before it")
				return nil, done
			}
			n = target
		case *ast.TagNode:
			d.fault(first(x), path, ErrUnsupported, "tags are not supported")
			return nil, done
		case nil:
			return nil, done
		default:
			return n, done
		}
	}
}

func nameOf(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// value decodes n into v.
func (d *decoder) value(n ast.Node, v reflect.Value, path string, depth int) {
	if n != nil && path != "" {
		if tk := first(n); tk != nil && d.places[path] == nil {
			d.places[path] = tk.Position
		}
	}
	n, done := d.enter(n, path, depth)
	defer done()
	if n == nil {
		return
	}
	if v.Type() == jsonType {
		if isNull(n) {
			return
		}
		if b, ok := d.json(nil, n, path, depth); ok {
			v.SetBytes(b)
		}
		return
	}
	if v.Kind() == reflect.Pointer {
		if isNull(n) {
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path, depth)
		return
	}
	if v.Type() == durationType {
		d.duration(n, v, path)
		return
	}
	if v.CanAddr() && v.Addr().Type().Implements(textType) {
		text, ok := scalarText(n)
		if !ok {
			d.want(n, path, "text")
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			d.fault(first(n), path, ErrInvalid, "%s", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Map:
		d.mapping(n, v, path, depth)
	case reflect.Slice:
		d.list(n, v, path, depth)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) duration(n ast.Node, v reflect.Value, path string) {
	text, ok := scalarText(n)
	t, err := time.ParseDuration(text)
	if !ok || err != nil {
		d.fault(first(n), path, ErrType, `want a duration such as "30s" or "5m", got %s`, kind(n))
		return
	}
	v.SetInt(int64(t))
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	text, ok := scalarText(n)
	class := classOf(n)
	switch v.Kind() {
	case reflect.String:
		if !ok {
			d.want(n, path, "text")
			return
		}
		v.SetString(text)
	case reflect.Bool:
		if class != boolean {
			d.want(n, path, "true or false")
			return
		}
		v.SetBool(strings.EqualFold(text, "true"))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if !d.whole(n, class, path) {
			return
		}
		i, err := strconv.ParseInt(digits(text), 0, 64)
		if err != nil || v.OverflowInt(i) {
			d.fault(first(n), path, ErrType, "the number does not fit in %d bits", v.Type().Bits())
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if !d.whole(n, class, path) {
			return
		}
		if strings.HasPrefix(text, "-") {
			d.fault(first(n), path, ErrType, "want a whole number that is not negative")
			return
		}
		u, err := strconv.ParseUint(digits(text), 0, 64)
		if err != nil || v.OverflowUint(u) {
			d.fault(first(n), path, ErrType, "the number does not fit in %d bits", v.Type().Bits())
			return
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		if class != integer && class != decimal {
			d.want(n, path, "a number")
			return
		}
		f, err := strconv.ParseFloat(digits(text), v.Type().Bits())
		if err != nil || math.IsInf(f, 0) {
			d.fault(first(n), path, ErrType, "the number is not one this field can hold")
			return
		}
		v.SetFloat(f)
	default:
		d.fault(first(n), path, ErrUnsupported, "no value can be read into a %s", v.Type())
	}
}

func (d *decoder) whole(n ast.Node, c class, path string) bool {
	if c == code {
		d.fault(first(n), path, ErrType, "a whole number must not begin with 0")
		return false
	}
	if c != integer {
		d.want(n, path, "a whole number")
		return false
	}
	return true
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string, depth int) {
	if isNull(n) {
		return
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.want(n, path, "a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(seq.Values))
	for i, item := range seq.Values {
		p := path + "[" + strconv.Itoa(i) + "]"
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() == reflect.Pointer && isNull(item) {
			d.want(item, p, "a value")
			continue
		}
		d.value(item, e, p, depth+1)
		out = reflect.Append(out, e)
	}
	v.Set(out)
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, path string, depth int) {
	if v.Type().Key().Kind() != reflect.String {
		d.fault(first(n), path, ErrUnsupported, "no value can be read into a %s", v.Type())
		return
	}
	if isNull(n) {
		return
	}
	pairs, ok := d.pairs(n, path)
	if !ok {
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(pairs)))
	}
	for _, p := range pairs {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(p.value, e, join(path, p.key), depth+1)
		v.SetMapIndex(reflect.ValueOf(p.key).Convert(v.Type().Key()), e)
	}
}

func (d *decoder) structure(n ast.Node, v reflect.Value, path string, depth int) {
	if isNull(n) {
		return
	}
	pairs, ok := d.pairs(n, path)
	if !ok {
		return
	}
	fields := make(map[string]reflect.Value)
	collect(v, fields)
	for _, p := range pairs {
		f, ok := fields[p.key]
		if !ok {
			d.unknown(p, path, fields)
			continue
		}
		d.value(p.value, f, join(path, p.key), depth+1)
	}
}

func (d *decoder) unknown(p pair, path string, fields map[string]reflect.Value) {
	text := fmt.Sprintf("unknown key %q", shorten(join(path, p.key)))
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	switch near, distance := nearest(p.key, names); {
	case near == "":
	case distance <= (len([]rune(near))+2)/3:
		text += fmt.Sprintf("; did you mean %q?", near)
	default:
		text += fmt.Sprintf("; the nearest known key is %q", near)
	}
	d.fault(p.at, join(path, p.key), ErrUnknownKey, "%s", text)
}

// collect gathers the settable fields of v by key.
func collect(v reflect.Value, into map[string]reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		if f.Anonymous && f.Type.Kind() == reflect.Struct && rest == "inline" {
			collect(v.Field(i), into)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		into[name] = v.Field(i)
	}
}

// pair is one key of a mapping with its value.
type pair struct {
	key   string
	at    *token.Token
	value ast.Node
}

// pairs lists a mapping in the file's order and reports keys that are not
// text or occur twice.
func (d *decoder) pairs(n ast.Node, path string) ([]pair, bool) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.want(n, path, "keys with values")
		return nil, false
	}
	var out []pair
	seen := make(map[string]int)
	for it := m.MapRange(); it.Next(); {
		kv := it.KeyValue()
		tk := kv.Key.GetToken()
		if kv.Key.IsMergeKey() {
			d.fault(tk, path, ErrUnsupported, "merge keys are not supported")
			continue
		}
		key, ok := "", false
		switch k := kv.Key.(type) {
		case *ast.MappingKeyNode: // "? key"
			key, ok = scalarText(k.Value)
		default:
			key, ok = scalarText(k)
		}
		if !ok || key == "" {
			d.fault(tk, path, ErrType, "a key must be text")
			continue
		}
		if line, twice := seen[key]; twice {
			d.fault(tk, join(path, key), ErrDuplicateKey, "the key is given twice, first on line %d", line)
			continue
		}
		seen[key] = tk.Position.Line
		out = append(out, pair{key, tk, kv.Value})
	}
	return out, true
}
