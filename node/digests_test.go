package node

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/yinqiao/yinqiao/node/peer"
	auditv1 "github.com/yinqiao/yinqiao/proto/yinqiao/audit/v1"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"
)

// TestDigestsStandInTheReceipt, and where an operator sees the job.
func TestDigestsStandInTheReceipt(t *testing.T) {
	w := newWorld(t)
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: w.releases(nil)})
	must(t, err)
	want := bytes.Repeat([]byte{7}, 32)
	for _, p := range []string{"bank", "gov"} {
		v := w.ended(p, id)
		if v.GetState() != "done" || len(v.GetDigests()) != 1 || !bytes.Equal(v.GetDigests()["cells"], want) {
			t.Errorf("%s: %s, %v: %s", p, v.GetState(), v.GetDigests(), v.GetReason())
		}
		rs, _ := w.receiptsOf(p, id)
		if len(rs) != 1 || len(rs[0].GetDigests()) != 1 || !bytes.Equal(rs[0].GetDigests()["cells"], want) {
			t.Errorf("%s: receipts %v", p, rs)
		}
	}
}

// TestDigestsDisagree: parties that did not agree end the job loudly, with both
// their names, and nothing opens.
func TestDigestsDisagree(t *testing.T) {
	w := newWorld(t)
	grant := w.releases(func(l *catalogv1.Limits) { l.MaxRuns = 20 })
	for name, gov := range map[string]map[string][]byte{
		"another":      {"cells": bytes.Repeat([]byte{8}, 32)},
		"none":         {},
		"a shorter":    {"cells": bytes.Repeat([]byte{7}, 31)},
		"another name": {"rules": bytes.Repeat([]byte{7}, 32)},
		"one more":     {"cells": bytes.Repeat([]byte{7}, 32), "rules": {1}},
	} {
		t.Run(name, func(t *testing.T) {
			w.hooks.mu.Lock()
			w.hooks.release.digests = map[string]map[string][]byte{"gov": gov}
			w.hooks.mu.Unlock()
			id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
			must(t, err)
			v := w.ended("bank", id)
			if v.GetState() != "failed" || v.GetClass() != "digest_disagreement" || !strings.Contains(v.GetReason(), "bank and gov") {
				t.Errorf("bank: %s, %s: %s", v.GetState(), v.GetClass(), v.GetReason())
			}
			if v := w.ended("gov", id); v.GetState() != "failed" {
				t.Errorf("gov: %s", v.GetState())
			}
			for _, p := range []string{"bank", "gov"} {
				if names := w.results(p); len(names) != 0 {
					t.Errorf("%s keeps output: %v", p, names)
				}
				if rs, _ := w.receiptsOf(p, id); len(rs) != 0 {
					t.Errorf("%s logged a receipt", p)
				}
			}
		})
	}
}

// TestDigestsThatAreNone: a kind's own digests are held to their bounds before
// anything leaves, and to what it declares.
func TestDigestsThatAreNone(t *testing.T) {
	w := newWorld(t)
	grant := w.releases(func(l *catalogv1.Limits) { l.MaxRuns = 20 })
	many := map[string][]byte{}
	for i := range maxDigests + 1 {
		many[fmt.Sprint("cells", i)] = []byte{1}
	}
	for name, d := range map[string]map[string][]byte{
		"not declared": {"secret": {1}},
		"too long":     {"cells": make([]byte, maxDigest+1)},
		"empty":        {"cells": {}},
		"too many":     many,
	} {
		w.hooks.mu.Lock()
		w.hooks.release.digests = map[string]map[string][]byte{"bank": d, "gov": d}
		w.hooks.mu.Unlock()
		id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: grant})
		must(t, err)
		if v := w.ended("gov", id); v.GetState() != "failed" {
			t.Errorf("%s: gov: %s", name, v.GetState())
		}
		v := w.ended("bank", id)
		if v.GetState() != "failed" || v.GetClass() != "reveals" && v.GetClass() != "peer_aborted" {
			t.Errorf("%s: bank: %s, %s: %s", name, v.GetState(), v.GetClass(), v.GetReason())
		}
	}
	for name, ok := range map[string]bool{
		"cells": true, "cells.mask-2_a": true, "a": true, strings.Repeat("a", 64): true,
		"": false, "Cells": false, "cells mask": false, ".cells": false, "cells\n": false, "单元": false, strings.Repeat("a", 65): false,
	} {
		if validDigests(map[string][]byte{name: {1}}) != ok {
			t.Errorf("name %q: valid %v", name, !ok)
		}
	}
}

// TestDigestsOfAPeer: a line with digests that cannot stand in a receipt is no
// line.
func TestDigestsOfAPeer(t *testing.T) {
	w := newWorld(t)
	entered, release := make(chan string, 2), make(chan struct{})
	w.hooks.mid = func(p string) { entered <- p; <-release }
	id, err := w.submit(&nodev1.SubmitJobRequest{GrantId: w.releases(nil)})
	must(t, err)
	<-entered
	<-entered
	session := w.nodes["bank"].findJob(id).contract.GetSession()
	many := map[string][]byte{}
	for i := range maxDigests + 1 {
		many[fmt.Sprint("cells", i)] = []byte{1}
	}
	for name, d := range map[string]map[string][]byte{
		"long": {"cells": make([]byte, maxDigest+1)}, "empty": {"cells": nil}, "named oddly": {"a b": {1}}, "many": many,
	} {
		_, err := w.nodes["gov"].peers.Finish(w.ctx, "bank", &peerv1.FinishRequest{
			Session: session, Record: &auditv1.PartyRecord{Party: "gov", Role: "right"}, Digests: d,
		})
		if peer.Reason(err) != "malformed_line" {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(release)
	for _, p := range []string{"bank", "gov"} {
		if v := w.ended(p, id); v.GetState() != "done" {
			t.Errorf("%s: %s: %s", p, v.GetState(), v.GetReason())
		}
	}
}
