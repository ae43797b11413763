// Package mpc is the root of the multi-party building blocks: additive shares
// (mpc/share) and homomorphic encryption (mpc/he).
package mpc

import "github.com/yinqiao/yinqiao/job"

// Jobs returns the job kinds of this family. The building blocks run inside
// other families' jobs and add none of their own.
func Jobs() []job.Definition { return nil }
