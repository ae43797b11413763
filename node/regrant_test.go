package node

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/catalog/platform"
	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

// TestGrantedTwice: a platform that signs a second grant over one request, with
// its genuine approvals, gets no further runs out of it.
func TestGrantedTwice(t *testing.T) {
	w := newWorld(t)
	gov := w.nodes["gov"]
	first, err := gov.resolver.Grant(w.ctx, w.granted(nil))
	must(t, err)
	roster, err := gov.resolver.Roster(w.ctx)
	must(t, err)
	text, err := os.ReadFile(filepath.Join(w.platHome, platform.KeyFile))
	must(t, err)
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	must(t, err)
	key, err := suite.NewKey(seed)
	must(t, err)

	var m catalogv1.Grant
	must(t, catalog.Decode(first.Signed().Payload, &m))
	m.Id = "G-2026-9999"
	again, err := catalog.SignGrant(key, &m)
	must(t, err)
	status := func(subject catalogv1.Subject, id string, digest []byte) *signv1.Signed {
		s, err := catalog.SignStatus(key, &catalogv1.Status{
			Subject: subject, Id: id, Digest: digest, Version: 1, State: catalogv1.State_STATE_CURRENT,
			Issued: timestamppb.Now(), Expires: timestamppb.New(time.Now().Add(time.Minute)),
		})
		must(t, err)
		return s
	}
	var entries []*signv1.Signed
	for _, e := range first.Entries() {
		entries = append(entries, status(catalogv1.Subject_SUBJECT_ENTRY, e.Code(), e.Digest()))
	}
	second, err := catalog.VerifyGrant(again, status(catalogv1.Subject_SUBJECT_GRANT, m.Id, suite.Digest(again.Payload)), entries, roster, nil, time.Now())
	must(t, err) // the approvals are genuine, so the document verifies
	if runCounter(first) != runCounter(second) {
		t.Error("the second grant has a count of its own")
	}
	if budgetKey(first) != budgetKey(second) {
		t.Error("the second grant has a privacy budget of its own")
	}
}
