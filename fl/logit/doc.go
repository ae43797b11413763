// Package logit trains one logistic regression on columns that two parties
// hold about the same people: fl.logit.v1. The label holder has the label and
// its columns, the feature holder has others; each ends with the weights of
// its own columns, and no third party takes part.
//
//	label holder                                feature holder
//	Run      ── psi.ecdh on the fork "align" ──  Run
//	design, whiten                              design, whiten
//	   ◀────────── shapes, public keys ─────────▶
//	 per iteration
//	   ◀────────── scores, both ways ───────────▶   z  mod 2^36
//	   ─────────── encrypted sines ─────────────▶   sigmoid by a sine series
//	   ◀────────── masked residuals ─────────────   r  mod 2^104
//	   ◀────────── gradients, both ways ────────▶   u ← u + β(u-u') - g
//	   ◀────────── one bit: short step? ────────▶
//	 at the end
//	   ◀────────── shares of the other's weights ▶
//	   ◀────────── one bit: within the period? ─▶
//	   ◀────────── held-out partial scores ──────   only if granted
//	   ◀────────── counts ──────────────────────▶
//
// Weights, scores, residuals and gradients exist only as additive shares. A
// product of one party's columns with the other's share is computed under
// homomorphic encryption (mpc/he): the share's owner encrypts, the columns'
// owner multiplies and masks. The scheme follows CAESAR (Chen et al., "When
// Homomorphic Encryption Marries Secret Sharing", KDD 2021) and departs from
// it in the sigmoid, the truncation and the ring; docs/protocols/fl-logit.md
// lists the departures, the costs and what each party learns.
//
// Security model: two semi-honest parties, 128 bits computational (ring-LWE,
// and Diffie-Hellman for the alignment), 40 bits statistical.
//
// Work on shares, masks and keys has no branches on them. Sines of shares come
// from package math, and a party's own columns are handled in variable time:
// an observer of a party's own machine is out of scope.
package logit
