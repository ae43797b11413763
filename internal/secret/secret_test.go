package secret

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// No verb shows the secret, not even through unexported fields, where fmt does
// not ask for methods.
func TestNoVerbPrintsTheSecret(t *testing.T) {
	b := New([]byte("AAAA"))
	type inner struct{ key Bytes }
	type outer struct {
		Key Bytes
		in  inner
		p   *inner
	}
	o := outer{b, inner{b}, &inner{b}}
	for _, v := range []any{b, &b, o, &o, []outer{o}, map[string]inner{"k": {b}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%U", "%e"} {
			out := fmt.Sprintf(verb, v)
			for _, leak := range []string{"AAAA", "41414141", "65 65", "0x41, 0x41", "U+0041", "41 41"} {
				if strings.Contains(out, leak) {
					t.Errorf("%s of %T prints %s", verb, v, out)
				}
			}
		}
		if out, err := json.Marshal(v); err == nil && strings.Contains(string(out), "QUFB") {
			t.Errorf("JSON of %T: %s", v, out)
		}
	}
}

func TestBytes(t *testing.T) {
	src := []byte{1, 2, 3}
	b := New(src)
	src[0] = 9
	if !b.Equal([]byte{1, 2, 3}) || b.Equal([]byte{1, 2}) || b.Equal(nil) {
		t.Error("Equal")
	}
	b.Wipe()
	if !b.Equal([]byte{0, 0, 0}) {
		t.Error("Wipe left something")
	}
	var zero Bytes
	zero.Wipe()
	if zero.Reveal() != nil || !zero.Equal(nil) {
		t.Error("the zero value is not empty")
	}
}
