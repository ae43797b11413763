package node

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/internal/store"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// State is where a job is in its life.
type State string

// The states of a job. Done, Failed, Cancelled and Refused are final.
const (
	Proposed  State = "proposed"  // admitted here, the others are being asked
	Running   State = "running"   // protocol bytes may have flowed
	Releasing State = "releasing" // computed; the receipt is being signed and logged
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	Refused   State = "refused"
)

// Final reports whether nothing more will happen.
func (s State) Final() bool { return s == Done || s == Failed || s == Cancelled || s == Refused }

// record is what the store keeps of a job: everything needed to account for it
// after a crash.
type record struct {
	Job, Session, Kind, GrantID string
	GrantDigest, ContractDigest []byte
	Initiator, Role             string
	Person                      string
	Choice                      string // why this kind was chosen, where the submission left that open
	Parties, Roles              []string
	Rows                        []int64
	State                       State
	Class, Reason               string
	RunsUsed                    bool
	Counter, Holder             string // where the use is reserved, and in whose name
	Held                        bool   // the use was spent by an earlier attempt
	Run                         string // the job of the run's first attempt
	Attempt                     int64
	Resumable                   bool   // as it ended: a further attempt can use what is finished
	Restarts                    bool   // this node begins that attempt by itself
	Next                        string // the job of the attempt that followed
	InputCommitment             []byte
	UsesLeft                    int64
	Created, Started, Finished  time.Time
	Units, Counts               map[string]int64
	Digests                     map[string][]byte
	Privacy                     *privacySpent
	ReceiptDigest               []byte
	ReceiptIndex                uint64
	Lost                        map[string]string // parties that the job went on without, and the class with which each left
	Staged                      bool
	Missed                      bool // the others completed it without this party
	Recorded                    bool // of a failed run: its record is in the log and kept for the others
}

// owesRecord reports whether the run ended without a receipt and its record
// has not been left yet.
func (r *record) owesRecord() bool {
	return (r.State == Failed || r.State == Cancelled) && !r.Recorded
}

// runOf is the run that the job is an attempt at.
func (r *record) runOf() string {
	if r.Run == "" {
		return r.Job
	}
	return r.Run
}

// holder is in whose name the use is reserved.
func (r *record) holder() string {
	if r.Holder == "" { // of an earlier version of the program
		return r.Session
	}
	return r.Holder
}

// resumed is what a record or view shows of a run: blank at the first attempt.
func (r *record) resumed() (run string, attempt int64) {
	if r.Attempt < 2 {
		return "", 0
	}
	return r.Run, r.Attempt
}

func jobKey(id string) string          { return "job/" + id }
func sessionKey(session string) string { return "session/" + session }

func (n *Node) save(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("node: job record: %w", err)
	}
	return n.store.Put(jobKey(r.Job), b)
}

func (n *Node) load(id string) (*record, error) {
	b, err := n.store.Get(jobKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, &NotFound{What: "job " + clip(id, 64)}
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("node: job record: %w", err)
	}
	return r, nil
}

func (n *Node) records() ([]*record, error) {
	var rs []*record
	for item, err := range n.store.Scan("job/") {
		if err != nil {
			return nil, err
		}
		r := &record{}
		if err := json.Unmarshal(item.Value, r); err != nil {
			return nil, fmt.Errorf("node: job record: %w", err)
		}
		rs = append(rs, r)
	}
	sort.Slice(rs, func(i, j int) bool { return rs[i].Created.After(rs[j].Created) })
	return rs, nil
}

// NotFound is returned for a job, table or request that this node has not.
type NotFound struct{ What string }

func (e *NotFound) Error() string { return "no such " + e.What }

// Code is the stable class.
func (*NotFound) Code() string { return "not_found" }

// Invalid is returned for a call whose words are off.
type Invalid struct{ Text string }

func (e *Invalid) Error() string { return e.Text }

// Code is the stable class.
func (*Invalid) Code() string { return "invalid" }

func invalid(format string, a ...any) error { return &Invalid{fmt.Sprintf(format, a...)} }

// view is what an operator sees of r.
func (r *record) view() *nodev1.JobView {
	v := &nodev1.JobView{
		Job: r.Job, Session: r.Session, Kind: r.Kind, State: string(r.State), Class: r.Class, Reason: r.Reason,
		GrantId: r.GrantID, UsesLeft: r.UsesLeft, Role: r.Role, Units: r.Units, Counts: r.Counts, Digests: r.Digests,
		Created: timestamppb.New(r.Created), Resumable: r.Resumable, Choice: r.Choice,
		Next: r.Next, Restarts: r.Restarts,
	}
	v.Run, v.Attempt = r.resumed()
	for i, p := range r.Parties {
		jp := &nodev1.JobParty{Party: p, Role: r.Roles[i], Lost: r.Lost[p]}
		if i < len(r.Rows) {
			jp.Rows = r.Rows[i]
		}
		v.Parties = append(v.Parties, jp)
	}
	if !r.Finished.IsZero() {
		v.Finished = timestamppb.New(r.Finished)
		if !r.Started.IsZero() {
			v.Seconds = r.Finished.Sub(r.Started).Seconds()
		}
	}
	if p := r.Privacy; p != nil {
		v.Privacy = &nodev1.PrivacySpent{Epsilon: p.Epsilon, Delta: p.Delta, EpsilonLeft: p.EpsilonLeft, DeltaLeft: p.DeltaLeft}
	}
	if r.ReceiptDigest != nil {
		v.Receipt = &nodev1.ReceiptRef{Digest: r.ReceiptDigest, Index: r.ReceiptIndex}
	}
	return v
}

// newID returns a prefix and 80 random bits, which nobody has to keep unique.
func newID(prefix string) string {
	var b [10]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand does not fail on supported systems
	}
	return prefix + "-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}
