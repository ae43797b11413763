package node

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/yinqiao/yinqiao/catalog/platform"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// failing returns the failed checks of a node's doctor as "side check".
func (w *world) failing(id string) []string {
	w.t.Helper()
	r, err := w.nodes[id].Doctor(w.ctx, &nodev1.DoctorRequest{})
	must(w.t, err)
	var out []string
	for _, c := range r.GetChecks() {
		if !c.GetOk() {
			out = append(out, c.GetSide()+" "+c.GetName())
			if c.GetHint() == "" || c.GetDetail() == "" {
				w.t.Errorf("%s %s fails without detail or hint", c.GetSide(), c.GetName())
			}
		}
	}
	return out
}

// TestDoctorNamesTheSide breaks one thing after the other: the doctor blames
// that side, and no other.
func TestDoctorNamesTheSide(t *testing.T) {
	w := newWorldOf(t, "bank", "gov", "tax")
	bank := w.nodes["bank"]
	check := func(what string, want ...string) {
		t.Helper()
		if got := w.failing("bank"); strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("healthy")

	version := bank.version
	bank.version = "older"
	check("this node is of another version", "platform version", "gov version", "tax version")
	bank.version = version

	bank.now = func() time.Time { return time.Now().Add(clockSkew + time.Minute) }
	got := strings.Join(w.failing("bank"), ", ")
	if !strings.Contains(got, "platform clock") {
		t.Errorf("this node's clock is ahead: %s", got)
	}
	bank.now = time.Now
	w.nodes["gov"].now = func() time.Time { return time.Now().Add(-clockSkew - time.Minute) }
	check("gov's clock is behind", "gov clock")
	w.nodes["gov"].now = time.Now

	path := bank.cfg.Datasets[0].Path
	must(t, os.Rename(path, path+".away"))
	check("a dataset is gone", "self dataset")
	must(t, os.Rename(path+".away", path))

	advertise := bank.cfg.Advertise
	bank.cfg.Advertise = "127.0.0.1:1"
	check("node.yaml names another endpoint than the roster", "self certificate")
	bank.cfg.Advertise = advertise

	w.stops["gov"]()
	check("gov is down", "gov route")
	// Tax's node answers where gov should be.
	l, err := net.Listen("tcp", w.nodes["gov"].cfg.Listen)
	must(t, err)
	r := &relay{Listener: l, cut: make(chan struct{})}
	r.serve(t, w.nodes["tax"].cfg.Listen)
	check("another node at gov's address", "gov certificate")

	staff, err := platform.OpenStaff(w.platHome)
	must(t, err)
	defer staff.Close()
	must(t, staff.Suspend(w.ctx, "bank", true, "test"))
	for _, f := range w.failing("bank") {
		if !strings.HasPrefix(f, "self ") && !strings.HasPrefix(f, "platform ") {
			t.Errorf("suspended: blames %s", f)
		}
	}
	if len(w.failing("bank")) == 0 {
		t.Error("suspended: nothing fails")
	}
	must(t, staff.Suspend(w.ctx, "bank", false, ""))

	w.stopPlat()
	check("the platform is down", "platform route")
}
