// Package secret holds bytes that cannot be printed by accident.
package secret

import (
	"crypto/subtle"
	"log/slog"
)

// Bytes holds secret bytes behind a pointer, so that printing a value that
// contains it, with any verb, shows no secret. The zero value is empty.
type Bytes struct{ p *hidden }

// hidden keeps the slice one pointer further away: fmt follows one pointer of
// an unexported field when its verb does not fit, as %s and %d do not.
type hidden struct{ b *[]byte }

// New copies b into a Bytes.
func New(b []byte) Bytes {
	c := append([]byte(nil), b...)
	return Bytes{&hidden{&c}}
}

// Reveal returns the secret itself; the caller must not keep it.
func (b Bytes) Reveal() []byte {
	if b.p == nil {
		return nil
	}
	return *b.p.b
}

// Equal compares in time that depends on the lengths alone.
func (b Bytes) Equal(other []byte) bool { return subtle.ConstantTimeCompare(b.Reveal(), other) == 1 }

// Wipe overwrites the secret.
func (b Bytes) Wipe() {
	if b.p != nil {
		clear(*b.p.b)
	}
}

const redacted = "[secret]"

// String implements fmt.Stringer.
func (Bytes) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Bytes) GoString() string { return redacted }

// MarshalText keeps the secret out of JSON and YAML.
func (Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }
