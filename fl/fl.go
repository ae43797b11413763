// Package fl joins the job kinds of federated learning.
package fl

import (
	"github.com/yinqiao/yinqiao/fl/logit"
	"github.com/yinqiao/yinqiao/job"
)

// Jobs returns the definitions of this family.
func Jobs() []job.Definition {
	return []job.Definition{logit.Definition()}
}
