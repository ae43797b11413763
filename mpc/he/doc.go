// Package he multiplies one party's encrypted numbers by another party's plain
// ones, and is built for exactly that: a key holder encrypts, a peer multiplies
// by its own data, adds, masks and answers, the key holder decrypts its share.
//
//	key holder                                   evaluator
//	GenerateKeys ──────── PublicKey ───────────▶
//	Encrypt ───────────── Request ─────────────▶ Expand
//	                                             EncodePlain, Accumulator.MulAdd …
//	Decrypt ◀──────────── Response ───────────── Respond
//
// # Scheme
//
// Ring-LWE over Z_Q[X]/(X^8192 + 1) with a ternary secret and an exact
// plaintext modulus t, a power of two or a prime: a ciphertext (c0, c1) has
// c0 + c1·s = t⁻¹·m + e mod Q. One level of multiplication by plaintext, no
// key switching, no rotations. The ring is Lattigo's; keys, requests and
// responses travel in this package's own frames, and Lattigo's decoders are
// never called (they cannot be trusted with a peer's bytes).
//
// # Security model
//
// Semi-honest, two parties. The evaluator sees requests, which are
// pseudorandom under ring-LWE. The key holder sees, per response, the opened
// coefficients of the product plus the evaluator's mask, and nothing else: the
// second half of a response would otherwise be c1·x, which the key holder can
// divide by c1, so [Scheme.Respond] adds a fresh encryption of zero to both
// halves; and the noise would otherwise depend on x, so every opened
// coefficient gets uniform noise ("flooding") that is at least 2^40 times
// larger than all of it over a whole run. Responses carry the opened
// coefficients of c0 only.
//
// Keys are for one run. A malicious evaluator can put any function of degree
// one in its response, and a key holder that tells whether decryption failed
// is an oracle: neither is covered.
//
// # Time
//
// Error polynomials, messages, shares, decryption and sign handling are free
// of branches and look-ups on secrets. Rejection in ternary sampling depends
// on discarded randomness only. Conversions of a party's own plain data
// (EncodePlain) are not claimed to be constant-time, and no claim covers Go's
// compiler or big.Int, which is used at set-up only.
//
// docs/protocols/he.md has the parameters, the estimates and their sources.
package he
