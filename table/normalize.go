package table

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// KeyRule names how key columns become comparable bytes. Both parties of a
// job must use the same rule; it stands in the contract.
type KeyRule string

// RuleID is the rule for identifiers of people and companies. A key part is
// treated in this order:
//
//  1. it must be valid UTF-8;
//  2. Unicode normalisation form NFKC: full-width and half-width forms fold
//     ("１２Ａ" to "12A"), composed and decomposed accents agree;
//  3. every character to upper case by Unicode's simple mapping, without any
//     language's special cases, so that the check digits x and X agree; then
//     NFKC again, for upper case can leave that form;
//  4. white space (Unicode White_Space, which has U+3000 and U+00A0) and the
//     invisible marks U+200B to U+200F, U+2060 and U+FEFF (the byte order
//     mark) go from both ends, never from within.
//
// Nothing else changes: leading zeros, hyphens and inner spaces stay, and a
// text "12.0" is not the number 12. An int column counts as its decimal digits.
// A part that is empty after this, or missing, is a blank key. The rule is
// idempotent. NFKC is stable for every character that Unicode has assigned,
// so two builds can disagree only on characters newer than the older of them.
//
// A key of one column is these bytes themselves. A key of several columns is
// each part with its length in bytes before it (as a uvarint), in the schema's
// order, so that ("a", "bc") and ("ab", "c") differ.
const RuleID KeyRule = "id.v1"

// ErrKeyRule is an unknown key rule.
var ErrKeyRule = errors.New("table: unknown key rule")

// ParseKeyRule returns the rule called name; an empty name is [RuleID].
func ParseKeyRule(name string) (KeyRule, error) {
	if name == "" {
		return RuleID, nil
	}
	if r := KeyRule(name); slices.Contains(rules, r) {
		return r, nil
	}
	return "", fmt.Errorf("%w %q: want one of %q", ErrKeyRule, name, rules)
}

var errKeyText = errors.New("not valid UTF-8")

// Append appends the normal form of the key part s to dst. Nothing is appended
// for a blank part, nor where Append fails: on text that is not valid UTF-8
// and, with [ErrUnfitKeys], on text that is not of the form the rule asks for.
func (r KeyRule) Append(dst []byte, s string) ([]byte, error) {
	switch r {
	case RuleID:
	case RuleNone, RuleTrim, RuleNFKC, RuleCompanyName:
		return r.appendText(dst, s)
	case RuleCNID18, RuleUSCC, RulePhoneCN:
		return r.appendForm(dst, s)
	default:
		return dst, fmt.Errorf("%w %q", ErrKeyRule, string(r))
	}
	s = strings.TrimFunc(s, trimmed)
	if isASCII(s) {
		// Identifiers almost always are; the general path gives the same.
		n := len(dst)
		dst = append(dst, s...)
		for i, c := range dst[n:] {
			if 'a' <= c && c <= 'z' {
				dst[n+i] = c - ('a' - 'A')
			}
		}
		return dst, nil
	}
	if !utf8.ValidString(s) {
		return dst, errKeyText
	}
	s = strings.Map(unicode.ToUpper, norm.NFKC.String(s))
	return append(dst, strings.TrimFunc(norm.NFKC.String(s), trimmed)...), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// trimmed reports whether c is taken from the ends of a key.
func trimmed(c rune) bool {
	switch {
	case 0x200B <= c && c <= 0x200F, c == 0x2060, c == 0xFEFF:
		return true
	}
	return unicode.IsSpace(c)
}
