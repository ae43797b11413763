// Package psi joins the private-set-intersection protocols, one in each
// package below it, into the list that a node registers.
//
//	psi.ecdh.v1          package ecdh          the rows that two parties have in common: small sets, slow links
//	psi.rr22.v1          package rr22          the same, fast for large sets
//	psi.rr22m.v1         package rr22          the same, against parties that deviate from the protocol
//	psi.oprf.v1          package oprf          the same, of a small set and a very large one
//	psi.multi.v1         package multi         the rows that three or more parties all have
//	psi.cardinality.v1   package cardinality   how many rows are common, and not which
//
// Package align is the job around the first three: keys, duplicates, joins,
// partitions and what a later attempt takes up.
package psi

import (
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/cardinality"
	"github.com/yinqiao/yinqiao/psi/ecdh"
	"github.com/yinqiao/yinqiao/psi/multi"
	"github.com/yinqiao/yinqiao/psi/oprf"
	"github.com/yinqiao/yinqiao/psi/rr22"
)

// Jobs returns the job kinds of this family.
func Jobs() []job.Definition {
	return []job.Definition{
		ecdh.Definition(), rr22.Definition(), rr22.MaliciousDefinition(), oprf.Definition(), multi.Definition(), cardinality.Definition(),
	}
}
