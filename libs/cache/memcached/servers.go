package memcached

import (
	"net"
	"slices"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/cespare/xxhash/v2"
	"github.com/facette/natsort"

	"github.com/promontory-io/promontory/libs/cache/remote"
)

// ring is the servers in natural order of their addresses. It never changes.
type ring []*server

// server is one memcached with its connections.
type server struct {
	addr    string
	client  *memcache.Client
	breaker *remote.Breaker
}

// of returns the server of a key. Whoever shares the servers must choose alike, or both miss what the other stored.
func (r ring) of(key string) *server {
	if len(r) == 1 {
		return r[0]
	}
	return r[jumpHash(xxhash.Sum64String(key), len(r))]
}

// next returns the ring of the addresses, with the servers that are in r already, and those that are left over.
func (r ring) next(addrs []string, newServer func(addr string) *server) (next, gone ring) {
	addrs = slices.Clone(addrs)
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	natsort.Sort(addrs)
	known := make(map[string]*server, len(r))
	for _, s := range r {
		known[s.addr] = s
	}
	for _, addr := range addrs {
		s := known[addr]
		if s == nil {
			s = newServer(addr)
		}
		delete(known, addr)
		next = append(next, s)
	}
	for _, s := range r {
		if known[s.addr] != nil {
			gone = append(gone, s)
		}
	}
	return next, gone
}

// jumpHash spreads keys over n buckets so that few move when n changes.
//
// Algorithm: Lamping and Veach, A Fast, Minimal Memory, Consistent Hash Algorithm (2014).
func jumpHash(key uint64, n int) int {
	bucket, next := int64(-1), int64(0)
	for next < int64(n) {
		bucket = next
		key = key*2862933555777941757 + 1
		next = int64(float64(bucket+1) * (float64(int64(1)<<31) / float64((key>>33)+1)))
	}
	return int(bucket)
}

// address is where a server listens; names are resolved when a connection is made.
type address string

func (a address) Network() string {
	if strings.Contains(string(a), "/") {
		return "unix"
	}
	return "tcp"
}

func (a address) String() string { return string(a) }

// only is the selector of a client for one server.
type only struct{ addr net.Addr }

func (o only) PickServer(string) (net.Addr, error) { return o.addr, nil }
func (o only) Each(f func(net.Addr) error) error   { return f(o.addr) }

func newServer(addr string, cfg Config) *server {
	client := memcache.NewFromSelector(only{addr: address(addr)})
	client.Timeout = time.Duration(cfg.Timeout)
	client.MaxIdleConns = cfg.MaxIdleConnections
	return &server{addr: addr, client: client, breaker: remote.NewBreaker(remote.ReadBreakerConfig())}
}
