// Package catalog is what a node knows of the platform: catalog entries,
// exchange requests, grants, the roster of parties and the code table by which
// a platform's codes are read.
//
// Most users need a [Resolver], which answers with verified values, and the
// [Client] that implements it against the reference platform:
//
//	platform ── signed bytes ──▶ VerifyRoster ──▶ *Roster
//	                             VerifyGrant  ──▶ *Grant     (checks everything below)
//	                             VerifyEntry  ──▶ *Entry
//
// A [Grant], an [Entry] or a [Roster] can only come from verification, and it
// cannot be changed afterwards, so whoever holds one need not check it again.
//
// # Trust
//
// A node trusts its platform to say who is who (the roster), what the codes
// mean (the code table in it) and what is still valid (statuses). It does not
// trust the platform to speak for a provider: a grant holds the requester's
// signed request, each provider's signed registration of every entry, and for
// conditionally shared entries the provider's signed approval of that very
// request. A platform that invents consent is refused. Nor can it get round
// that with a false key on the roster: a provider's own node refuses a roster
// that gives the provider another key than its own ([RuleOwnKey]), and that
// node is the one that holds the data. For the same reason it remembers which
// versions of its own entries it has registered: a platform cannot go back to
// one that was shared more freely ([RuleEntryRollback]).
//
// Whatever is signed is verified over the bytes as they came. Documents with
// fields this build does not know are refused, since an unknown field might
// carry a restriction.
//
// # Freshness
//
// Rosters and statuses live for a minute or so and carry rising versions. A
// node remembers the highest version it has seen ([Seen]) and refuses an older
// one. Clocks may differ by [ClockSkew].
package catalog

import (
	"errors"
	"fmt"
	"time"

	"github.com/yinqiao/yinqiao/internal/store"
)

// ClockSkew is how far the clocks of two parties may differ: a statement is
// accepted this long before it was issued and after it expired. The end of a
// grant's own validity is exact.
const ClockSkew = 2 * time.Minute

var (
	// ErrUnreachable is wrapped when the platform could not be asked at all, as
	// opposed to having answered with a refusal.
	ErrUnreachable = errors.New("catalog: the platform cannot be reached")
	// ErrOlder is what a Seen returns for a version below the highest it has
	// seen; a node's store is one.
	ErrOlder = store.ErrOlder
)

// Rules by which a document or a call is refused: stable codes for people,
// logs and other programs.
const (
	RuleMalformed        = "malformed"         // not the encoding of such a document
	RuleUnknownField     = "unknown_field"     // holds fields this build does not know
	RuleRosterSignature  = "roster_signature"  // not signed by the pinned platform key
	RuleRosterStale      = "roster_stale"      // past its life
	RuleRosterRollback   = "roster_rollback"   // older than one already seen
	RuleRoster           = "roster"            // contradicts itself
	RuleOwnKey           = "own_key"           // the roster gives this very party another key, or leaves it out
	RuleCodeTable        = "code_table"        // codes of another table, or unknown ones
	RuleUnknownSigner    = "unknown_signer"    // signed by nobody on the roster
	RuleUnknownParty     = "unknown_party"     // names a party that is not on the roster
	RulePartySuspended   = "party_suspended"   // names a suspended party
	RuleEntry            = "entry"             // an entry that breaks the rules for entries
	RuleEntrySignature   = "entry_signature"   // not signed by its provider
	RuleEntryMismatch    = "entry_mismatch"    // not the entry or version that was asked for
	RuleEntrySuperseded  = "entry_superseded"  // a newer version is current
	RuleEntryRevoked     = "entry_revoked"     // withdrawn or revoked
	RuleEntryRollback    = "entry_rollback"    // of this very party, in a version that it has replaced
	RuleRequest          = "request"           // a request that breaks the rules for requests
	RuleRequestSignature = "request_signature" // not signed by its requester
	RuleItems            = "items"             // items that the entry does not have
	RuleShareType        = "share_type"        // the entry is not to be shared
	RuleApprovalMissing  = "approval_missing"  // no approval by a provider whose approval it takes
	RuleApprovalForged   = "approval_forged"   // an approval that its provider did not sign, or of another request
	RuleGrant            = "grant"             // a grant that contradicts itself
	RuleGrantSignature   = "grant_signature"   // not signed by the platform
	RuleGrantRevoked     = "grant_revoked"
	RuleGrantExpired     = "grant_expired"
	RuleNotYetValid      = "not_yet_valid"
	RuleStatusSignature  = "status_signature" // not signed by the platform
	RuleStatusStale      = "status_stale"     // missing or past its life
	RuleStatusRollback   = "status_rollback"  // older than one already seen
	RuleStatusMismatch   = "status_mismatch"  // speaks of something else
	RulePlatformKey      = "platform_key"     // the platform's certificate does not carry the pinned key
	RuleNotFound         = "not_found"        // no such thing, or not for this caller
	RuleExists           = "exists"           // the name is taken by something else
	RuleState            = "state"            // not possible in the state the request is in
	RuleVersion          = "version"          // versions rise
	RuleNotYours         = "not_yours"        // in another party's name
	RuleReason           = "reason"           // a refusal states its reason
	RuleInvite           = "invite"           // unknown, used or expired code, or mistyped
	RuleProof            = "proof"            // enrolment does not prove possession of the key
	RuleToken            = "token"            // missing or wrong bearer token
	RuleCaller           = "caller"           // the connection's key belongs to no party
	RuleTooLarge         = "too_large"
)

// RuleError is a refusal that names its rule.
type RuleError struct {
	Rule string
	Text string
	// Security marks what looks like an attack rather than a mistake: forged
	// or altered documents, unknown signers, replays of older versions.
	Security bool
}

// Error implements error.
func (e *RuleError) Error() string { return "catalog: " + e.Text + " (rule " + e.Rule + ")" }

// Is makes errors.Is(err, &RuleError{Rule: r}) ask for a rule.
func (e *RuleError) Is(target error) bool {
	t, ok := target.(*RuleError)
	return ok && t.Rule == e.Rule && (t.Text == "" || t.Text == e.Text)
}

// Rule returns the rule of err, or "".
func Rule(err error) string {
	var r *RuleError
	if errors.As(err, &r) {
		return r.Rule
	}
	return ""
}

// Refuse makes a RuleError.
func Refuse(rule, format string, args ...any) *RuleError {
	return &RuleError{Rule: rule, Text: fmt.Sprintf(format, args...)}
}

func alarm(rule, format string, args ...any) *RuleError {
	return &RuleError{Rule: rule, Text: fmt.Sprintf(format, args...), Security: true}
}
