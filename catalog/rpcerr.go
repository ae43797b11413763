package catalog

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	errorDomain   = "catalog.yinqiao"
	securityLabel = "security"
)

// StatusError turns an error into what goes over the wire: a refusal with its
// rule, anything else as its class alone.
func StatusError(err error) error {
	if err == nil {
		return nil
	}
	var r *RuleError
	switch {
	case errors.As(err, &r):
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "deadline exceeded")
	default:
		return status.Error(codes.Internal, "internal error")
	}
	st := status.New(codeOf(r.Rule), r.Text)
	info := &errdetails.ErrorInfo{Reason: r.Rule, Domain: errorDomain}
	if r.Security {
		info.Metadata = map[string]string{securityLabel: "true"}
	}
	if with, err := st.WithDetails(info); err == nil {
		st = with
	}
	return st.Err()
}

func codeOf(rule string) codes.Code {
	switch rule {
	case RuleNotFound:
		return codes.NotFound
	case RuleExists:
		return codes.AlreadyExists
	case RuleState, RuleVersion, RuleEntrySuperseded, RuleEntryRevoked, RuleGrantRevoked, RuleGrantExpired, RuleNotYetValid:
		return codes.FailedPrecondition
	case RuleToken, RuleCaller:
		return codes.Unauthenticated
	case RuleNotYours, RuleInvite, RuleProof, RulePartySuspended, RuleShareType, RuleUnknownSigner,
		RuleEntrySignature, RuleRequestSignature, RuleApprovalForged, RuleApprovalMissing:
		return codes.PermissionDenied
	case RuleTooLarge:
		return codes.ResourceExhausted
	}
	return codes.InvalidArgument
}

// FromStatus turns what came over the wire into a RuleError, an error that
// wraps ErrUnreachable, or the context's own error.
func FromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("catalog: %w", err)
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			r := &RuleError{Rule: info.GetReason(), Text: "the platform answers: " + clipTo(st.Message(), maxLong), Security: info.GetMetadata()[securityLabel] == "true"}
			if !namePattern.MatchString(r.Rule) {
				r.Rule = RuleMalformed
			}
			return r
		}
	}
	if ctx.Err() == context.Canceled { // the caller left
		return context.Cause(ctx)
	}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return fmt.Errorf("%w: %s", ErrUnreachable, clipTo(st.Message(), maxLong))
	case codes.ResourceExhausted:
		return Refuse(RuleTooLarge, "%s", clipTo(st.Message(), maxLong))
	}
	return fmt.Errorf("catalog: the platform answers: %s: %s", st.Code(), clipTo(st.Message(), maxLong))
}
