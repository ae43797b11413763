package table

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The rules beside [RuleID]. All of them want valid UTF-8, all are idempotent,
// and all find a value of nothing but what they trim blank. One rule holds for
// all key columns of a job; an int column counts as its decimal digits.
//
// A rule with a form refuses a value that has another: [Keys] counts such
// values in [KeyError].Unfit and takes no row of that table. So it is better
// to learn of a wrong check digit at home than to miss the match.
const (
	// RuleNone compares the bytes as they are.
	RuleNone KeyRule = "none.v1"
	// RuleTrim takes what RuleID takes from both ends, and changes nothing else.
	RuleTrim KeyRule = "trim.v1"
	// RuleNFKC brings text to Unicode form NFKC and then trims it as RuleTrim
	// does: as RuleID, but upper and lower case differ.
	RuleNFKC KeyRule = "nfkc.v1"

	// RuleCNID18 is the resident identity number of GB 11643-1999: RuleID, and
	// then 17 digits of which the first is not 0 and the 7th to 14th are a date
	// of the calendar, and the check character, a digit or X, of ISO 7064
	// MOD 11-2. The earlier numbers of 15 digits are refused: to add a century
	// would be a guess.
	RuleCNID18 KeyRule = "cn-id18.v1"
	// RuleUSCC is the unified social credit code of GB 32100-2015: RuleID, and
	// then 18 characters of the standard's 31 (digits and capital letters without
	// I, O, S, V and Z), the 3rd to 8th digits, and the last its check character.
	// The check character of the organisation code within it is not looked at.
	RuleUSCC KeyRule = "uscc.v1"
	// RulePhoneCN is the mainland mobile number: RuleID; white space, hyphens,
	// dashes, full stops and round brackets go, wherever they are; one +86 or
	// 0086 in front goes; and then 11 digits, the first a 1 and the second 3 to
	// 9. A bare 86 in front, landline numbers and extensions are refused.
	RulePhoneCN KeyRule = "phone-cn.v1"

	// RuleCompanyName is for names of companies as people write them: RuleID; all
	// white space and the invisible marks that RuleID takes from the ends go,
	// wherever they are; brackets of all shapes become round ones, quotation
	// marks " and ', dashes -, middle dots ·, wave dashes ~, and 、 and 。 become
	// the comma and the full stop; then RuleID once more. Nothing is left out of
	// a name: 有限公司, "Co., Ltd." and the place in brackets are part of it.
	RuleCompanyName KeyRule = "company-name.v1"
)

// ErrUnfitKeys is a value that does not have the form that the key rule asks
// for.
var ErrUnfitKeys = errors.New("table: keys that are not of the key rule's form")

// rules in the order in which a person is told of them.
var rules = []KeyRule{RuleID, RuleNone, RuleTrim, RuleNFKC, RuleCNID18, RuleUSCC, RulePhoneCN, RuleCompanyName}

// KeyRules returns all rules, [RuleID] first.
func KeyRules() []KeyRule { return slices.Clone(rules) }

// appendText is Append for the rules that fold text and refuse none.
func (r KeyRule) appendText(dst []byte, s string) ([]byte, error) {
	switch r {
	case RuleNFKC:
		if b, ok := appendSimple(dst, trimEnds(s), keepCase); ok {
			return b, nil
		}
	case RuleCompanyName:
		if b, ok := appendSimple(dst, trimEnds(s), companyName); ok {
			return b, nil
		}
	}
	return r.appendAny(dst, s)
}

// appendAny is appendText without its shorter way for simple characters.
func (r KeyRule) appendAny(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return dst, errKeyText
	}
	switch r {
	case RuleTrim:
		s = trimEnds(s)
	case RuleNFKC:
		s = strings.TrimFunc(norm.NFKC.String(s), trimmed)
	case RuleCompanyName:
		id, err := appendID(nil, s)
		if err != nil {
			return dst, err
		}
		return appendID(dst, strings.Map(foldName, string(id)))
	}
	return append(dst, s...), nil
}

