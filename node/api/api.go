// Package api is how people reach their own node: a gRPC server over TLS for
// operators, the client of it, and a plain-HTTP listener for health and
// metrics.
//
// # Who may call
//
// Every call carries the token of a named person. A person has exactly one of
// three roles, so that nobody both runs, approves and audits (三员分立):
//
//	operate   registers entries, files requests, runs jobs, fetches results
//	approve   decides on other parties' requests for this node's data
//	audit     reads the tamper-evident log
//
// Reading state that all three need is open to any of them. What each method
// asks for stands in one table, and a method that is missing there is refused.
//
// A token is 32 random bytes. The node keeps its SHA-256 alone, in a file of
// its own ([Persons]); removing a person takes effect on the next call, and on
// the next message of a stream that is open. The client pins the node's public key, so that a
// token is never sent to anyone else. There is no way in without a token, also
// on loopback.
//
// # Security model
//
// Tokens cannot be guessed (256 bits), so that failed attempts only cost: from
// one address they are answered and logged at a limited rate, while a right
// token is never delayed by someone else's wrong ones. The comparison of
// hashes takes the same time for every person. Errors that are not the
// caller's reach the caller as their class and an ID under which the node's
// own log has the rest.
package api

import (
	"context"
	"fmt"
	"strings"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// Role is what a person may do.
type Role string

// The three roles. Any, in the table of methods alone, stands for each of
// them.
const (
	Operate Role = "operate"
	Approve Role = "approve"
	Audit   Role = "audit"
	Any     Role = "any"
)

// ParseRole reads the role of a person.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Operate, Approve, Audit:
		return r, nil
	}
	return "", fmt.Errorf("api: unknown role %.32q: want %s, %s or %s", s, Operate, Approve, Audit)
}

// needs says which role each method of the Operator service asks for.
var needs = map[string]Role{
	"Info":          Any,
	"Doctor":        Any,
	"RegisterEntry": Operate,
	"ListEntries":   Any,
	"CreateRequest": Operate,
	"SubmitRequest": Operate,
	"ListRequests":  Any,
	"DecideRequest": Approve,
	"ListKinds":     Any,
	"SubmitJob":     Operate,
	"ResumeJob":     Operate,
	"WatchJob":      Any,
	"ListJobs":      Any,
	"CancelJob":     Operate,
	"GetResult":     Operate,
	"ListAudit":     Audit,
}

// need returns the role that a full method name asks for.
func need(fullMethod string) (Role, bool) {
	name, ok := strings.CutPrefix(fullMethod, "/"+nodev1.Operator_ServiceDesc.ServiceName+"/")
	if !ok {
		return "", false
	}
	r, ok := needs[name]
	return r, ok
}

// Identity is an authenticated person.
type Identity struct {
	Name string
	Role Role
}

type identityKey struct{}

// WithIdentity returns a context in the name of id. The server does this for
// every call; calls from within the process do it themselves.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// Caller returns who calls; false outside a call.
func Caller(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// Person returns the caller's name, for records; "" outside a call.
func Person(ctx context.Context) string {
	id, _ := Caller(ctx)
	return id.Name
}

// Backend is the node behind the API, one method for each of the service's.
// The context carries the caller; see [Person]. send is called by one
// goroutine at a time, and not after the method has returned.
//
// Errors that may reach the caller say so with Code() string, a stable class:
// refused, invalid, not_found, exists, state, exhausted, unreachable, timeout
// or cancelled. Rule, Who and Hint, each a method of that name that returns a
// string, add to it. Any other error reaches the caller as "internal".
type Backend interface {
	Info(context.Context, *nodev1.InfoRequest) (*nodev1.InfoReply, error)
	Doctor(context.Context, *nodev1.DoctorRequest) (*nodev1.DoctorReply, error)
	RegisterEntry(context.Context, *nodev1.RegisterEntryRequest) (*nodev1.RegisterEntryReply, error)
	ListEntries(context.Context, *nodev1.ListEntriesRequest) (*nodev1.ListEntriesReply, error)
	CreateRequest(context.Context, *nodev1.CreateRequestRequest) (*nodev1.CreateRequestReply, error)
	SubmitRequest(context.Context, *nodev1.SubmitRequestRequest) (*nodev1.SubmitRequestReply, error)
	ListRequests(context.Context, *nodev1.ListRequestsRequest) (*nodev1.ListRequestsReply, error)
	DecideRequest(context.Context, *nodev1.DecideRequestRequest) (*nodev1.DecideRequestReply, error)
	ListKinds(context.Context, *nodev1.ListKindsRequest) (*nodev1.ListKindsReply, error)
	SubmitJob(context.Context, *nodev1.SubmitJobRequest) (*nodev1.SubmitJobReply, error)
	ResumeJob(context.Context, *nodev1.ResumeJobRequest) (*nodev1.ResumeJobReply, error)
	WatchJob(ctx context.Context, req *nodev1.WatchJobRequest, send func(*nodev1.JobView) error) error
	ListJobs(context.Context, *nodev1.ListJobsRequest) (*nodev1.ListJobsReply, error)
	CancelJob(context.Context, *nodev1.CancelJobRequest) (*nodev1.CancelJobReply, error)
	GetResult(ctx context.Context, req *nodev1.GetResultRequest, send func(*nodev1.GetResultReply) error) error
	ListAudit(context.Context, *nodev1.ListAuditRequest) (*nodev1.ListAuditReply, error)
}
