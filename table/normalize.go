package table

import (
	"bytes"
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
	s = trimEnds(s)
	if b, ok := appendSimple(dst, s, upperCase); ok {
		return b, nil
	}
	return appendID(dst, s)
}

// appendID is [RuleID] for any text.
func appendID(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return dst, errKeyText
	}
	s = strings.TrimFunc(s, trimmed)
	s = strings.Map(unicode.ToUpper, norm.NFKC.String(s))
	return append(dst, strings.TrimFunc(norm.NFKC.String(s), trimmed)...), nil
}

// fold is what a rule does to characters beside NFKC.
type fold int

const (
	keepCase fold = iota
	upperCase
	companyName // upper case, foldName
)

// appendSimple appends s as NFKC and f make it, trimmed, where s has only
// simple characters: identifiers and names almost always do, and Unicode's
// tables take a hundred times as long. ok is false where it has others.
func appendSimple(dst []byte, s string, f fold) (b []byte, ok bool) {
	start := len(dst)
	if f != companyName {
		dst = append(dst, s...)
		all := byte(0)
		for i, c := range dst[start:] {
			all |= c
			if 'a' <= c && c <= 'z' && f == upperCase {
				dst[start+i] = c - ('a' - 'A')
			}
		}
		if all < utf8.RuneSelf {
			return trimSpaces(dst, start), true
		}
		dst = dst[:start]
	}
	for i := 0; i < len(s); {
		c, size := rune(s[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRuneInString(s[i:])
			if c = simple(c); c < 0 {
				return dst[:start], false
			}
		}
		i += size
		if 'a' <= c && c <= 'z' && f != keepCase {
			c -= 'a' - 'A'
		}
		if f == companyName {
			if c = foldName(c); c < 0 {
				continue
			}
		}
		dst = utf8.AppendRune(dst, c)
	}
	return trimSpaces(dst, start), true
}

// simple returns the NFKC form of c, a character beyond ASCII, if that is one
// character without case that combines with none before it; else -1.
func simple(c rune) rune {
	switch {
	case 0x4E00 <= c && c <= 0x9FFF, // ideographs
		0x3001 <= c && c <= 0x3020,                             // punctuation of Chinese
		0x2013 <= c && c <= 0x2015, 0x2018 <= c && c <= 0x201F, // dashes and quotation marks
		c == 0xB7: // the middle dot
		return c
	case 0xFF01 <= c && c <= 0xFF5E: // full-width ASCII
		return c - 0xFEE0
	case c == 0x3000:
		return ' '
	}
	return -1
}

// trimEnds takes trimmed characters from both ends of s. Most s have none.
func trimEnds(s string) string {
	if s == "" || plain(s[0]) && plain(s[len(s)-1]) {
		return s
	}
	return strings.TrimFunc(s, trimmed)
}

// plain reports ASCII that no rule trims.
func plain(c byte) bool { return ' ' < c && c < utf8.RuneSelf }

// trimSpaces takes ASCII white space from both ends of dst[start:].
func trimSpaces(dst []byte, start int) []byte {
	if n := len(dst); n == start || plain(dst[start]) && plain(dst[n-1]) {
		return dst
	}
	return dst[:start+copy(dst[start:], bytes.TrimFunc(dst[start:], trimmed))]
}

// trimmed reports whether c is taken from the ends of a key.
func trimmed(c rune) bool {
	switch {
	case 0x200B <= c && c <= 0x200F, c == 0x2060, c == 0xFEFF:
		return true
	}
	return unicode.IsSpace(c)
}
