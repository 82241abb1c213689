package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound tells that DNS has no such name, or no records of the kind asked for. It is an answer, not a failure.
var ErrNotFound = errors.New("name not found")

// Resolver asks DNS. Names that do not exist or have no such records give [ErrNotFound]; any other error means that
// nothing is known. Implementations are safe for concurrent use.
type Resolver interface {
	// LookupIP returns addresses of host. With dual it returns both families, and errors of one
	// family along with the addresses of the other; without it, one family may stand for both.
	LookupIP(ctx context.Context, host string, dual bool) ([]netip.Addr, error)
	// LookupSRV returns the SRV records of name.
	LookupSRV(ctx context.Context, name string) ([]SRV, error)
}

// SRV is what an SRV record says of one target, priorities left aside.
type SRV struct {
	// Target is a name, with or without a trailing dot.
	Target string
	Port   uint16
}

// ResolverType is the name of an implementation of [Resolver], as flags know it.
type ResolverType string

// The resolvers there are.
const (
	// ResolverGo is Go's own, with all the rules of the system it runs on.
	ResolverGo ResolverType = "golang"
	// ResolverMiekg asks the servers of /etc/resolv.conf itself, and so also finds records beyond the
	// size of a UDP packet and sees exactly what the servers say.
	ResolverMiekg ResolverType = "miekgdns"
)

// NewResolver returns the resolver of that name.
func NewResolver(t ResolverType) (Resolver, error) {
	switch t {
	case ResolverGo, "":
		return NewGoResolver(net.DefaultResolver), nil
	case ResolverMiekg:
		return NewMiekgResolver(""), nil
	default:
		return nil, fmt.Errorf("unknown DNS resolver %q, want %s or %s", t, ResolverGo, ResolverMiekg)
	}
}

// GoResolver asks through Go's resolver.
type GoResolver struct{ r *net.Resolver }

// NewGoResolver returns a resolver over r.
func NewGoResolver(r *net.Resolver) *GoResolver { return &GoResolver{r: r} }

// LookupIP implements [Resolver].
func (g *GoResolver) LookupIP(ctx context.Context, host string, _ bool) ([]netip.Addr, error) {
	addrs, err := g.r.LookupNetIP(ctx, "ip", host)
	return addrs, goError(err)
}

// LookupSRV implements [Resolver].
func (g *GoResolver) LookupSRV(ctx context.Context, name string) ([]SRV, error) {
	_, records, err := g.r.LookupSRV(ctx, "", "", name)
	if err != nil {
		return nil, goError(err)
	}
	out := make([]SRV, len(records))
	for i, r := range records {
		out[i] = SRV{Target: r.Target, Port: r.Port}
	}
	return out, nil
}

func goError(err error) error {
	var dnsErr *net.DNSError
	if errors.As(err, &dnsErr) && dnsErr.IsNotFound {
		return ErrNotFound
	}
	return err
}

// resolve turns a parsed address into addresses of peers, sorted and without duplicates.
//
// The result may come with an error: then it is what could be found out, and others may be missing from it.
// "Not found" is no error and gives no addresses.
func resolve(ctx context.Context, r Resolver, q query) ([]string, error) {
	var (
		out []string
		err error
	)
	switch q.lookup {
	case LookupNone:
		return []string{q.host}, nil
	case LookupHost, LookupDualStack:
		out, err = resolveHost(ctx, r, q, q.host, q.port, q.lookup == LookupDualStack)
	case LookupSRV, LookupSRVNoA:
		out, err = resolveSRV(ctx, r, q)
	default:
		return nil, fmt.Errorf("unknown lookup %q", q.lookup)
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

func resolveHost(ctx context.Context, r Resolver, q query, host, port string, dual bool) ([]string, error) {
	ips, err := r.LookupIP(ctx, host, dual)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("look up addresses of %q: %w", host, err)
	}
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = q.address(ip.Unmap().String(), port)
	}
	return out, err
}

func resolveSRV(ctx context.Context, r Resolver, q query) ([]string, error) {
	records, err := r.LookupSRV(ctx, q.host)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up SRV records of %q: %w", q.host, err)
	}
	var (
		out  []string
		errs []error
	)
	for _, rec := range records {
		// A target of "." says that the service is not offered (RFC 2782).
		target := strings.TrimSuffix(rec.Target, ".")
		if target == "" {
			continue
		}
		port := q.port
		if port == "" {
			port = strconv.Itoa(int(rec.Port))
		}
		if q.lookup == LookupSRVNoA {
			out = append(out, q.address(target, port))
			continue
		}
		// One target that cannot be resolved must not hide the others.
		found, err := resolveHost(ctx, r, q, target, port, false)
		out = append(out, found...)
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}
