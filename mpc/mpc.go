// Package mpc is the root of the multi-party building blocks:
//
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

import "github.com/yinqiao/yinqiao/job"

// Jobs returns the job kinds of this family. The building blocks run inside
// other families' jobs and add none of their own.
func Jobs() []job.Definition { return nil }
