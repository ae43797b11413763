package peer

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/yinqiao/yinqiao/session"
)

var (
	// ErrUnknownParty is returned for a party that is not in the directory.
	ErrUnknownParty = errors.New("peer: the roster does not admit this party")
	// ErrUnreachable is returned where no connection to a party came about.
	ErrUnreachable = errors.New("peer: the party cannot be reached")
	// ErrPeerGone ends the channels to a peer whose stream or connection ended
	// before it closed its channel.
	ErrPeerGone error = loss("peer: the peer left the session")
	// ErrIdle ends a channel on which not even a heartbeat came for
	// Limits.Idle.
	ErrIdle error = loss("peer: the peer has been silent for too long")
	// ErrNoStream ends a channel whose stream did not come about in
	// Limits.Open.
	ErrNoStream error = loss("peer: no stream to the peer came about in time")
	// ErrReplayed is returned for a session ID that was used before.
	ErrReplayed = errors.New("peer: the session was used before")
	// ErrUnknownSession is returned for a stream of a session that the callee
	// has not opened, or not with the caller.
	ErrUnknownSession = errors.New("peer: the callee knows no such session")
	// ErrLabel is returned for a label that is malformed, or opened twice.
	ErrLabel = errors.New("peer: label malformed or opened twice")
	// ErrContract is returned where the two ends of a session hold different
	// contracts.
	ErrContract = errors.New("peer: the parties hold different contracts")
	// ErrBusy is returned where a peer asked for more than Limits allows.
	ErrBusy = errors.New("peer: too many connections, streams or calls")
	// ErrQuota ends a session that carried more than Limits.SessionBytes.
	ErrQuota = errors.New("peer: the session's byte quota is used up")
	// ErrProtocol ends a channel whose peer broke the framing.
	ErrProtocol = errors.New("peer: the peer sent a malformed frame")
	// ErrDropped ends the channels to a party that was dropped.
	ErrDropped error = loss("peer: the party is no longer admitted")
	// ErrClosed ends everything that was open when Peers or Link was closed.
	ErrClosed = errors.New("peer: closed")

	errFinished = errors.New("peer: the channel has finished")
)

// loss is a way to lose a peer that says nothing against it: protocols that can
// do without one go on where errors.Is finds session.ErrGone.
type loss string

func (l loss) Error() string { return string(l) }

// Is makes every loss a session.ErrGone.
func (loss) Is(target error) bool { return target == session.ErrGone }

// classes are the words by which a refusal crosses the wire.
var classes = []struct {
	class string
	code  codes.Code
	err   error
}{
	{"not_admitted", codes.PermissionDenied, ErrUnknownParty},
	{"not_admitted", codes.PermissionDenied, ErrDropped},
	{"replayed_session", codes.FailedPrecondition, ErrReplayed},
	{"unknown_session", codes.NotFound, ErrUnknownSession},
	{"label", codes.AlreadyExists, ErrLabel},
	{"contract_mismatch", codes.FailedPrecondition, ErrContract},
	{"busy", codes.ResourceExhausted, ErrBusy},
	{"too_early", codes.Unavailable, nil},
	{"quota", codes.Aborted, ErrQuota},
	{"idle", codes.Aborted, ErrIdle},
	{"too_large", codes.Aborted, session.ErrTooLarge},
	{"protocol", codes.Aborted, ErrProtocol},
	{"aborted", codes.Aborted, nil},
	{"internal", codes.Internal, nil},
}

// RefusedError is a peer's refusal: its class is all that is told. It unwraps
// to the sentinel of this package that the class stands for, if there is one.
type RefusedError struct {
	Class string
	code  codes.Code
}

func (e *RefusedError) Error() string { return "peer: refused: " + e.Class }

// Unwrap returns the sentinel for the class, or nil.
func (e *RefusedError) Unwrap() error {
	for _, c := range classes {
		if c.class == e.Class {
			return c.err
		}
	}
	return nil
}

// Refuse returns an error with which a [Handler] tells a peer a class: up to
// 64 characters of a-z, 0-9 and "_".
func Refuse(class string) error {
	if !validClass(class) {
		class = "internal"
	}
	for _, c := range classes {
		if c.class == class {
			return &RefusedError{class, c.code}
		}
	}
	return &RefusedError{class, codes.Aborted}
}

// GRPCStatus makes gRPC send the class.
func (e *RefusedError) GRPCStatus() *status.Status { return status.New(e.code, e.Class) }

func validClass(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// refusal turns a local reason into what a peer is told of it.
func refusal(err error) error {
	var r *RefusedError
	if errors.As(err, &r) {
		return r
	}
	for _, c := range classes {
		if c.err != nil && errors.Is(err, c.err) {
			return &RefusedError{c.class, c.code}
		}
	}
	return &RefusedError{"aborted", codes.Aborted}
}

// fromStatus turns what gRPC returned into an error of this package. A peer
// writes the text of a status: only a well-formed class is taken from it.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, _ := status.FromError(err)
	if validClass(st.Message()) {
		return &RefusedError{st.Message(), st.Code()}
	}
	switch st.Code() {
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.ResourceExhausted: // gRPC's own: a message above the limit
		return fmt.Errorf("%w: %w", ErrProtocol, session.ErrTooLarge)
	case codes.Unimplemented:
		return &RefusedError{"unimplemented", codes.Unimplemented}
	}
	return &RefusedError{codeClass(st.Code()), st.Code()}
}

func codeClass(c codes.Code) string {
	switch c {
	case codes.Canceled:
		return "cancelled"
	case codes.Unavailable:
		return "unavailable"
	case codes.Internal, codes.Unknown:
		return "internal"
	}
	return "aborted"
}

// Reason is the class of err in a word, for messages to people and metrics.
func Reason(err error) string {
	var r *RefusedError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrUnreachable):
		return "unreachable"
	case errors.As(err, &r):
		return r.Class
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, ErrPeerGone):
		return "peer_gone"
	case errors.Is(err, ErrNoStream):
		return "no_stream"
	case errors.Is(err, ErrClosed):
		return "closed"
	}
	return refusal(err).(*RefusedError).Class
}
