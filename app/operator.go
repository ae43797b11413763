package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/yinqiao/yinqiao/node"
	"github.com/yinqiao/yinqiao/node/api"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// The first persons of a node, one a role.
var firstPersons = map[api.Role]string{api.Operate: "operator", api.Approve: "approver", api.Audit: "auditor"}

// asFlag adds --as and --home to a verb that speaks to a running node.
func (c *cli) operatorFlags(cmd *cobra.Command) {
	homeFlag(cmd, &c.home, "node")
	cmd.PersistentFlags().StringVar(&c.as, "as", "", "the person who asks (default: the first person with the role that the verb needs)")
}

// operator connects to the node of --home as a person with role.
func (c *cli) operator(ctx context.Context, role api.Role) (nodev1.OperatorClient, func(), error) {
	return dialNode(ctx, node.Home{Dir: c.home}, role, c.as, os.Getenv("YINQIAO_TOKEN"))
}

// dialNode connects with a token, or with that of a person whose token lies in
// the home.
func dialNode(ctx context.Context, home node.Home, role api.Role, as, token string) (nodev1.OperatorClient, func(), error) {
	public, err := home.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	cfg, err := home.Config()
	if err != nil {
		return nil, nil, err
	}
	if as == "" {
		as = firstPersons[role]
	}
	if token == "" {
		b, err := os.ReadFile(home.TokenFile(as))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("no token of %s in %s: name another person with --as, or put the token in YINQIAO_TOKEN", as, home.Dir)
		}
		if err != nil {
			return nil, nil, err
		}
		token = strings.TrimSpace(string(b))
	}
	client, closer, err := api.Dial(ctx, cfg.API, public, token)
	if err != nil {
		return nil, nil, err
	}
	return client, func() { _ = closer() }, nil
}

// call runs f against the node of --home.
func (c *cli) call(cmd *cobra.Command, role api.Role, f func(ctx context.Context, op nodev1.OperatorClient) error) error {
	op, done, err := c.operator(cmd.Context(), role)
	if err != nil {
		return err
	}
	defer done()
	return f(cmd.Context(), op)
}
