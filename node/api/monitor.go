package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are what a node counts, in a registry of its own. All methods are
// safe for concurrent use. Labels are the program's own words alone: states,
// directions and rules, never parties, persons or data.
type Metrics struct {
	registry *prometheus.Registry
	jobs     *prometheus.GaugeVec
	ended    *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	sessions prometheus.Gauge
	refusals *prometheus.CounterVec
	seen     prometheus.Gauge

	mu    sync.Mutex
	rules map[string]bool
}

// maxRules bounds the label values of one metric: rules may be a peer's words.
const maxRules = 128

// NewMetrics returns metrics at zero.
func NewMetrics() *Metrics {
	const ns = "yinqiao"
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		jobs: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: ns, Name: "jobs", Help: "Jobs of this node by state, since it was started.",
		}, []string{"state"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "jobs_entered_total", Help: "How often a job entered a state.",
		}, []string{"state"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "session_bytes_total", Help: "Bytes of protocol messages exchanged with peers.",
		}, []string{"direction"}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "sessions_running", Help: "Sessions that are running.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "refusals_total", Help: "Refusals by rule.",
		}, []string{"rule"}),
		seen: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "platform_last_seen_timestamp_seconds", Help: "When the platform last answered; 0 before.",
		}),
		rules: make(map[string]bool),
	}
	m.bytes.WithLabelValues("sent")
	m.bytes.WithLabelValues("received")
	m.registry.MustRegister(m.jobs, m.ended, m.bytes, m.sessions, m.refusals, m.seen,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registry takes further collectors.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// JobState moves a job between states; "" is the one before the first, and
// the one after a job is forgotten.
func (m *Metrics) JobState(from, to string) {
	if from != "" {
		m.jobs.WithLabelValues(from).Dec()
	}
	if to != "" {
		m.jobs.WithLabelValues(to).Inc()
		m.ended.WithLabelValues(to).Inc()
	}
}

// Exchanged adds bytes sent to and received from peers.
func (m *Metrics) Exchanged(sent, received int64) {
	m.bytes.WithLabelValues("sent").Add(float64(max(sent, 0)))
	m.bytes.WithLabelValues("received").Add(float64(max(received, 0)))
}

// SessionStarted counts a running session until the function returned is
// called.
func (m *Metrics) SessionStarted() (ended func()) {
	m.sessions.Inc()
	return sync.OnceFunc(m.sessions.Dec)
}

// Refused counts a refusal. Beyond a number of distinct rules, and for what
// does not look like one, the rule is counted as "other".
func (m *Metrics) Refused(rule string) {
	m.mu.Lock()
	if !m.rules[rule] {
		if len(m.rules) < maxRules && plainRule(rule) {
			m.rules[rule] = true
		} else {
			rule = "other"
		}
	}
	m.mu.Unlock()
	m.refusals.WithLabelValues(rule).Inc()
}

func plainRule(s string) bool {
	if s == "" || len(s) > maxCode {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '.' || r == '-') {
			return false
		}
	}
	return true
}

// PlatformSeen notes when the platform last answered.
func (m *Metrics) PlatformSeen(at time.Time) { m.seen.Set(float64(at.UnixMilli()) / 1000) }

// MonitorConfig describes the listener for health and metrics. It has no
// authentication and shows no detail, and belongs on loopback or a network of
// one's own.
type MonitorConfig struct {
	Metrics *Metrics
	// Ready are the checks behind /readyz by name, for example "store" and
	// "platform". Their names and whether they pass are shown; their errors
	// are logged.
	Ready map[string]func(context.Context) error
	Log   *slog.Logger // nil: nothing is logged
}

// readyTimeout bounds one round of checks.
const readyTimeout = 5 * time.Second

// Monitor returns the handler of /healthz (the process answers), /readyz (it
// can take work) and /metrics.
func Monitor(cfg MonitorConfig) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		code, body := http.StatusOK, ""
		for _, name := range slices.Sorted(maps.Keys(cfg.Ready)) {
			if err := cfg.Ready[name](ctx); err != nil {
				code = http.StatusServiceUnavailable
				body += name + " failing\n"
				cfg.Log.Warn("api: not ready", slog.String("check", name), slog.Any("error", err))
				continue
			}
			body += name + " ok\n"
		}
		text(w, code, body)
	})
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	}
	return mux
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body)
}

// ServeMonitor answers on l until ctx ends, and returns nil when it has
// stopped. It closes l.
func ServeMonitor(ctx context.Context, l net.Listener, cfg MonitorConfig) error {
	srv := &http.Server{
		Handler:           Monitor(cfg),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("api: monitor: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		srv.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api: monitor: %w", err)
	}
	return nil
}
