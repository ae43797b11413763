package node

import (
	"bytes"
	"maps"
)

// Bounds of the digests in a receipt.
const (
	maxDigests = 16
	maxDigest  = 64 // bytes of one
)

// validDigests reports whether a party's digests may stand in a receipt: few,
// short, under plain names.
func validDigests(digests map[string][]byte) bool {
	if len(digests) > maxDigests {
		return false
	}
	for name, d := range digests {
		if len(name) > 64 || !plainField(name) || len(d) == 0 || len(d) > maxDigest {
			return false
		}
	}
	return true
}

// plainField: lower-case letters, digits and inner '.', '-', '_', as fields of
// results are named.
func plainField(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '.' && r != '-' && r != '_') {
			return false
		}
	}
	return s != ""
}

func sameDigests(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }
