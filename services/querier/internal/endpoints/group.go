package endpoints

import (
	"fmt"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
)

// groupScheme is how a group is dialled: thanos:///<address, DNS prefix included>.
const groupScheme = "thanos"

// groupServiceConfig balances calls over the addresses of a group and tries another one where a call could not
// be made.
const groupServiceConfig = `{
	"loadBalancingPolicy": "round_robin",
	"methodConfig": [{
		"name": [{"service": ""}],
		"retryPolicy": {
			"maxAttempts": 3,
			"initialBackoff": "0.1s",
			"backoffMultiplier": 2,
			"maxBackoff": "1s",
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}]
}`

// Groups resolves the addresses of endpoint groups for gRPC. It is safe for concurrent use.
type Groups struct {
	lookup func(name string) []string

	mu    sync.Mutex // guards users
	users map[*groupResolver]struct{}
}

var _ resolver.Builder = (*Groups)(nil)

// NewGroups returns a resolver by lookup, which gives the addresses presently known for a name and does no I/O.
func NewGroups(lookup func(name string) []string) *Groups {
	return &Groups{lookup: lookup, users: map[*groupResolver]struct{}{}}
}

// DialTarget returns what to dial for a group.
func DialTarget(t Target) string { return groupScheme + ":///" + t.Addr }

// DialOptions returns what a connection to a group needs beside the options of any connection.
func (g *Groups) DialOptions(t Target) []grpc.DialOption {
	cfg := t.ServiceConfig
	if cfg == "" {
		cfg = groupServiceConfig
	}
	return []grpc.DialOption{
		grpc.WithResolvers(g),
		grpc.WithDisableServiceConfig(), // of DNS, where anybody could have put one
		grpc.WithDefaultServiceConfig(cfg),
	}
}

// Refresh gives all connections the addresses known now. It is due when lookups have brought something new.
func (g *Groups) Refresh() {
	g.mu.Lock()
	users := make([]*groupResolver, 0, len(g.users))
	for u := range g.users {
		users = append(users, u)
	}
	g.mu.Unlock()
	for _, u := range users {
		u.update()
	}
}

// Scheme implements resolver.Builder.
func (g *Groups) Scheme() string { return groupScheme }

// Build implements resolver.Builder.
func (g *Groups) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	r := &groupResolver{groups: g, name: target.Endpoint(), cc: cc}
	g.mu.Lock()
	g.users[r] = struct{}{}
	g.mu.Unlock()
	r.update()
	return r, nil
}

type groupResolver struct {
	groups *Groups
	name   string
	cc     resolver.ClientConn

	mu    sync.Mutex // guards addrs, and keeps updates in order
	addrs []string
}

func (r *groupResolver) update() {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := r.groups.lookup(r.name)
	if len(addrs) == 0 {
		r.cc.ReportError(fmt.Errorf("no address is known for the endpoint group %s", r.name))
		return
	}
	if slices.Equal(addrs, r.addrs) {
		return
	}
	r.addrs = slices.Clone(addrs)
	state := resolver.State{}
	for _, a := range addrs {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			host = a
		}
		state.Addresses = append(state.Addresses, resolver.Address{Addr: a, ServerName: host})
	}
	// An error means that the balancer asks again later, which Refresh does anyway.
	_ = r.cc.UpdateState(state)
}

// ResolveNow implements resolver.Resolver. Lookups have a rhythm of their own.
func (r *groupResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (r *groupResolver) Close() {
	r.groups.mu.Lock()
	defer r.groups.mu.Unlock()
	delete(r.groups.users, r)
}
