package peer

import (
	"testing"

	"github.com/yinqiao/yinqiao/session"
)

// BenchmarkStream moves chunks one way over TLS on the loopback interface.
func BenchmarkStream(b *testing.B) {
	nodes := network(b, []string{"a", "b"}, nil)
	_, _, ca, cb := pair(b, b.Context(), nodes, "a", "b")
	greet(b, b.Context(), ca, cb)
	p := make([]byte, session.ChunkSize)
	b.SetBytes(session.ChunkSize)
	errs := make(chan error, 1)
	b.ResetTimer()
	go func() {
		for range b.N {
			if err := ca.Send(b.Context(), p); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	for range b.N {
		if _, err := cb.Recv(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-errs; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRound is a message of 32 bytes and its answer.
func BenchmarkRound(b *testing.B) {
	nodes := network(b, []string{"a", "b"}, nil)
	_, _, ca, cb := pair(b, b.Context(), nodes, "a", "b")
	greet(b, b.Context(), ca, cb)
	p := make([]byte, 32)
	errs := make(chan error, 1)
	b.ResetTimer()
	go func() {
		for range b.N {
			m, err := cb.Recv(b.Context())
			if err == nil {
				err = cb.Send(b.Context(), m)
			}
			if err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	for range b.N {
		if err := ca.Send(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		if _, err := ca.Recv(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-errs; err != nil {
		b.Fatal(err)
	}
}
