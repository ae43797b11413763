package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/internal/secret"
)

func TestCommitment(t *testing.T) {
	c, err := NewCommitter(nil, "input")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"small ", "", "table"} {
		if _, err := io.WriteString(c, part); err != nil {
			t.Fatal(err)
		}
	}
	sum, opening := c.Sum(), c.Opening()
	if err := VerifyOpening(opening, "input", strings.NewReader("small table"), sum); err != nil {
		t.Errorf("its own opening: %v", err)
	}
	other, err := NewCommitter(nil, "input")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(other, "small table")
	if bytes.Equal(other.Sum(), sum) {
		t.Error("the same table gave the same commitment twice: it can be guessed")
	}
	for name, c := range map[string]struct {
		opening     secret.Bytes
		label, data string
		sum         []byte
	}{
		"other opening": {other.Opening(), "input", "small table", sum},
		"other label":   {opening, "result", "small table", sum},
		"shifted label": {opening, "inputs", "mall table", sum},
		"other data":    {opening, "input", "small tables", sum},
		"other sum":     {opening, "input", "small table", other.Sum()},
		"no sum":        {opening, "input", "small table", nil},
	} {
		if err := VerifyOpening(c.opening, c.label, strings.NewReader(c.data), c.sum); !errors.Is(err, ErrOpening) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Padding makes short HMAC keys collide, so openings have one size.
	short := Commit(secret.New([]byte{1}), "input")
	if _, err := short.Write(nil); err == nil || short.Sum() != nil {
		t.Error("an opening of one byte was taken")
	}
	if err := VerifyOpening(secret.New(append(opening.Reveal(), 0)), "input", strings.NewReader("small table"), sum); err == nil {
		t.Error("an opening with a zero more was taken")
	}
	if _, err := NewCommitter(strings.NewReader("too short"), "input"); err == nil {
		t.Error("committed without randomness")
	}
}

// The definition, written out once more.
func TestCommitmentDefinition(t *testing.T) {
	key := bytes.Repeat([]byte{3}, OpeningSize)
	c := Commit(secret.New(key), "ab")
	io.WriteString(c, "data")
	m := hmac.New(sha256.New, key)
	io.WriteString(m, "yinqiao/commitment/v1\x00\x00\x00\x00\x02abdata")
	if !bytes.Equal(c.Sum(), m.Sum(nil)) {
		t.Errorf("%x", c.Sum())
	}
}
