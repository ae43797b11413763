// Package psi joins the private-set-intersection protocols, one in each
// package below it, into the list that a node registers.
//
//	psi.ecdh.v1          package ecdh          both parties learn the aligned intersection
//	psi.rr22.v1          package rr22          the same, or the receiver alone: fast for large sets
//	psi.cardinality.v1   package cardinality   how many rows are common, and not which
package psi

import (
	"github.com/yinqiao/yinqiao/job"
	"github.com/yinqiao/yinqiao/psi/cardinality"
	"github.com/yinqiao/yinqiao/psi/ecdh"
	"github.com/yinqiao/yinqiao/psi/rr22"
)

// Jobs returns the job kinds of this family.
func Jobs() []job.Definition {
	return []job.Definition{ecdh.Definition(), rr22.Definition(), cardinality.Definition()}
}
