package app

import (
	"github.com/yinqiao/yinqiao/node/dataset"
	"github.com/yinqiao/yinqiao/psi/oprf"
)

// What a node opens has the fingerprint that the server of psi.oprf.v1 looks for:
// without it every run reads the whole table first.
var _ oprf.Fingerprinter = (*dataset.Digested)(nil)
