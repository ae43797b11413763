package node

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/strictyaml"
	"github.com/yinqiao/yinqiao/node/dataset"
)

// Config is node.yaml. Zero values stand for the defaults named beside each
// field; unknown keys are refused.
type Config struct {
	Party     string            `yaml:"party"`
	Listen    string            `yaml:"listen"`    // where peers connect, host:port
	Advertise string            `yaml:"advertise"` // what the roster tells them; default: listen
	API       string            `yaml:"api"`       // operator API; default 127.0.0.1:7444
	Metrics   string            `yaml:"metrics"`   // health and metrics over plain HTTP; blank: off
	Platform  PlatformConfig    `yaml:"platform"`
	Datasets  []dataset.Dataset `yaml:"datasets"`
	Policy    Policy            `yaml:"policy"`
	Limits    LimitConfig       `yaml:"limits"`
}

// PlatformConfig names the platform and pins its key.
type PlatformConfig struct {
	Address   string `yaml:"address"`
	PublicKey string `yaml:"public_key"` // base64
}

// Policy is the node's own allow-list. It only ever narrows what a grant
// allows; an empty list narrows nothing.
type Policy struct {
	Kinds       []string `yaml:"kinds"`       // job kinds
	Parties     []string `yaml:"parties"`     // parties to compute with
	Purposes    []string `yaml:"purposes"`    // purposes, word for word
	Permissions []string `yaml:"permissions"` // what may be opened, for example open.scores.exact
	Assumptions []string `yaml:"assumptions"` // computational assumptions relied on
	Columns     []string `yaml:"columns"`     // "ENTRY-CODE/item" of this node's own entries
	// MinIntersection is the smallest intersection this node takes part in,
	// whatever the grant says; 0 leaves it to the grant.
	MinIntersection int64 `yaml:"min_intersection"`
	// Release are this node's own rules for released statistics; of these and the
	// grant's the stricter holds, one by one.
	Release rules.Set `yaml:"release"`
}

// Validate reports every fault with its key.
func (p Policy) Validate() error {
	var errs []error
	if p.MinIntersection < 0 {
		errs = append(errs, strictyaml.Invalid("min_intersection", "want 0 or more"))
	}
	for _, f := range p.Release.Faults() {
		errs = append(errs, strictyaml.Invalid("release."+f.Field, "want %s", f.Want))
	}
	return errors.Join(errs...)
}

// LimitConfig bounds what one node does.
type LimitConfig struct {
	ConcurrentJobs int           `yaml:"concurrent_jobs"` // default 4
	JobTimeout     time.Duration `yaml:"job_timeout"`     // default and maximum of a run; 30m
	PlatformGrace  time.Duration `yaml:"platform_grace"`  // how long a run outlives contact with the platform; 60s
	PeerIdle       time.Duration `yaml:"peer_idle"`       // silence, or absence at the start, after which a peer counts as gone; 20s
	SessionBytes   int64         `yaml:"session_bytes"`   // most a peer may send in one session; 64 GiB
	LinkMbit       int64         `yaml:"link_mbit"`       // what the link to peers carries, Mbit/s, where a protocol is chosen for a job; 1000
	MinFreeBytes   uint64        `yaml:"min_free_bytes"`  // free disk below which work is refused; 256 MiB
	// ScratchBytes bounds the files of all runs, caches and histories together; 0 leaves
	// it to the free space beyond MinFreeBytes.
	ScratchBytes     int64         `yaml:"scratch_bytes"`
	ScratchRetention time.Duration `yaml:"scratch_retention"` // how long a failed run may wait to be resumed; 72h
	Attempts         int64         `yaml:"attempts"`          // most attempts at one run; 5
	RestartFor       time.Duration `yaml:"restart_for"`       // how long after the loss of a party the initiator tries to begin the next attempt; 10m
}

// maxAttempts bounds limits.attempts: every attempt is another look at the same
// inputs.
const maxAttempts = 1000

// Validate fills in defaults and reports every fault with its key path.
func (c *Config) Validate() error {
	if c.API == "" {
		c.API = "127.0.0.1:7444"
	}
	if c.Advertise == "" {
		c.Advertise = c.Listen
	}
	l := &c.Limits
	setDefault(&l.ConcurrentJobs, 4)
	setDefault(&l.JobTimeout, 30*time.Minute)
	setDefault(&l.PlatformGrace, time.Minute)
	setDefault(&l.PeerIdle, 20*time.Second)
	setDefault(&l.SessionBytes, 64<<30)
	setDefault(&l.MinFreeBytes, 256<<20)
	setDefault(&l.LinkMbit, 1000)
	setDefault(&l.ScratchRetention, 72*time.Hour)
	setDefault(&l.Attempts, 5)
	setDefault(&l.RestartFor, 10*time.Minute)

	var errs []error
	bad := func(path, format string, a ...any) { errs = append(errs, strictyaml.Invalid(path, format, a...)) }
	if !catalog.ValidPartyID(c.Party) {
		bad("party", "want lower-case letters, digits and inner hyphens, at most 63")
	}
	for _, a := range []struct{ key, value string }{
		{"listen", c.Listen}, {"advertise", c.Advertise}, {"api", c.API}, {"platform.address", c.Platform.Address},
	} {
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			bad(a.key, "want host:port")
		}
	}
	if c.Metrics != "" {
		if _, _, err := net.SplitHostPort(c.Metrics); err != nil {
			bad("metrics", "want host:port")
		}
	}
	if k, err := base64.StdEncoding.DecodeString(c.Platform.PublicKey); err != nil || len(k) != 32 {
		bad("platform.public_key", "want 32 bytes in base64")
	}
	var names []string
	for i, d := range c.Datasets {
		path := fmt.Sprintf("datasets[%d]", i)
		if slices.Contains(names, d.Name) {
			bad(path+".name", "is used twice")
		}
		names = append(names, d.Name)
		if err := d.Validate(); err != nil {
			errs = append(errs, strictyaml.Under(path, err))
		}
	}
	if l.ConcurrentJobs < 1 {
		bad("limits.concurrent_jobs", "want at least 1")
	}
	if l.LinkMbit < 1 {
		bad("limits.link_mbit", "want at least 1")
	}
	for _, d := range []struct {
		key string
		v   time.Duration
	}{{"job_timeout", l.JobTimeout}, {"platform_grace", l.PlatformGrace}, {"peer_idle", l.PeerIdle}, {"scratch_retention", l.ScratchRetention}, {"restart_for", l.RestartFor}} {
		if d.v <= 0 {
			bad("limits."+d.key, "want a positive duration")
		}
	}
	if l.ScratchBytes < 0 {
		bad("limits.scratch_bytes", "want 0 or more")
	}
	if l.Attempts < 1 || l.Attempts > maxAttempts {
		bad("limits.attempts", "want 1 to %d", maxAttempts)
	}
	errs = append(errs, strictyaml.Under("policy", c.Policy.Validate()))
	return errors.Join(errs...)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// PlatformKey returns the pinned key; valid after Validate.
func (c *Config) PlatformKey() []byte {
	k, _ := base64.StdEncoding.DecodeString(c.Platform.PublicKey)
	return k
}
