package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Classes of error that both sides know. A backend may return others; they
// travel as they are.
const (
	Refused         = "refused"         // a rule says no; Rule and Who say which and whose
	Invalid         = "invalid"         // the call itself is wrong
	NotFound        = "not_found"       //
	Exists          = "exists"          // there is one already
	State           = "state"           // not in the state it is in
	Exhausted       = "exhausted"       // a limit is reached
	Unreachable     = "unreachable"     // the node, a peer or the platform cannot be reached
	Timeout         = "timeout"         //
	Cancelled       = "cancelled"       //
	Unauthenticated = "unauthenticated" // no valid token
	WrongRole       = "wrong_role"      // the token's person has another role
	WrongKey        = "wrong_key"       // the server does not hold the pinned key
	Internal        = "internal"        // the node's log has more
)

// grpcCode maps classes to what gRPC calls them; any other class is Unknown.
var grpcCode = map[string]codes.Code{
	Refused:         codes.PermissionDenied,
	Invalid:         codes.InvalidArgument,
	NotFound:        codes.NotFound,
	Exists:          codes.AlreadyExists,
	State:           codes.FailedPrecondition,
	Exhausted:       codes.ResourceExhausted,
	Unreachable:     codes.Unavailable,
	Timeout:         codes.DeadlineExceeded,
	Cancelled:       codes.Canceled,
	Unauthenticated: codes.Unauthenticated,
	WrongRole:       codes.PermissionDenied,
	Internal:        codes.Internal,
}

// errorDomain marks the details of this API's errors.
const errorDomain = "node.yinqiao"

// Error is what a caller of the API learns of a failure: words for people, and
// stable codes beside them.
type Error struct {
	Class    string // one of the classes above, or the backend's own
	RuleCode string // the rule that was applied; may be blank
	By       string // the party that refused; may be blank
	Text     string // what failed
	Advice   string // what would help; may be blank

	cause error
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the context's error behind a cancelled or timed-out call.
func (e *Error) Unwrap() error { return e.cause }

// Code returns the class.
func (e *Error) Code() string { return e.Class }

// Rule returns the rule that was applied.
func (e *Error) Rule() string { return e.RuleCode }

// Who returns the party that refused.
func (e *Error) Who() string { return e.By }

// Hint returns what would help.
func (e *Error) Hint() string { return e.Advice }

// Bounds of what goes into a reply, in characters.
const (
	maxCode = 64
	maxText = 2048
)

// toStatus turns a backend's error into what goes over the wire. Errors
// without a class are logged under an ID, and the ID is all that is sent.
func toStatus(ctx context.Context, log *slog.Logger, method string, err error) error {
	if err == nil {
		return nil
	}
	var coded interface{ Code() string }
	switch {
	case errors.As(err, &coded) && coded.Code() != "" && coded.Code() != Internal:
		e := &Error{Class: clip(coded.Code(), maxCode), Text: clip(err.Error(), maxText)}
		var rule interface{ Rule() string }
		if errors.As(err, &rule) {
			e.RuleCode = clip(rule.Rule(), maxCode)
		}
		var who interface{ Who() string }
		if errors.As(err, &who) {
			e.By = clip(who.Who(), maxCode)
		}
		var hint interface{ Hint() string }
		if errors.As(err, &hint) {
			e.Advice = clip(hint.Hint(), maxText)
		}
		return e.status()
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return (&Error{Class: Cancelled, Text: "the call was cancelled"}).status()
	case errors.Is(err, context.DeadlineExceeded):
		return (&Error{Class: Timeout, Text: "the call took too long"}).status()
	}
	if _, ok := status.FromError(err); ok && ctx.Err() != nil { // a stream whose caller has left
		return err
	}
	return internal(log, method, slog.Any("error", err))
}

// internal logs a failure that is not the caller's and returns its class.
func internal(log *slog.Logger, method string, attrs ...any) error {
	var b [4]byte
	_, _ = rand.Read(b[:])
	id := hex.EncodeToString(b[:])
	log.Error("api: call failed", append([]any{slog.String("id", id), slog.String("method", method)}, attrs...)...)
	return (&Error{
		Class: Internal, Text: "internal error of the node (id " + id + ")",
		Advice: "the node's log has more under this id",
	}).status()
}

func (e *Error) status() error {
	code, ok := grpcCode[e.Class]
	if !ok {
		code = codes.Unknown
	}
	st := status.New(code, e.Text)
	info := &errdetails.ErrorInfo{Reason: e.Class, Domain: errorDomain, Metadata: make(map[string]string)}
	for _, m := range []struct{ key, value string }{{"rule", e.RuleCode}, {"who", e.By}, {"hint", e.Advice}} {
		if m.value != "" {
			info.Metadata[m.key] = m.value
		}
	}
	if with, err := st.WithDetails(info); err == nil {
		st = with
	}
	return st.Err()
}

// fromStatus turns what came over the wire into an *Error.
func fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err // io.EOF of a stream
	}
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != errorDomain {
			continue
		}
		m := info.GetMetadata()
		return &Error{
			Class: clip(info.GetReason(), maxCode), RuleCode: clip(m["rule"], maxCode), By: clip(m["who"], maxCode),
			Text: clip(st.Message(), maxText), Advice: clip(m["hint"], maxText), cause: causeOf(ctx, st.Code()),
		}
	}
	e := &Error{Class: Internal, Text: clip(st.Message(), maxText), cause: causeOf(ctx, st.Code())}
	switch st.Code() {
	case codes.Unavailable:
		e.Class, e.Text = Unreachable, "the node cannot be reached"
		e.Advice = "is it running, and is this its API address?"
	case codes.DeadlineExceeded:
		e.Class, e.Text = Timeout, "the node did not answer in time"
	case codes.Canceled:
		e.Class, e.Text = Cancelled, "the call was cancelled"
	case codes.Unimplemented:
		e.Class, e.Text = Invalid, "the node does not know this call"
		e.Advice = "the node and this program are of different versions"
	case codes.ResourceExhausted:
		e.Class = Exhausted
	case codes.Unauthenticated:
		e.Class = Unauthenticated
	}
	return e
}

func causeOf(ctx context.Context, c codes.Code) error {
	if c != codes.Canceled && c != codes.DeadlineExceeded {
		return nil
	}
	return ctx.Err()
}

// clip bounds text and drops what a terminal would obey.
func clip(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if n == 0 {
			break
		}
		if r == '\n' || r >= ' ' && (r < 0x7f || r >= 0xa0) {
			b.WriteRune(r)
			n--
		}
	}
	return b.String()
}
