package benchmarks

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/yinqiao/yinqiao/benchmarks/link"
)

// Machine is what figures are worth nothing without.
type Machine struct {
	CPU         string   `json:"cpu,omitempty"`
	Flags       []string `json:"flags,omitempty"` // of the processor, those this program looks for
	Cores       int      `json:"cores"`
	MemoryBytes int64    `json:"memory_bytes,omitempty"`
	Kernel      string   `json:"kernel,omitempty"`
	OS          string   `json:"os"`
	Arch        string   `json:"arch"`
	Go          string   `json:"go"`
	Version     string   `json:"version,omitempty"` // of the program
	Commit      string   `json:"commit,omitempty"`  // where the build recorded one; "+" after it: with changes
	Binary      string   `json:"binary_sha256,omitempty"`
	MemoryLimit int64    `json:"memory_limit_bytes,omitempty"` // GOMEMLIMIT, where set
}

// ThisMachine describes the machine and the running program, of the given
// version.
func ThisMachine(version string) Machine {
	m := Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), Version: version}
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case name == "model name" && m.CPU == "":
			m.CPU = value
		case (name == "flags" || name == "Features") && m.Flags == nil:
			for f := range strings.FieldsSeq(value) {
				switch f {
				case "aes", "avx2", "avx512f", "avx512ifma", "vaes", "vpclmulqdq", "pclmulqdq", "pmull", "sha2", "sha_ni":
					m.Flags = append(m.Flags, f)
				}
			}
			slices.Sort(m.Flags)
		}
	}
	for line := range strings.Lines(read("/proc/meminfo")) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				m.MemoryBytes = kb << 10
			}
		}
	}
	m.Kernel = strings.TrimSpace(read("/proc/sys/kernel/osrelease"))
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				m.Commit = s.Value + m.Commit
			case s.Key == "vcs.modified" && s.Value == "true":
				m.Commit += "+"
			}
		}
	}
	if limit := debug.SetMemoryLimit(-1); limit < 1<<60 {
		m.MemoryLimit = limit
	}
	if path, err := os.Executable(); err == nil {
		m.Binary = digestFile(path)
	}
	return m
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

func digestFile(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// LinkShape states a network for a result file.
type LinkShape struct {
	BitsPerSecond    int64   `json:"bits_per_second,omitempty"`
	RoundTripSeconds float64 `json:"round_trip_seconds,omitempty"`
	Carrier          string  `json:"carrier"`
}

// shapeOf returns a network's shape, and the name it has beside others.
func shapeOf(net string, processes bool) (string, LinkShape) {
	s := link.Kind(net).Shape()
	switch {
	case s != link.Shape{}:
		return net, LinkShape{s.BitsPerSecond, 2 * s.OneWay.Seconds(), "gRPC with TLS 1.3 over loopback, shaped in user space"}
	case processes:
		return net + ", processes", LinkShape{Carrier: "plain TCP over loopback"}
	}
	return net, LinkShape{Carrier: "in-memory pipes"}
}
