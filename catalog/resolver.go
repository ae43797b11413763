package catalog

import "context"

// Resolver answers what a node needs to know of the platform, with verified
// values. [Client] implements it against the reference platform; an existing
// provincial platform can stand there behind another implementation that
// verifies with the functions of this package.
//
// A refusal is a RuleError. An error that wraps ErrUnreachable says that the
// platform could not be asked. Resolvers are safe for concurrent use.
type Resolver interface {
	// Roster returns the current roster, at most a few seconds old.
	Roster(ctx context.Context) (*Roster, error)
	// Grant returns a grant after asking the platform afresh.
	Grant(ctx context.Context, id string) (*Grant, error)
	// Status asks afresh whether a grant that is in use may go on being used:
	// nil, or why not. An entry that got a newer version meanwhile does not end
	// what began on the older one; a revoked or withdrawn one does.
	Status(ctx context.Context, grantID string) error
	// Entry returns one version of an entry, current or not; version 0 means
	// the newest.
	Entry(ctx context.Context, code string, version int64) (*Entry, error)
}

var _ Resolver = (*Client)(nil)
