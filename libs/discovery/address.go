package discovery

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Lookup is how an address is turned into the addresses of peers: what stands before its first "+".
type Lookup string

// The lookups there are.
const (
	// LookupNone is an address that is used as it is.
	LookupNone Lookup = ""
	// LookupHost asks for the IP addresses of a host; the port is part of the address.
	LookupHost Lookup = "dns"
	// LookupSRV asks for SRV records, then for the IP addresses of their targets.
	LookupSRV Lookup = "dnssrv"
	// LookupSRVNoA asks for SRV records and keeps the names of their targets.
	LookupSRVNoA Lookup = "dnssrvnoa"
	// LookupDualStack asks for a host's IPv4 and IPv6 addresses and takes both.
	LookupDualStack Lookup = "dnsdualstack"
)

// query is a parsed address.
type query struct {
	lookup Lookup
	// scheme is what stands before the host up to and with "://"; it goes before each result.
	scheme string
	host   string
	// port is empty if there is none, which only SRV lookups allow.
	port string
	// path is what follows the port from "/" on; it goes after each result.
	path string
}

// IsDynamic tells whether addr has to be looked up in DNS.
func IsDynamic(addr string) bool { return strings.Contains(addr, "+") }

// ValidateAddress returns an error if addr cannot be resolved whatever DNS says: it is empty, its lookup is
// unknown, or its port is missing where one is needed.
func ValidateAddress(addr string) error {
	_, err := parseAddress(addr)
	return err
}

// WithDefaultPort returns addr with the port added if it is a host lookup ("dns+…" or "dnsdualstack+…") without one.
func WithDefaultPort(addr string, port int) string {
	lookup, rest, ok := strings.Cut(addr, "+")
	if !ok || Lookup(lookup) != LookupHost && Lookup(lookup) != LookupDualStack {
		return addr
	}
	scheme, authority, path := splitURL(rest)
	if _, _, err := net.SplitHostPort(authority); err == nil {
		return addr
	}
	authority = net.JoinHostPort(strings.Trim(authority, "[]"), strconv.Itoa(port))
	return lookup + "+" + scheme + authority + path
}

func parseAddress(addr string) (query, error) {
	if addr == "" {
		return query{}, fmt.Errorf("address is empty")
	}
	lookup, rest, dynamic := strings.Cut(addr, "+")
	if !dynamic {
		return query{host: addr}, nil
	}
	q := query{lookup: Lookup(lookup)}
	switch q.lookup {
	case LookupHost, LookupSRV, LookupSRVNoA, LookupDualStack:
	default:
		return query{}, fmt.Errorf("address %q: unknown lookup %q, want dns, dnssrv, dnssrvnoa or dnsdualstack", addr, lookup)
	}
	var authority string
	q.scheme, authority, q.path = splitURL(rest)
	q.host = authority
	if host, port, err := net.SplitHostPort(authority); err == nil {
		q.host, q.port = host, port
	}
	if q.host == "" {
		return query{}, fmt.Errorf("address %q: no host", addr)
	}
	if q.port == "" && (q.lookup == LookupHost || q.lookup == LookupDualStack) {
		return query{}, fmt.Errorf("address %q: missing port", addr)
	}
	return q, nil
}

// splitURL cuts an address into "scheme://", host with port, and "/path"; the first and last may be empty.
func splitURL(s string) (scheme, authority, path string) {
	if i := strings.Index(s, "://"); i >= 0 {
		scheme, s = s[:i+3], s[i+3:]
	}
	if i := strings.IndexByte(s, '/'); i >= 0 {
		s, path = s[:i], s[i:]
	}
	return scheme, s, path
}

// address puts a result in the place of the name that was asked for.
func (q query) address(host, port string) string {
	return q.scheme + net.JoinHostPort(host, port) + q.path
}
