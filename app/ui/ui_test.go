package ui

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMessages(t *testing.T) {
	var b bytes.Buffer
	Error(&b, errors.Join(errors.New("node.yaml:7:3: unknown key"), errors.New("zs-gov refused: \x1b[2Jno.")))
	Hint(&b, "run `yinqiao node doctor`")
	Hint(&b, "")
	want := "error: node.yaml:7:3: unknown key\n" +
		"error: zs-gov refused: \ufffd[2Jno\n" +
		"hint: run `yinqiao node doctor`\n"
	if b.String() != want {
		t.Errorf("got\n%q\nwant\n%q", b.String(), want)
	}
}

func TestClean(t *testing.T) {
	if got := Clean("客户\u202etxt\x07\x9b1m\ta\nb"); got != "客户\ufffdtxt\ufffd\ufffd1m a b" {
		t.Errorf("%q", got)
	}
}

func TestTable(t *testing.T) {
	tab := NewTable("party", "名称", "rows", "size", "note")
	tab.Add("zs-bank", "中山银行", Count(30000), Bytes(950), "x")
	tab.Add("zs-gov", "gov", "7", Bytes(12_345_678), "")
	tab.Add("p\nq", "한국어")
	tab.Add("a", "b", "", "", "", "dropped")
	var b bytes.Buffer
	tab.Print(&b)
	want := strings.Join([]string{
		"party    名称        rows     size  note",
		"zs-bank  中山银行  30,000    950 B  x",
		"zs-gov   gov            7  12.3 MB",
		"p q      한국어",
		"a        b",
		"",
	}, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	NewTable("a", "b").Print(&b)
	if b.String() != "a  b\n" {
		t.Errorf("%q", b.String())
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 12_345: "12.3 kB", 99_949: "99.9 kB", 99_960: "100 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		400_000_000: "400 MB", 64 << 30: "68.7 GB", math.MaxInt64: "9.2 EB", -1500: "-1.5 kB", math.MinInt64: "-4.6 EB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", math.MinInt64: "-9,223,372,036,854,775,808"} {
		if got := Count(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	now := time.Unix(0, 0)
	var b bytes.Buffer
	p := newLines(&b, func() time.Time { return now })
	p.Update("align", 0, 0)
	p.Update("align", 5, 0) // too soon
	now = now.Add(lineEvery)
	p.Update("align\x1b[1m", 1234, 0)
	now = now.Add(lineEvery)
	p.Update("train", 12, 25)
	p.Update("evaluate", 1, 2) // too soon
	now = now.Add(lineEvery)
	p.Update("train", 99, 25)
	p.Close()
	now = now.Add(lineEvery)
	p.Update("late", 1, 2)
	p.Close()
	want := "align\nalign\ufffd[1m: 1,234\ntrain: 12 of 25 (48%)\ntrain: 25 of 25 (100%)\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestPace(t *testing.T) {
	now := time.Unix(0, 0)
	var b bytes.Buffer
	p := newLines(&b, func() time.Time { return now })
	for _, c := range []struct{ rate, left float64 }{
		{310_400, 12}, {0.25, 100}, {9.96, 11.2}, {999.6, 7200}, {2.5e6, 5999}, {4, 0}, {0, 3}, {1e-3, 1e9}, {math.Inf(1), math.Inf(1)},
	} {
		p.UpdatePace("psi", 40, 100, c.rate, c.left)
		now = now.Add(lineEvery)
	}
	p.UpdatePace("read", 7, 0, 1234, 0)
	want := ""
	for _, pace := range []string{
		" · 310 k/s · 12 s left", " · 0.2/s · 2 min left", " · 10/s · 12 s left", " · 1.0 k/s · 2 h 0 min left", " · 2.5 M/s · 100 min left",
		" · 4.0/s", " · 3 s left", " · 0.0/s", "",
	} {
		want += "psi: 40 of 100 (40%)" + pace + "\n"
	}
	want += "read: 7 · 1.2 k/s\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}

	var bars bytes.Buffer
	p = newBars(&bars, mpb.WithAutoRefresh())
	p.UpdatePace("psi", 40, 100, 310_000, 12)
	p.UpdatePace("write", 1, 100, 5, 0)
	p.Close()
	if out := bars.String(); !strings.Contains(out, "psi") || !strings.Contains(out, "write") {
		t.Errorf("no stages in\n%s", out)
	}
}

func TestSilence(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(&b, true)
	p.Update("train", 1, 2)
	p.Close()
	if b.Len() != 0 {
		t.Errorf("%q", b.String())
	}
	p = NewProgress(&b, false) // a buffer is no terminal: lines
	p.Update("train", 1, 2)
	p.Close()
	if b.String() != "train: 1 of 2 (50%)\n" {
		t.Errorf("%q", b.String())
	}
}

func TestBars(t *testing.T) {
	var b bytes.Buffer
	p := newBars(&b, mpb.WithAutoRefresh())
	p.Update("align", 0, 0)
	p.Update("align", 1500, 0)
	p.Update("训练", 0, 25)
	p.Update("训练", 25, 25)
	p.Update("训练", 3, 25) // a stage may begin again
	for i := range 2 * maxBars {
		p.Update(fmt.Sprint("stage ", i), 1, 2)
	}
	p.Close()
	p.Update("late", 1, 2)
	out := b.String()
	for _, want := range []string{"align", "1,500", "训练", "3 / 3", "stage 0", "1 / 2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "late") || strings.Contains(out, fmt.Sprint("stage ", maxBars)) {
		t.Errorf("too much in\n%s", out)
	}
}
