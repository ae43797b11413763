package logit

import (
	"testing"

	"go.uber.org/goleak"
)

// Every goroutine has an owner that waits for it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
