package catalog

import (
	"google.golang.org/protobuf/proto"

	"github.com/yinqiao/yinqiao/internal/suite"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	signv1 "github.com/yinqiao/yinqiao/proto/yinqiao/sign/v1"
)

func seal(key *suite.Key, signer, context string, m proto.Message) (*signv1.Signed, error) {
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	return key.Seal(signer, context, payload), nil
}

// SignEntry signs an entry in its provider's name.
func SignEntry(key *suite.Key, e *catalogv1.Entry) (*signv1.Signed, error) {
	return seal(key, e.GetProvider(), suite.ContextEntry, e)
}

// SignRequest signs a request in its requester's name.
func SignRequest(key *suite.Key, r *catalogv1.Request) (*signv1.Signed, error) {
	return seal(key, r.GetRequester(), suite.ContextRequest, r)
}

// SignDecision signs a decision in its party's name.
func SignDecision(key *suite.Key, d *catalogv1.Decision) (*signv1.Signed, error) {
	return seal(key, d.GetParty(), suite.ContextDecision, d)
}

// SignGrant signs as the platform, as SignRoster and SignStatus do.
func SignGrant(key *suite.Key, g *catalogv1.Grant) (*signv1.Signed, error) {
	return seal(key, suite.Platform, suite.ContextGrant, g)
}

// SignRoster signs a roster as the platform.
func SignRoster(key *suite.Key, r *catalogv1.Roster) (*signv1.Signed, error) {
	return seal(key, suite.Platform, suite.ContextRoster, r)
}

// SignStatus signs a status as the platform.
func SignStatus(key *suite.Key, s *catalogv1.Status) (*signv1.Signed, error) {
	return seal(key, suite.Platform, suite.ContextStatus, s)
}
