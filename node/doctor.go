package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/suite"
	"github.com/yinqiao/yinqiao/node/dataset"
	"github.com/yinqiao/yinqiao/node/peer"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

func (n *Node) hello() *peerv1.HelloReply {
	return &peerv1.HelloReply{Version: n.version, Now: timestamppb.New(n.now()), Party: n.cfg.Party, Kinds: n.registry.Names()}
}

// Doctor checks this node, the platform and every party of the roster, and
// names the side that fails: clock, version, certificate, route, catalog.
func (n *Node) Doctor(ctx context.Context, _ *nodev1.DoctorRequest) (*nodev1.DoctorReply, error) {
	r := &nodev1.DoctorReply{}
	check := func(name, side string, err error, detail, hint string) {
		c := &nodev1.Check{Name: name, Side: side, Ok: err == nil, Detail: detail}
		if err != nil {
			c.Detail, c.Hint = err.Error(), hint
		}
		r.Checks = append(r.Checks, c)
	}
	check("store", "self", n.store.Healthy(), "writable", "free disk space, or lower limits.min_free_bytes")
	for _, d := range n.cfg.Datasets {
		_, err := dataset.Open(ctx, d)
		check("dataset", "self", err, d.Name+" opens", "mend the file or its columns in node.yaml")
	}
	if !n.doctorPlatform(ctx, check) {
		return r, nil
	}
	roster, err := n.refreshRoster(ctx)
	hint := "compare platform.public_key in node.yaml with the platform's"
	if catalog.Rule(err) == catalog.RulePartySuspended {
		hint = "ask the platform why this party is suspended"
	}
	check("catalog", "platform", err, "the roster is signed by the pinned key and current", hint)
	if err != nil {
		return r, nil
	}
	hint = "ask the platform for a new invitation"
	me, ok := roster.Party(n.cfg.Party)
	switch {
	case !ok:
		err = errors.New("this party is not on the roster")
	case me.Suspended:
		err, hint = errors.New("this party is suspended"), "ask the platform why this party is suspended"
	case string(me.PublicKey) != string(n.key.Public()):
		err = errors.New("the roster lists another key for this party")
	case me.Endpoint != n.cfg.Advertise:
		err = fmt.Errorf("the roster tells peers to connect to %s, node.yaml says %s", me.Endpoint, n.cfg.Advertise)
		hint = fmt.Sprintf("put advertise in node.yaml back to %s, or ask the platform for a new invitation", me.Endpoint)
	}
	check("certificate", "self", err, "the roster lists this node's key and endpoint", hint)
	for _, p := range roster.Parties() {
		if p.ID != n.cfg.Party && !p.Suspended {
			n.doctorPeer(ctx, p, check)
		}
	}
	return r, nil
}

type checker func(name, side string, err error, detail, hint string)

func (n *Node) doctorPlatform(ctx context.Context, check checker) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	hello, err := n.resolver.Hello(ctx)
	check("route", "platform", err, n.cfg.Platform.Address+" answers", "start the platform, or open the way to platform.address")
	if err != nil {
		return false
	}
	check("clock", "platform", n.clock(hello.Now), "within two minutes of this node's", "set both clocks by NTP")
	check("version", "platform", n.sameVersion(hello.Version), hello.Version, "upgrade the older side")
	return true
}

func (n *Node) doctorPeer(ctx context.Context, p catalog.Party, check checker) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	peers := n.transport()
	if peers == nil {
		check("route", p.ID, errors.New("this node is starting"), "", "try again in a moment")
		return
	}
	hello, err := peers.Hello(ctx, p.ID, &peerv1.HelloRequest{Version: n.version})
	switch {
	case errors.Is(err, suite.ErrPeerKey):
		check("certificate", p.ID, err, "", "the node at "+p.Endpoint+" does not hold the key on the roster: another node may listen there")
		return
	case err != nil:
		check("route", p.ID, fmt.Errorf("%s: %s", p.Endpoint, peer.Reason(err)), "", "start that node, or open the way to "+p.Endpoint)
		return
	}
	check("route", p.ID, nil, p.Endpoint+" answers", "")
	check("certificate", p.ID, nil, "holds the key on the roster", "")
	check("clock", p.ID, n.clock(hello.GetNow().AsTime()), "within two minutes of this node's", "set both clocks by NTP")
	check("version", p.ID, n.sameVersion(hello.GetVersion()), hello.GetVersion(), "upgrade the older side")
}

func (n *Node) clock(other time.Time) error {
	if d := n.now().Sub(other); d > clockSkew || d < -clockSkew {
		return fmt.Errorf("differs from this node's by %s", d.Round(time.Second))
	}
	return nil
}

func (n *Node) sameVersion(other string) error {
	if other != n.version {
		return fmt.Errorf("runs %s, this node %s", clip(other, 32), n.version)
	}
	return nil
}
