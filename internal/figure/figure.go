// Package figure writes tables of statistics as files that people and programs
// read: JSON, Parquet, and charts as SVG.
package figure

import _ "github.com/apache/arrow-go/v18/parquet/pqarrow"
