package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/yinqiao/yinqiao/app/files"
	"github.com/yinqiao/yinqiao/internal/audit"
	"github.com/yinqiao/yinqiao/node"
	"github.com/yinqiao/yinqiao/node/api"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// process is a platform or a node that a scenario started.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// errEnded is the end of a process that the run still needs.
var errEnded = errors.New("ended in the middle of the run")

// startWait bounds how long a process may take until it answers.
const startWait = 30 * time.Second

// spawn runs this program again with args, in the background, its log in the
// scenario's folder.
func (r *scenarioRun) spawn(name string, args ...string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, log: filepath.Join(r.dir, name+".log"), done: make(chan struct{})}
	f, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p.cmd = exec.Command(exe, args...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = append(os.Environ(), "YINQIAO_TOKEN=")
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
		// Without it the run cannot end well; once the run stops, nobody asks.
		r.end(fmt.Errorf("%s %w (%v): %s", p.name, errEnded, p.cmd.ProcessState, p.tail()))
	}()
	r.procs = append(r.procs, p)
	return p, nil
}

// once runs this program to its end and returns what it printed.
func (r *scenarioRun) once(ctx context.Context, args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("yinqiao %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// until asks ready again and again until it answers, the process dies, or the
// wait is over.
func (p *process) until(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s did not answer in time: %w", p.name, err)
		case <-tick.C:
		}
	}
}

// tail is the end of the process's log.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return "it left no log"
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// stop ends every process, nodes first, and waits for them.
func (r *scenarioRun) stop() error {
	for _, f := range r.closers {
		f()
	}
	var errs []error
	for i := len(r.procs) - 1; i >= 0; i-- {
		p := r.procs[i]
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
		select {
		case <-p.done:
		case <-time.After(15 * time.Second):
			errs = append(errs, fmt.Errorf("%s did not stop and was killed", p.name), p.cmd.Process.Kill())
			<-p.done
		}
	}
	return errors.Join(append(errs, r.noteUsage())...)
}

// processUsage is what one process of a scenario cost, from its start to its end.
type processUsage struct {
	CPUSeconds   float64 `json:"cpu_seconds"`
	PeakRSSBytes int64   `json:"peak_rss_bytes"`
}

// noteUsage leaves usage.json in the scenario's folder.
func (r *scenarioRun) noteUsage() error {
	all := map[string]processUsage{}
	for _, p := range r.procs {
		st := p.cmd.ProcessState
		u := processUsage{CPUSeconds: (st.UserTime() + st.SystemTime()).Seconds()}
		if ru, ok := st.SysUsage().(*syscall.Rusage); ok {
			u.PeakRSSBytes = ru.Maxrss << 10
		}
		all[p.name] = u
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "usage.json"), append(b, '\n'), 0o600)
}

// Ports of a scenario's processes come from below those that systems give to
// outgoing connections, so that a port stays free until its process listens.
const firstPort, portCount, portTries = 18000, 14000, 200

// freePorts returns n loopback addresses nobody listens on.
func freePorts(n int) ([]string, error) {
	var addrs []string
	var open []net.Listener
	defer func() {
		for _, l := range open {
			l.Close()
		}
	}()
	for range portTries {
		if len(addrs) == n {
			return addrs, nil
		}
		port, err := rand.Int(rand.Reader, big.NewInt(portCount))
		if err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.FormatInt(firstPort+port.Int64(), 10)))
		if err != nil {
			continue // taken
		}
		open = append(open, l)
		addrs = append(addrs, l.Addr().String())
	}
	return nil, fmt.Errorf("no free port on loopback between %d and %d", firstPort, firstPort+portCount)
}

func (r *scenarioRun) platformHome() string { return filepath.Join(r.dir, "platform") }

func (r *scenarioRun) nodeHome(party string) node.Home {
	return node.Home{Dir: filepath.Join(r.dir, party)}
}

// startPlatform makes and runs the platform.
func (r *scenarioRun) startPlatform(ctx context.Context) error {
	addr, err := freePorts(1)
	if err != nil {
		return err
	}
	if _, err := r.once(ctx, "platform", "init", "--home", r.platformHome(), "--listen", addr[0], "--auto-accept"); err != nil {
		return err
	}
	p, err := r.spawn("platform", "platform", "run", "--home", r.platformHome())
	if err != nil {
		return err
	}
	err = p.until(ctx, func(ctx context.Context) error {
		_, err := r.once(ctx, "platform", "parties", "--home", r.platformHome())
		return err
	})
	if err == nil {
		r.step("platform runs at %s", addr[0])
	}
	return err
}

// startNode invites a party, makes its node, and runs it.
func (r *scenarioRun) startNode(ctx context.Context, party files.Party) error {
	code, err := r.once(ctx, "platform", "invite", "--home", r.platformHome(), "--party", party.ID)
	if err != nil {
		return err
	}
	addrs, err := freePorts(2)
	if err != nil {
		return err
	}
	home := r.nodeHome(party.ID)
	if _, err := r.once(ctx, "node", "init", "--home", home.Dir, "--invite", code, "--listen", addrs[0], "--api", addrs[1], "--name", party.Name); err != nil {
		return err
	}
	cfg, err := home.Config()
	if err != nil {
		return err
	}
	cfg.Policy = party.Policy
	for _, d := range party.Datasets {
		cfg.Datasets = append(cfg.Datasets, d.In(r.base))
	}
	if err := home.ReplaceConfig(cfg); err != nil {
		return err
	}
	p, err := r.spawn(party.ID, "node", "run", "--home", home.Dir)
	if err != nil {
		return err
	}
	var op nodev1.OperatorClient
	if err := p.until(ctx, func(ctx context.Context) error {
		client, done, err := dialNode(ctx, home, api.Operate, "", "")
		if err != nil {
			return err
		}
		if _, err := client.Info(ctx, &nodev1.InfoRequest{}); err != nil {
			done()
			return err
		}
		op = client
		r.closers = append(r.closers, done)
		return nil
	}); err != nil {
		return err
	}
	ap, done, err := dialNode(ctx, home, api.Approve, "", "")
	if err != nil {
		return err
	}
	r.closers = append(r.closers, done)
	r.nodes[party.ID], r.approver[party.ID] = op, ap
	r.step("%s enrols by a one-time code and runs its node at %s", party.ID, addrs[0])
	return nil
}

// verifyLogs checks every party's log offline, as an auditor would.
func (r *scenarioRun) verifyLogs(ctx context.Context, o *outcome) error {
	keys := map[string][]byte{}
	for _, p := range o.Parties {
		k, err := r.nodeHome(p.ID).PublicKey()
		if err != nil {
			return err
		}
		keys[p.ID] = k
	}
	for _, p := range o.Parties {
		rep, err := audit.Verify(ctx, audit.VerifyConfig{
			Dir: r.nodeHome(p.ID).AuditDir(), Party: p.ID, LogKey: keys[p.ID], PartyKeys: keys,
		})
		if err != nil {
			return fmt.Errorf("log of %s: %w", p.ID, err)
		}
		if len(rep.Faults) > 0 {
			return fmt.Errorf("log of %s: %d faults, the first: %v", p.ID, len(rep.Faults), rep.Faults[0])
		}
	}
	return nil
}