// appendForm is Append for the rules that ask for a form.
func (r KeyRule) appendForm(dst []byte, s string) ([]byte, error) {
	start := len(dst)
	dst, err := RuleID.Append(dst, s)
	part := dst[start:]
	if err != nil || len(part) == 0 {
		return dst, err
	}
	var fits bool
	switch r {
	case RuleCNID18:
		fits = isCNID18(part)
	case RuleUSCC:
		fits = isUSCC(part)
	case RulePhoneCN:
		part = phoneDigits(part)
		dst, fits = dst[:start+len(part)], isPhoneCN(part)
	}
	if !fits {
		return dst[:start], ErrUnfitKeys
	}
	return dst, nil
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// isCNID18 checks the form of GB 11643. In ISO 7064 MOD 11-2 each character
// counts twice what the one to its right does, and the sum is 1 mod 11.
func isCNID18(b []byte) bool {
	if len(b) != 18 || !digits(b[:17]) || b[0] == '0' {
		return false
	}
	sum := 0
	for _, c := range b[:17] {
		sum = (sum + int(c-'0')) * 2 // below 9 * 2^18 at the end
	}
	switch last := b[17]; {
	case last == 'X':
		sum += 10
	case digits(b[17:]):
		sum += int(last - '0')
	default:
		return false
	}
	if sum%11 != 1 {
		return false
	}
	return isDate(b[6:14])
}

// isDate reports whether the eight digits b are a year, month and day of the
// Gregorian calendar.
func isDate(b []byte) bool {
	number := func(b []byte) (n int) {
		for _, c := range b {
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := number(b[:4]), number(b[4:6]), number(b[6:])
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	return day <= 28 || time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC).Day() == day
}

// usccAlphabet has each character at its value (GB 32100-2015, table 2).
const usccAlphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"

// usccValue is the value of each character plus one; 0 for all others.
var usccValue = func() (v [256]uint8) {
	for i, c := range []byte(usccAlphabet) {
		v[c] = uint8(i) + 1
	}
	return v
}()

// isUSCC checks the form of GB 32100: character i, from 0, counts 3^i times
// its value, and the check character makes the sum 0 mod 31.
func isUSCC(b []byte) bool {
	if len(b) != 18 || !digits(b[2:8]) {
		return false
	}
	sum, weight := int64(0), int64(1) // up to 3^17, and 30 * 3^17 for the sum
	for i, c := range b {
		v := int64(usccValue[c])
		if v == 0 {
			return false
		}
		if i == 17 {
			weight = 1
		}
		sum += (v - 1) * weight
		weight *= 3
	}
	return sum%31 == 0
}

// phoneDigits takes separators and the country's prefix from b, in place.
func phoneDigits(b []byte) []byte {
	if digits(b) && !bytes.HasPrefix(b, []byte("0086")) {
		return b
	}
	kept := b[:0]
	for len(b) > 0 {
		c, size := utf8.DecodeRune(b)
		if !trimmed(c) && c != '(' && c != ')' && c != '.' && !isDash(c) {
			kept = append(kept, b[:size]...)
		}
		b = b[size:]
	}
	for _, prefix := range []string{"+86", "0086"} {
		if bytes.HasPrefix(kept, []byte(prefix)) {
			return kept[:copy(kept, kept[len(prefix):])]
		}
	}
	return kept
}

func isPhoneCN(b []byte) bool {
	return len(b) == 11 && digits(b) && b[0] == '1' && b[1] >= '3'
}

// isDash reports the hyphens and dashes that NFKC leaves apart.
func isDash(c rune) bool {
	return c == '-' || 0x2010 <= c && c <= 0x2015 || c == 0x2212
}

// foldName is the character that stands for c in a company name, or -1 where
// there is none. c is of NFKC, so full-width ASCII has gone before.
func foldName(c rune) rune {
	switch c {
	case '[', '{', '〔', '【', '〖', '〘', '〚', '〈', '《', '⟨':
		return '('
	case ']', '}', '〕', '】', '〗', '〙', '〛', '〉', '》', '⟩':
		return ')'
	case '“', '”', '„', '‟', '「', '」', '『', '』', '«', '»':
		return '"'
	case '‘', '’', '‚', '‛', '′':
		return '\''
	case '、':
		return ','
	case '。':
		return '.'
	case '•', '‧', '・', '∙', '⋅':
		return '·'
	case '〜':
		return '~'
	}
	switch {
	case trimmed(c):
		return -1
	case isDash(c):
		return '-'
	}
	return c
}
