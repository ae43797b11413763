// Package noise draws the noise of differentially private releases.
package noise

import _ "github.com/google/differential-privacy/go/v3/noise"
