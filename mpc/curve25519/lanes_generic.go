//go:build !amd64 || purego

package curve25519

import (
	"io"

	fp "github.com/cloudflare/circl/math/fp25519"
)

// Without vector code, circl's does all the work.

const hasIFMA = false

func mulLanes(_, _ []Point, _ *[Size]byte) int { return 0 }

func legendreLanes(_ []fp.Elt) int { return 0 }

func checkLanes(points []Point, rand io.Reader) (bool, error) { return checkGeneric(points, rand) }
