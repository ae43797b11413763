// Command yinqiao is a privacy-computing node, the platform it answers to, and
// the verbs of the people who run them. See `yinqiao help`.
package main

import "github.com/yinqiao/yinqiao/app"

func main() { app.Main() }
