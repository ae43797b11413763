// Package archtest holds the module to its architecture: who may import whom,
// which third-party libraries stay behind one package, no vague package names
// and no file too long to read. It has tests only.
package archtest
