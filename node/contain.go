package node

import (
	"fmt"
	"log/slog"

	"github.com/yinqiao/yinqiao/session/errgroup"
)

// contain calls f, which runs code of a job kind or reads a dataset, and turns a
// panic into a failure: a fault in one job never ends the node. The log says
// where, and not what with: a value may be anybody's.
func (n *Node) contain(f func() error, attrs ...any) (err error) {
	defer func() {
		if p := errgroup.Recovered(recover()); p != nil {
			n.log.With(attrs...).Error("a job panicked", slog.String("panic", fmt.Sprintf("%T", p.Value)), slog.String("where", p.Where))
			err = fail("internal", "the protocol failed unexpectedly; the node's log holds the event")
		}
	}()
	return f()
}
