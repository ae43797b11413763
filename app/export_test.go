package app

// FreePorts is for the tests of the command line.
var FreePorts = freePorts
