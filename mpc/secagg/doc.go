// Package secagg adds up vectors that their owners show to nobody: each is sent
// under masks that cancel in the sum, and the masks of a party that is lost on
// the way are taken out by the others together. It is the protocol of Bonawitz
// et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning
// (CCS 2017, https://eprint.iacr.org/2017/281), with double masking, between
// parties that have a channel for each pair:
//
//	contributor u                                     aggregators
//
//	  key pair, seed; shares of both      ────▶  all   announce keys and digests
//	  whose deals I hold                  ────▶        coordinator: roster
//	  x_u + own mask ± masks of pairs     ────▶        masked vectors
//	                                      ◀────        coordinator: survivors
//	  echo of roster, survivors, keys     ◀───▶        (contributors among themselves)
//	  shares: seeds of survivors,         ────▶        sum − masks = Σ x_u
//	          keys of the others
//
// Parties follow the protocol as far as the sum's correctness goes. That nobody
// but the aggregators learns anything, and these only sums over all survivors,
// holds against coordinators and contributors who do not, as long as fewer than
// the threshold collude. docs/protocols/secagg.md has the conditions, what each
// party learns, and the messages.
//
// A vector costs its owner four bytes a narrow value and the key streams of as
// many masks as there are contributors; nothing else grows with it. An
// aggregator holds all masked vectors at once: 4, 8 or 12 bytes a value and
// contributor.
//
// Masking, sharing and key derivation take the same time whatever the secrets
// are, as far as crypto/aes and crypto/ecdh do on the machine.
package secagg
