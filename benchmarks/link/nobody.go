package link

import (
	"context"

	peerv1 "github.com/yinqiao/yinqiao/proto/yinqiao/peer/v1"

	"github.com/yinqiao/yinqiao/node/peer"
)

// nobody answers what a benchmark's parties call each other for.
type nobody struct{}

var _ peer.Handler = nobody{}

func (nobody) Hello(context.Context, string, *peerv1.HelloRequest) (*peerv1.HelloReply, error) {
	return &peerv1.HelloReply{}, nil
}

func (nobody) Propose(context.Context, string, *peerv1.ProposeRequest) (*peerv1.ProposeReply, error) {
	return nil, peer.Refuse("benchmark")
}

func (nobody) Weigh(context.Context, string, *peerv1.WeighRequest) (*peerv1.WeighReply, error) {
	return nil, peer.Refuse("benchmark")
}

func (nobody) Start(context.Context, string, *peerv1.StartRequest) (*peerv1.StartReply, error) {
	return nil, peer.Refuse("benchmark")
}

func (nobody) Abort(context.Context, string, *peerv1.AbortRequest) (*peerv1.AbortReply, error) {
	return nil, peer.Refuse("benchmark")
}

func (nobody) Finish(context.Context, string, *peerv1.FinishRequest) (*peerv1.FinishReply, error) {
	return nil, peer.Refuse("benchmark")
}

func (nobody) CoSign(context.Context, string, *peerv1.CoSignRequest) (*peerv1.CoSignReply, error) {
	return nil, peer.Refuse("benchmark")
}

func (nobody) Records(context.Context, string, *peerv1.RecordsRequest) (*peerv1.RecordsReply, error) {
	return nil, peer.Refuse("benchmark")
}
func (nobody) SecurityEvent(context.Context, string, string, string) {}
