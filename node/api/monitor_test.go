package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestMonitor(t *testing.T) {
	var platform error
	m := NewMetrics()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- ServeMonitor(ctx, l, MonitorConfig{Metrics: m, Ready: map[string]func(context.Context) error{
			"store":    func(context.Context) error { return nil },
			"platform": func(context.Context) error { return platform },
		}})
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	do := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}

	if code, body := do("GET", "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, body := do("GET", "/readyz"); code != 200 || body != "platform ok\nstore ok\n" {
		t.Errorf("%d %q", code, body)
	}
	platform = errors.New("dial 10.0.0.7: refused")
	if code, body := do("GET", "/readyz"); code != 503 || body != "platform failing\nstore ok\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := do("POST", "/healthz"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
	if code, _ := do("GET", "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("pprof: %d", code)
	}

	m.JobState("", "running")
	m.JobState("", "running")
	m.JobState("running", "done")
	m.Exchanged(100, 250)
	m.Exchanged(1, -5)
	end := m.SessionStarted()
	m.SessionStarted()
	end()
	end()
	m.Refused("max_runs")
	m.Refused("max_runs")
	m.Refused("Li Wei, row 17")
	for i := range 2 * maxRules {
		m.Refused(fmt.Sprint("rule_", i))
	}
	m.PlatformSeen(time.Unix(1_700_000_000, 500_000_000))
	code, body := do("GET", "/metrics")
	if code != 200 {
		t.Fatal(code)
	}
	for _, want := range []string{
		`yinqiao_jobs{state="running"} 1`,
		`yinqiao_jobs{state="done"} 1`,
		`yinqiao_jobs_entered_total{state="running"} 2`,
		`yinqiao_session_bytes_total{direction="sent"} 101`,
		`yinqiao_session_bytes_total{direction="received"} 250`,
		`yinqiao_sessions_running 1`,
		`yinqiao_refusals_total{rule="max_runs"} 2`,
		`yinqiao_platform_last_seen_timestamp_seconds 1.7000000005e+09`,
		`go_goroutines `,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if n := strings.Count(body, "\nyinqiao_refusals_total{"); n != maxRules+1 {
		t.Errorf("%d rules", n)
	}
	if strings.Contains(body, "Li Wei") {
		t.Error("a label was made of free text")
	}

	client.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestMonitorSaysWhyItEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := ServeMonitor(t.Context(), l, MonitorConfig{}); err == nil {
		t.Error("a closed listener is no failure")
	}
}
