package api

import (
	"context"

	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// service hands the calls of the generated server to the backend. Who calls
// has been decided before, and errors are mapped after, by the interceptors.
type service struct {
	nodev1.UnsafeOperatorServer
	b Backend
}

func (s service) Info(ctx context.Context, r *nodev1.InfoRequest) (*nodev1.InfoReply, error) {
	return s.b.Info(ctx, r)
}

func (s service) Doctor(ctx context.Context, r *nodev1.DoctorRequest) (*nodev1.DoctorReply, error) {
	return s.b.Doctor(ctx, r)
}

func (s service) RegisterEntry(ctx context.Context, r *nodev1.RegisterEntryRequest) (*nodev1.RegisterEntryReply, error) {
	return s.b.RegisterEntry(ctx, r)
}

func (s service) ListEntries(ctx context.Context, r *nodev1.ListEntriesRequest) (*nodev1.ListEntriesReply, error) {
	return s.b.ListEntries(ctx, r)
}

func (s service) CreateRequest(ctx context.Context, r *nodev1.CreateRequestRequest) (*nodev1.CreateRequestReply, error) {
	return s.b.CreateRequest(ctx, r)
}

func (s service) SubmitRequest(ctx context.Context, r *nodev1.SubmitRequestRequest) (*nodev1.SubmitRequestReply, error) {
	return s.b.SubmitRequest(ctx, r)
}

func (s service) ListRequests(ctx context.Context, r *nodev1.ListRequestsRequest) (*nodev1.ListRequestsReply, error) {
	return s.b.ListRequests(ctx, r)
}

func (s service) DecideRequest(ctx context.Context, r *nodev1.DecideRequestRequest) (*nodev1.DecideRequestReply, error) {
	return s.b.DecideRequest(ctx, r)
}

func (s service) ListKinds(ctx context.Context, r *nodev1.ListKindsRequest) (*nodev1.ListKindsReply, error) {
	return s.b.ListKinds(ctx, r)
}

func (s service) SubmitJob(ctx context.Context, r *nodev1.SubmitJobRequest) (*nodev1.SubmitJobReply, error) {
	return s.b.SubmitJob(ctx, r)
}

func (s service) ResumeJob(ctx context.Context, r *nodev1.ResumeJobRequest) (*nodev1.ResumeJobReply, error) {
	return s.b.ResumeJob(ctx, r)
}

func (s service) WatchJob(r *nodev1.WatchJobRequest, stream nodev1.Operator_WatchJobServer) error {
	return s.b.WatchJob(stream.Context(), r, stream.Send)
}

func (s service) ListJobs(ctx context.Context, r *nodev1.ListJobsRequest) (*nodev1.ListJobsReply, error) {
	return s.b.ListJobs(ctx, r)
}

func (s service) CancelJob(ctx context.Context, r *nodev1.CancelJobRequest) (*nodev1.CancelJobReply, error) {
	return s.b.CancelJob(ctx, r)
}

func (s service) GetResult(r *nodev1.GetResultRequest, stream nodev1.Operator_GetResultServer) error {
	return s.b.GetResult(stream.Context(), r, stream.Send)
}

func (s service) ListAudit(ctx context.Context, r *nodev1.ListAuditRequest) (*nodev1.ListAuditReply, error) {
	return s.b.ListAudit(ctx, r)
}
