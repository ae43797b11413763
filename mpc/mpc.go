// Package mpc is the root of the multi-party building blocks and of the kinds
// that are made of them alone:
//
//	mpc.aggregate.v1   package aggregate   joint statistics, added under a key held in parts
//	mpc.secagg.v1      package aggregate   the same, added under masks that cancel
//
// The blocks:
//
//	stats        the form of statistics, counting, and what follows from sums
//	hesum        sums of several parties' vectors by threshold encryption
//	secagg       the same by pairwise masking
//	share        additive shares in a ring of 2^k
//	he           ring-LWE encryption with additive homomorphism
//	curve25519   X-only Curve25519: hashing to the curve, many ladders at once
//	gf128        the field GF(2^128)
//	aeshash      fixed-key AES: correlation-robust hashing, tree expansion
//	ot           oblivious transfer and its extension
//	vole         silent vector oblivious linear evaluation
//	okvs         oblivious key-value stores
//	oprf         a batched oblivious pseudorandom function from the two before
//	parallel     loops over all processors
package mpc

import (
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/mpc/aggregate"
)

// Jobs returns the job kinds of this family.
func Jobs() []job.Definition {
	return []job.Definition{aggregate.Definition(), aggregate.MaskedDefinition()}
}
