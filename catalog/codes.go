package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
)

// ShareType is what a share type code means.
type ShareType int

// The zero ShareType is not a meaning, so that a forgotten lookup grants
// nothing.
const (
	ShareUnconditional ShareType = iota + 1 // needs no approval
	ShareConditional                        // needs its provider's approval
	ShareNone                               // can never be granted
)

// String returns the canonical word.
func (s ShareType) String() string {
	switch s {
	case ShareUnconditional:
		return "unconditional"
	case ShareConditional:
		return "conditional"
	case ShareNone:
		return "none"
	}
	return "unknown"
}

// Fields of an entry that hold codes.
const (
	FieldShareType     = "share_type"
	FieldUpdateCycle   = "update_cycle"
	FieldFormat        = "format"
	FieldGrade         = "grade"
	FieldOpenAttribute = "open_attribute"
)

// canonical lists every meaning a field can have, each with its code in the
// canonical table: the core metadata of the government information resource
// catalog (发改高技〔2017〕1272号), and the grades of GB/T 43697.
var canonical = map[string]map[string]string{
	FieldShareType: {"1": "unconditional", "2": "conditional", "3": "none"},
	FieldUpdateCycle: {
		"1": "real-time", "2": "daily", "3": "weekly", "4": "monthly", "5": "quarterly",
		"6": "half-yearly", "7": "yearly", "8": "irregular", "9": "never",
	},
	FieldFormat: {
		"0100": "structured", "0200": "database table", "0300": "unstructured", "0310": "file",
		"0320": "folder", "0400": "interface", "0500": "link",
	},
	FieldGrade: {
		"1": "general 1", "2": "general 2", "3": "general 3", "4": "general 4",
		"5": "important", "6": "core",
	},
	FieldOpenAttribute: {"0": "closed", "1": "open", "2": "open on conditions"},
}

// CodeTable says what the codes of one platform mean. It is immutable.
//
// Platforms number the same meanings differently, and reading one platform's
// codes by another's table can turn "not shared" into "shared on conditions".
// Three things stand against that. Every signed entry names the table its
// provider read by (CodeTable.ID, which holds the table's digest), the
// platform signs its table with the roster, and an entry of another table or
// with an unknown code is refused.
type CodeTable struct {
	name  string
	codes map[string]map[string]string // field → code → meaning
	id    string
}

// Canonical is the table of 发改高技〔2017〕1272号.
func Canonical() *CodeTable {
	t, err := NewCodeTable("cn-2017-1272", nil)
	if err != nil {
		panic(err) // a constant of this file is wrong
	}
	return t
}

// NewCodeTable makes a platform's own table: for each field, what its codes
// mean. A field that is left out has the canonical codes; a field that is
// given has only the codes given. Every fault is reported at once.
func NewCodeTable(name string, fields map[string]map[string]string) (*CodeTable, error) {
	var f faults
	f.text("name", name, 1, 64)
	t := &CodeTable{name: name, codes: make(map[string]map[string]string, len(canonical))}
	for field, codes := range canonical {
		t.codes[field] = codes
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		known, ok := canonical[field]
		if !ok {
			f.add(field, "is not a coded field; coded fields are %s", strings.Join(slices.Sorted(maps.Keys(canonical)), ", "))
			continue
		}
		if len(fields[field]) == 0 || len(fields[field]) > 64 {
			f.add(field, "needs 1 to 64 codes")
		}
		words := slices.Sorted(maps.Values(known))
		used := make(map[string]string)
		for _, code := range slices.Sorted(maps.Keys(fields[field])) {
			meaning := fields[field][code]
			f.text(field+"."+code, code, 1, 16)
			if !slices.Contains(words, meaning) {
				f.add(field+"."+code, "has no meaning %q; the meanings are %s", clip(meaning), strings.Join(words, ", "))
			}
			// Two codes with one meaning are harmless except where the meaning
			// decides permission: there it is more likely a slip.
			if other, twice := used[meaning]; twice && field == FieldShareType {
				f.add(field+"."+code, "means %q, as %q does", meaning, other)
			}
			used[meaning] = code
		}
		t.codes[field] = maps.Clone(fields[field])
	}
	if err := f.err("catalog: code table"); err != nil {
		return nil, err
	}
	t.id = name + ":" + t.digest()
	return t, nil
}

// digest covers every code and meaning, in order, each with its length.
func (t *CodeTable) digest() string {
	h := sha256.New()
	for _, c := range t.list() {
		fmt.Fprintf(h, "%d:%s%d:%s%d:%s", len(c.Field), c.Field, len(c.Code), c.Code, len(c.Meaning), c.Meaning)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (t *CodeTable) list() []*catalogv1.Code {
	var cs []*catalogv1.Code
	for field, codes := range t.codes {
		for code, meaning := range codes {
			cs = append(cs, &catalogv1.Code{Field: field, Code: code, Meaning: meaning})
		}
	}
	slices.SortFunc(cs, func(a, b *catalogv1.Code) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Code, b.Code))
	})
	return cs
}

// ID names the table with the digest of its content; entries carry it.
func (t *CodeTable) ID() string { return t.id }

// Name returns the table's name.
func (t *CodeTable) Name() string { return t.name }

// Message returns the table as rosters carry it.
func (t *CodeTable) Message() *catalogv1.CodeTable {
	return &catalogv1.CodeTable{Name: t.name, Codes: t.list()}
}

func codeTableOf(m *catalogv1.CodeTable) (*CodeTable, error) {
	fields := make(map[string]map[string]string)
	for field := range canonical {
		fields[field] = make(map[string]string)
	}
	for _, c := range m.GetCodes() {
		codes, ok := fields[c.GetField()]
		if !ok {
			return nil, Refuse(RuleCodeTable, "the platform's code table has a field %q that this build does not know", clip(c.GetField()))
		}
		if _, twice := codes[c.GetCode()]; twice {
			return nil, Refuse(RuleCodeTable, "the platform's code table gives %s %q twice", c.GetField(), clip(c.GetCode()))
		}
		codes[c.GetCode()] = c.GetMeaning()
	}
	t, err := NewCodeTable(m.GetName(), fields)
	if err != nil {
		return nil, Refuse(RuleCodeTable, "the platform's code table is unusable: %v", err)
	}
	return t, nil
}

// Meaning returns the canonical word for a code; unknown codes are refused.
func (t *CodeTable) Meaning(field, code string) (string, error) {
	if m, ok := t.codes[field][code]; ok {
		return m, nil
	}
	return "", Refuse(RuleCodeTable, "%s: code %q is not in table %s; its codes are %s", field, clip(code), t.name,
		strings.Join(slices.Sorted(maps.Keys(t.codes[field])), ", "))
}

// Code returns the code for a canonical word.
func (t *CodeTable) Code(field, meaning string) (string, error) {
	for _, c := range t.list() {
		if c.Field == field && c.Meaning == meaning {
			return c.Code, nil
		}
	}
	return "", Refuse(RuleCodeTable, "%s: table %s has no code for %q", field, t.name, clip(meaning))
}

// ShareType reads a share type code.
func (t *CodeTable) ShareType(code string) (ShareType, error) {
	m, err := t.Meaning(FieldShareType, code)
	if err != nil {
		return 0, err
	}
	for _, s := range []ShareType{ShareUnconditional, ShareConditional, ShareNone} {
		if s.String() == m {
			return s, nil
		}
	}
	return 0, Refuse(RuleCodeTable, "share_type: %q is no share type", m)
}
