package secret

import (
	"bytes"
	"encoding"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Neither a log line nor a wrapped error shows the secret.
func TestNoLogOrErrorShowsTheSecret(t *testing.T) {
	b := New([]byte("AAAA"))
	type inner struct{ key Bytes }
	for _, v := range []any{b, &b, inner{b}, &inner{b}, []Bytes{b}, map[string]Bytes{"k": b}} {
		var text, js bytes.Buffer
		for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&text, nil)), slog.New(slog.NewJSONHandler(&js, nil))} {
			log.With(slog.Any("with", v)).WithGroup("g").Info("m", slog.Any("v", v), slog.Group("in", slog.Any("v", v)))
		}
		out := text.String() + js.String() + fmt.Errorf("store: %v", v).Error() + fmt.Sprint(v) + fmt.Sprintln(v)
		for _, leak := range []string{"AAAA", "QUFB", "65 65", "65,65", "41414141"} {
			if strings.Contains(out, leak) {
				t.Errorf("%T: %s", v, out)
			}
		}
	}
	var _ encoding.TextMarshaler = b // what YAML and flags ask for
	if out, err := b.MarshalText(); err != nil || strings.Contains(string(out), "AAAA") {
		t.Errorf("%q, %v", out, err)
	}
}
