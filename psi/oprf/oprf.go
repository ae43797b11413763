// Package oprf is private set intersection for a small set against a very large
// one: psi.oprf.v1.
//
// The server evaluates a keyed function of all its rows once and keeps the
// results, cut to tags and sorted, as the table of an epoch. The client fetches
// the table once an epoch. From then on a session costs what the client's set
// costs: it has its items evaluated by the server, which sees them blinded, and
// looks the tags up at home.
//
//	m, err := oprf.Serve(ctx, s, source, table.RuleID, store, oprf.Params{})
//	m, err := oprf.Query(ctx, s, keys.All(), keys.Len(), store, oprf.Params{})
//
// The function is 2HashDH (Jarecki, Kiayias, Krawczyk 2014), as in the OPRF mode
// of RFC 9497 (https://www.rfc-editor.org/rfc/rfc9497), over X coordinates of
// Curve25519: F(x) = Hash(x, k·H(x)).
//
// Security: semi-honest parties, one-more gap Diffie-Hellman in Curve25519,
// random oracle. Whoever holds a table and learns the epoch's key can test any
// item: keys end by age, by use and whenever the rows change, and stay in the
// server's sealed cache. The package's page is docs/protocols/psi-oprf.md:
// messages, what each party learns, what a dishonest one can do.
//
// Time does not depend on an item or on the key, but on the length of items, on
// the number of rows, on what the cache holds and, at the client, on which
// segments of the table its tags fall into.
package oprf

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/yinqiao/yinqiao/mpc/curve25519"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Name of the protocol; a change on the wire, or of the function, is a new name.
const Name = "psi.oprf.v1"

// MaxRows is the most rows a server may hold, MaxItems the most items a client
// may ask for in one session.
const (
	MaxRows  = 1 << 28
	MaxItems = 1 << 20
)

// Limits and defaults of Params.
const (
	defaultFalseMatchBits = 40
	defaultMaxAge         = 7 * 24 * time.Hour
	defaultMaxEvaluations = 1 << 24

	minFalseMatchBits = 30
	maxFalseMatchBits = 48 // with 2^28 rows and 2^20 items, of the 96 that a tag has at most
	maxMaxAge         = 366 * 24 * time.Hour
	maxMaxEvaluations = 1 << 40
	outputClient      = "client"
	outputBoth        = "both"
)

// Stages of which progress is told.
const (
	prepareStage  = "prepare the table"
	compareStage  = "compare with the prepared table"
	uploadStage   = "send the table"
	downloadStage = "fetch the table"
	evaluateStage = "evaluate"
	lookupStage   = "match"
)

// Faults that end a session, besides job.ErrMinIntersection, those of a table's
// keys and [session.ErrMismatch].
var (
	ErrMessage    = errors.New("psi/oprf: malformed message")
	ErrSize       = errors.New("psi/oprf: number of rows not supported")
	ErrDuplicates = errors.New("psi/oprf: keys occur more than once")
	ErrDisagree   = errors.New("psi/oprf: the two sides disagree")
	ErrCache      = errors.New("psi/oprf: damaged cache")
	ErrPoint      = curve25519.ErrPoint
)

// Params are the public parameters, the same at both parties except for
// MinIntersection. The zero value is the default.
type Params struct {
	// FalseMatchBits bounds the probability, 2^-bits, that in a session any item
	// is taken for a different one. 0 means 40; 30 to 48.
	FalseMatchBits int
	// Broadcast also tells the server which of its rows match.
	Broadcast bool
	// Items says what the items are, such as the rule and the number of columns
	// that made them, so that a difference is named instead of matching nothing.
	Items string
	// MinIntersection is the smallest number of common rows with which this
	// party ends well. 0 means none. The client knows its matches by then.
	MinIntersection int64
	// MaxAge is how long the server uses one key. 0 means seven days.
	MaxAge time.Duration
	// MaxEvaluations is how many items the server evaluates under one key, of
	// all clients together. 0 means 2^24.
	MaxEvaluations int64

	clock func() time.Time // nil is time.Now; for the tests
}

// Validate reports every fault of p.
func (p Params) Validate() error {
	var errs []error
	if p.FalseMatchBits != 0 && (p.FalseMatchBits < minFalseMatchBits || p.FalseMatchBits > maxFalseMatchBits) {
		errs = append(errs, fmt.Errorf("psi/oprf: false_match_bits is %d, allowed are %d to %d", p.FalseMatchBits, minFalseMatchBits, maxFalseMatchBits))
	}
	if p.MaxAge < 0 || p.MaxAge > maxMaxAge {
		errs = append(errs, fmt.Errorf("psi/oprf: the maximum age is %v, allowed are up to %v", p.MaxAge, maxMaxAge))
	}
	if p.MaxEvaluations < 0 || p.MaxEvaluations > maxMaxEvaluations {
		errs = append(errs, fmt.Errorf("psi/oprf: max_evaluations is %d, allowed are up to %d", p.MaxEvaluations, int64(maxMaxEvaluations)))
	}
	if p.MinIntersection < 0 {
		errs = append(errs, errors.New("psi/oprf: the minimum intersection is negative"))
	}
	return errors.Join(errs...)
}

func (p Params) falseMatchBits() int {
	if p.FalseMatchBits == 0 {
		return defaultFalseMatchBits
	}
	return p.FalseMatchBits
}

