// Package pin keeps modules in go.mod while the packages that use them are
// being written. It goes away before the first release.
package pin

import (
	_ "github.com/apache/arrow-go/v18/arrow/array"
	_ "github.com/cloudflare/circl/dh/x25519"
	_ "github.com/dgraph-io/badger/v4"
	_ "github.com/goccy/go-yaml"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/transparency-dev/formats/log"
	_ "github.com/transparency-dev/merkle/proof"
	_ "github.com/transparency-dev/merkle/rfc6962"
	_ "github.com/transparency-dev/tessera"
	_ "github.com/transparency-dev/tessera/client"
	_ "github.com/transparency-dev/tessera/storage/posix"
	_ "github.com/tuneinsight/lattigo/v5/ring"
	_ "github.com/tuneinsight/lattigo/v5/utils/sampling"
	_ "github.com/vbauerster/mpb/v8"
	_ "go.uber.org/goleak"
	_ "golang.org/x/mod/sumdb/note"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
	_ "golang.org/x/text/unicode/norm"
	_ "golang.org/x/text/width"
	_ "gonum.org/v1/gonum/mat"
	_ "google.golang.org/grpc/benchmark/latency"
	_ "google.golang.org/grpc/test/bufconn"
	_ "pgregory.net/rapid"
)
