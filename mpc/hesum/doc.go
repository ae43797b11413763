// Package hesum adds the vectors of several parties and opens nothing but the
// sum, to the parties that are to have it: threshold BGV (mpc/he/tbgv) made
// interactive.
//
//	e, err := hesum.New(ctx, fork, hesum.Params{Contributors: banks, Threshold: 3, …})
//	counts, err := e.Sum(ctx, "counts", shape, mine, gates)
//	measures, err := e.Sum(ctx, "measures", shape, mine, recipients)
//
// All contributors make a collective key that is for this run alone; each
// encrypts its vector under it and sends it to all; all add the ciphertexts up
// for themselves, make sure that they mean the same sum, and send the
// recipients their share of its decryption, once.
//
//	contributor                                   contributors, recipients
//	key part, pieces      ◀──────────────────▶    key parts, pieces
//	ciphertexts           ───────────────────▶    ciphertexts
//	what has come         ◀──────────────────▶    (t of n only: whose data count)
//	digest                ◀──────────────────▶    digests agree
//	share of the sum      ───────────────────▶    the recipients alone: open
//
// # Security model
//
// Parties follow the protocol, computationally bounded; Threshold of the
// contributors together can decrypt everything, fewer learn nothing but the
// sums that they are given. Beyond that: nobody can choose its part of the key
// after seeing another's, no party decrypts anything that it has not added up
// itself, parties that were sent different things find out before a share is
// sent, and no ciphertext gets a second share. What a party that departs from the
// protocol can still do stands in docs/protocols/hesum.md.
//
// # Time
//
// Arithmetic on secrets is mpc/he/tbgv's, which says what is free of branches
// on them. This package copies vectors and looks at public values alone.
package hesum