func (p Params) maxAge() time.Duration {
	if p.MaxAge == 0 {
		return defaultMaxAge
	}
	return p.MaxAge
}

func (p Params) maxEvaluations() int64 {
	if p.MaxEvaluations == 0 {
		return defaultMaxEvaluations
	}
	return p.MaxEvaluations
}

// maxItems is the most items of one session.
func (p Params) maxItems() int64 { return min(MaxItems, p.maxEvaluations()) }

func (p Params) now() time.Time {
	if p.clock == nil {
		return time.Now()
	}
	return p.clock()
}

func (p Params) output() string {
	if p.Broadcast {
		return outputBoth
	}
	return outputClient
}

func (p Params) fields(client, server session.PartyID) []session.Field {
	return []session.Field{
		{Name: "client", Value: string(client)},
		{Name: "server", Value: string(server)},
		{Name: "suite", Value: curve25519.Suite},
		{Name: "items", Value: p.Items},
		{Name: "false_match_bits", Value: strconv.Itoa(p.falseMatchBits())},
		{Name: "output", Value: p.output()},
		{Name: "max_age", Value: p.maxAge().String()},
		{Name: "max_evaluations", Value: strconv.FormatInt(p.maxEvaluations(), 10)},
	}
}

// Match is the result of one party: Rows[k] is the index of the own row whose
// key is also that of row Rows[k] of the other party's Match. A server has no
// Rows unless Broadcast is set.
type Match struct {
	Rows []int32
	Own  int // rows that this party has put in
}

// Query runs the client's role on n items, which must be distinct and have at
// most table.MaxKeyBytes; each is valid until the next is asked for. It holds
// about 150 bytes an item, and 64 for every 20 KiB of the server's table, which
// is in the cache.
func Query(ctx context.Context, s *session.Session, items iter.Seq[[]byte], n int, st Store, p Params) (Match, error) {
	c, err := beginClient(ctx, s, items, n, st, p)
	if err != nil {
		return Match{}, err
	}
	defer c.close()

	// The number of items, and what the server's table is by now.
	if err := c.link.SendNumber(ctx, kindItems, int64(n)); err != nil {
		return Match{}, err
	}
	if err := c.recvEpoch(ctx); err != nil {
		return Match{}, err
	}
	if err := c.fetch(ctx); err != nil {
		return Match{}, err
	}

	// The items, blinded, and back evaluated.
	own, err := c.evaluate(ctx)
	if err != nil {
		return Match{}, err
	}
	if err := c.link.RecvEmpty(ctx, kindCheck); err != nil {
		return Match{}, err
	}

	// Their tags, among the server's.
	found, err := c.lookup(ctx, own)
	if err != nil {
		return Match{}, err
	}
	count := int64(len(found))
	if count < p.MinIntersection {
		return Match{}, c.sendBelow(ctx)
	}
	m := Match{Rows: make([]int32, len(found)), Own: n}
	for i := range found {
		m.Rows[i] = found[i].row
	}
	if !p.Broadcast {
		if err := c.link.Send(ctx, kindDone, nil); err != nil {
			return Match{}, err
		}
		return unless(c.link.RecvEmpty(ctx, kindDone), m)
	}
	if err := c.sendMatches(ctx, found); err != nil {
		return Match{}, err
	}
	if err := c.link.SendNumber(ctx, kindDone, count); err != nil {
		return Match{}, err
	}
	return unless(c.recvCount(ctx, count), m)
}

// Serve runs the server's role on the rows of src, whose keys rule normalises.
// It holds about 10 MiB; see prepare for what a new table takes.
func Serve(ctx context.Context, s *session.Session, src table.Source, rule table.KeyRule, st Store, p Params) (Match, error) {
	v, err := beginServer(ctx, s, src, rule, st, p)
	if err != nil {
		return Match{}, err
	}

	// The number of items, which is written down before anything is answered.
	// Where there is no epoch that can answer them, this makes one.
	n, err := v.recvItems(ctx)
	if err != nil {
		return Match{}, err
	}
	if err := v.begin(ctx, n); err != nil {
		return Match{}, err
	}
	defer v.epoch.close()
	if err := v.sendEpoch(ctx); err != nil {
		return Match{}, err
	}
	if err := v.recvWant(ctx); err != nil {
		return Match{}, err
	}

	// The client's items, blinded; they go back multiplied by the key.
	if err := v.evaluate(ctx); err != nil {
		return Match{}, err
	}
	if err := v.link.Send(ctx, kindCheck, nil); err != nil {
		return Match{}, err
	}

	// What the client says it has found.
	places, err := v.recvResult(ctx)
	if err != nil {
		return Match{}, err
	}
	m := Match{Own: v.epoch.rows}
	if !p.Broadcast {
		return unless(v.link.Send(ctx, kindDone, nil), m)
	}
	if int64(len(places)) < p.MinIntersection {
		return Match{}, v.sendBelow(ctx)
	}
	if m.Rows, err = v.epoch.rowsAt(places); err != nil {
		return Match{}, v.damaged(err)
	}
	return unless(v.link.SendNumber(ctx, kindDone, int64(len(places))), m)
}

// unless returns m, or no match with an error.
func unless(err error, m Match) (Match, error) {
	if err != nil {
		return Match{}, err
	}
	return m, nil
}
