package psi_test

import (
	"testing"

	"go.uber.org/goleak"
)

// However a run ends, no goroutine of it is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
