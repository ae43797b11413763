// Package tbgv adds up encrypted vectors of integers, exactly: every
// contributor encrypts under a key that nobody holds alone, anybody adds the
// ciphertexts, and so many contributors as were agreed open the sum.
//
// This package is the local steps only. What travels, to whom and in which
// order is its caller's concern (mpc/hesum):
//
//	every contributor i                            what the others get
//	GenerateKey(crs)      secret, key part         key part, to all
//	Deal, Collect         t of n only              piece j, to j alone
//	CombineKeys           the public key
//	Encrypt               ciphertext               ciphertext, to all
//	Sum                   the same for everybody
//	OpenShare             once per sum             share, to those who may see the sum
//	Open                  the sum, in the clear
//
// # Scheme
//
// BGV-style encryption from ring-LWE over Z_Q[X]/(X^N + 1): a ciphertext
// (c0, c1) has c0 + c1·s = t⁻¹·m + e mod Q. Value i stands at X^i and t is 2^32,
// 2^64 or 2^96, so that a sum is the sum modulo t and signed numbers in two's
// complement need no care. Nothing is ever multiplied. The secret is
// s = Σ s_i; with a threshold every s_i is shared by Shamir's scheme over every
// prime, at the points 1 … n.
//
// A threshold opening masks each share with zero-shares: pseudorandom
// polynomials that cancel over the active parties. Without them a party that
// is no longer active, but has its pieces, can take shares apart (see
// docs/protocols/tbgv.md); the seeds travel with the pieces.
//
// # Security model
//
// Semi-honest, at most t-1 of the n contributors corrupted, together with any
// recipients. They learn the sums that were opened. t contributors together can
// decrypt everything, each single contributor's ciphertext included.
//
// The caller must see to it that the key parts are committed to before any is
// shown (the last one could otherwise choose the key), that every party computes
// the sum for itself from what the contributors sent, and that a share of a sum
// is emitted once even across crashes ([Ledger]). In one process, [KeyShare]
// refuses a second share by itself, and OpenShare refuses anything but a sum.
//
// # Noise
//
// A share carries uniform noise on every coefficient, at least 2^40 times
// larger, over all openings together, than all the noise it hides, but for a
// probability that docs/protocols/tbgv.md states. [New] refuses parameters for
// which it does not fit.
//
// # Time
//
// Nothing branches on a secret or indexes memory by one, with the reservations
// of package ringq. That holds for secrets, messages, errors, shares and sums.
package tbgv
