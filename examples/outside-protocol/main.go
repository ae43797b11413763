// Command outside-protocol is Yinqiao with one more job kind, which is written
// outside Yinqiao's module and registers itself here. It has every verb of
// yinqiao; a node that runs from this binary takes part in the new kind like
// in the built-in ones.
package main

import (
	"github.com/yinqiao/yinqiao/app"

	"example.com/outside-protocol/securesum"
)

func main() { app.Main(securesum.Job()) }
