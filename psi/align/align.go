// Package align is the job that every two-party alignment is: it reads the keys
// of a table, finds those that the other party has as well with the protocol
// that it is given, and arranges the table's rows accordingly.
//
// A protocol package returns [Definition] of a [Protocol] that names its two
// roles; key rules, duplicate keys, joins, partitions and the state that a later
// attempt takes up are the same for all of them and are here:
//
//	func Definition() job.Definition {
//		return align.Definition(align.Protocol{Name: Name, Send: …, Receive: …})
//	}
//
// A protocol sees [Digest] items, distinct and of 16 bytes, never a key. A table
// beyond a size is cut by digest into partitions, which run one after the other
// in sub-sessions; each is padded to a number of items that the sizes of the
// sets determine, so that nothing is learnt from it. Their outcomes stay in the
// run's scratch space until all are there.
//
// Memory is 16 bytes a row, and 8 to 24 more while duplicates are looked for, up
// to [memoryRows] rows; larger sets wait on disk, 20 bytes a row, and memory is
// what one partition takes, see [Protocol.PartitionRows], and 4 bytes for each
// row that a join appends.
//
// The page is docs/protocols/psi-align.md: what partitions, joins and resuming
// reveal, and the bound on padding.
package align

import (
	"context"
	"errors"

	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/session"
	"github.com/yinqiao/yinqiao/table"
)

// Name of the engine's own messages; a change on the wire is a new name.
const Name = "psi.align.v1"

// family is that of every kind made here.
const family = "psi.align"

// Roles of the job.
const (
	Sender   job.Role = "sender"
	Receiver job.Role = "receiver"
)

// Limits of a run.
const (
	// MaxRows is the most rows a side may hold.
	MaxRows = 1 << 28
	// maxOneSession is the most keys a side may hold where a minimum has to be
	// kept to before a match is revealed, which needs one session for all.
	maxOneSession = 1 << 23
	// MinPartitionRows is the least that the parameter partition_rows may be: a
	// small partition pays much for its padding.
	MinPartitionRows = 4096
	// defaultPartitionRows is used where a protocol does not say.
	defaultPartitionRows = 1 << 20
	// maxPartitions keeps sub-sessions, of which a protocol may need a few for
	// each partition, to what a node carries in one session.
	maxPartitions = 1024
	// maxJoined is the most rows of a result.
	maxJoined = 1<<31 - 1
	// memoryRows is the most rows whose items stay in memory.
	memoryRows = 1 << 22
)

// Limits of the parameter false_match_bits.
const (
	defaultFalseMatchBits = 40
	minFalseMatchBits     = 30
	maxFalseMatchBits     = 64
)

// CountJoined is the key in Counts of the number of rows of the result, which
// is the same at both parties.
const CountJoined = "rows.joined"

// Faults that end a run, besides those of the protocol, of keys
// ([table.KeyError]), job.ErrMinIntersection and [session.ErrMismatch].
var (
	ErrMessage  = errors.New("psi/align: malformed message")
	ErrDisagree = errors.New("psi/align: the two sides disagree")
	ErrSize     = errors.New("psi/align: size not supported")
	// ErrOverflow: one partition of the own keys holds more than its bound, which
	// has a probability of 2^-40. Another attempt has another seed.
	ErrOverflow = errors.New("psi/align: a partition holds more keys than it is padded to")
	// ErrInputChanged: the rows or the parameters of one party are not those of
	// the earlier attempt. The run cannot go on; a new one can begin.
	ErrInputChanged = errors.New("psi/align: input changed since the earlier attempt")
)

// Digest is an item: the first 16 bytes of SHA-256 over a seed of the run and a
// normalised key.
type Digest = [16]byte

// Params is what a protocol is told of one session.
type Params struct {
	// Items says what the items are, so that a difference is named.
	Items string
	// FalseMatchBits bounds the probability, 2^-bits, that any two different
	// items of the session are taken for one.
	FalseMatchBits int
	// ReceiverOnly leaves the sender without a result.
	ReceiverOnly bool
	// MinIntersection is the smallest number of common items that this session
	// may reveal; 0 means none.
	MinIntersection int64
}

// Protocol is a two-party intersection of distinct items.
type Protocol struct {
	Name        string // of the job kind: "psi.ecdh.v1"
	Summary     string // one line
	Assumptions []string
	// MinIntersection says when the protocol can hold to one.
	MinIntersection job.Reach
	// Send and Receive are the roles. They return the indices into items of those
	// that both parties have, in one order that is the same at both; the sender's
	// is nil with Params.ReceiverOnly. They run on a session of their own, which
	// they bind, and leave items alone.
	Send, Receive func(ctx context.Context, s *session.Session, items []Digest, p Params) (rows []int32, err error)
	// Views is what the protocol reveals beside what every alignment does.
	Views []job.Disclosure
	// Estimate is the cost of one session with n items at the sender and m at the
	// receiver.
	Estimate func(n, m int64) (job.Cost, error)
	// Baseline is a benchmark's yardstick for two sets of n rows. May be nil.
	Baseline     func(ctx context.Context, n int64) error
	BaselineName string
	// PartitionRows is the most items of one session that is run by default; 0
	// means defaultPartitionRows.
	PartitionRows int
}

// Definition returns the job kind of p.
//
// Each party has one input with at least one key column. Its Result has its own
// granted columns of the rows that the join gives, keys first, as table
// "intersection": row k at both parties is the same row of the join, and a row
// of missing values where a party has no partner for the other's. Counts are
// job.CountCommon, the number of keys that both have, and [CountJoined]. With
// the output "receiver" the sender has neither table nor counts, and the
// receiver the table.
func Definition(p Protocol) job.Definition { return newEngine(p).definition() }

// engine is a protocol with the sizes that tests make smaller.
type engine struct {
	Protocol
	minPartition  int64
	maxOneSession int64
	memoryRows    int64
	bound         func(n int64, parts int) int64
}

func newEngine(p Protocol) *engine {
	if p.PartitionRows == 0 {
		p.PartitionRows = defaultPartitionRows
	}
	return &engine{Protocol: p, minPartition: MinPartitionRows, maxOneSession: maxOneSession, memoryRows: memoryRows, bound: bound}
}

func (e *engine) definition() job.Definition {
	d := job.Definition{
		Name:            e.Name,
		Summary:         e.Summary,
		Roles:           []job.RoleSpec{{Role: Sender, Min: 1, Max: 1}, {Role: Receiver, Min: 1, Max: 1}},
		MinIntersection: e.MinIntersection,
		Assumptions:     e.Assumptions,
		Reveals:         e.reveals,
		Run:             e.run,
		Clear:           e.clear,
		Bench:           func(n int64) (job.Bench, error) { return e.bench(n, n) },
		BenchSizes:      e.bench,
		Family:          family,
		Estimate:        e.estimate,
		Resumable:       true,
	}
	d.Validate = func(spec job.Spec) error { return errors.Join(d.CheckRoles(spec), e.validate(spec)) }
	return d
}

// KeysFirst returns src with its key columns before the others, as results have
// them.
func KeysFirst(src table.Source) (table.Source, error) {
	var names, rest []string
	for _, c := range src.Schema() {
		if c.Key {
			names = append(names, c.Name)
		} else {
			rest = append(rest, c.Name)
		}
	}
	return table.Select(src, append(names, rest...))
}
