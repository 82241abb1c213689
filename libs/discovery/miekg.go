package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// ednsBytes is the size of answers we take by UDP: what passes networks unfragmented.
	ednsBytes = 1232
	// maxAliases bounds how many CNAMEs are followed by asking again.
	maxAliases = 8
)

// MiekgResolver asks the servers of a resolv.conf itself. The file is read for each lookup, so that it may change.
type MiekgResolver struct {
	path string
	// port, if set, is used in place of 53.
	port string
	udp  *dns.Client
	tcp  *dns.Client
}

// NewMiekgResolver returns a resolver after the resolv.conf at path; empty means the system's.
func NewMiekgResolver(path string) *MiekgResolver {
	if path == "" {
		path = "/etc/resolv.conf"
	}
	return &MiekgResolver{path: path, udp: &dns.Client{Net: "udp", UDPSize: ednsBytes}, tcp: &dns.Client{Net: "tcp"}}
}

// LookupIP implements [Resolver]. Without dual, IPv6 addresses are asked for only if there are no IPv4 ones.
func (m *MiekgResolver) LookupIP(ctx context.Context, host string, dual bool) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	conf, err := m.config()
	if err != nil {
		return nil, err
	}
	v4, err4 := m.lookupIP(ctx, conf, host, dns.TypeA)
	if !dual && (len(v4) > 0 || ctx.Err() != nil) {
		return v4, err4
	}
	v6, err6 := m.lookupIP(ctx, conf, host, dns.TypeAAAA)
	ips := append(v4, v6...)
	if !dual && len(v6) > 0 {
		// IPv6 alone is a whole answer here; that IPv4 could not be asked takes nothing away from it.
		return ips, nil
	}
	err = joinFailures(err4, err6)
	if err == nil && len(ips) == 0 {
		err = ErrNotFound
	}
	return ips, err
}

// joinFailures joins errors that are not ErrNotFound.
func joinFailures(errs ...error) error {
	var out []error
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrNotFound) {
			out = append(out, err)
		}
	}
	return errors.Join(out...)
}

func (m *MiekgResolver) lookupIP(ctx context.Context, conf *dns.ClientConfig, host string, qtype uint16) ([]netip.Addr, error) {
	for range maxAliases {
		records, err := m.search(ctx, conf, host, qtype)
		if err != nil {
			return nil, err
		}
		var (
			ips   []netip.Addr
			alias string
		)
		for _, rr := range records {
			switch rr := rr.(type) {
			case *dns.A:
				if ip, ok := netip.AddrFromSlice(rr.A); ok {
					ips = append(ips, ip.Unmap())
				}
			case *dns.AAAA:
				if ip, ok := netip.AddrFromSlice(rr.AAAA); ok {
					ips = append(ips, ip)
				}
			case *dns.CNAME:
				alias = rr.Target
			}
		}
		if len(ips) > 0 {
			return ips, nil
		}
		if alias == "" {
			return nil, ErrNotFound
		}
		// A server that does not recurse names the alias only; its last one is the next question.
		host = alias
	}
	return nil, fmt.Errorf("more than %d aliases in a row", maxAliases)
}

// LookupSRV implements [Resolver].
func (m *MiekgResolver) LookupSRV(ctx context.Context, name string) ([]SRV, error) {
	conf, err := m.config()
	if err != nil {
		return nil, err
	}
	for range maxAliases {
		records, err := m.search(ctx, conf, name, dns.TypeSRV)
		if err != nil {
			return nil, err
		}
		var (
			out   []SRV
			alias string
		)
		for _, rr := range records {
			switch rr := rr.(type) {
			case *dns.SRV:
				out = append(out, SRV{Target: rr.Target, Port: rr.Port})
			case *dns.CNAME:
				alias = rr.Target
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		if alias == "" {
			return nil, ErrNotFound
		}
		name = alias
	}
	return nil, fmt.Errorf("more than %d aliases in a row", maxAliases)
}

func (m *MiekgResolver) config() (*dns.ClientConfig, error) {
	conf, err := dns.ClientConfigFromFile(m.path)
	if err != nil {
		return nil, fmt.Errorf("read DNS settings: %w", err)
	}
	if m.port != "" {
		conf.Port = m.port
	}
	if len(conf.Servers) == 0 {
		return nil, fmt.Errorf("no DNS server in %s", m.path)
	}
	return conf, nil
}

// search tries name with each suffix of the search list, in the order resolv.conf asks for. The first that has records wins.
// If none has, the error of one that could not be asked wins over "not found": it might have had them.
func (m *MiekgResolver) search(ctx context.Context, conf *dns.ClientConfig, name string, qtype uint16) ([]dns.RR, error) {
	var failed error
	for _, full := range conf.NameList(name) {
		records, err := m.ask(ctx, conf, full, qtype)
		switch {
		case err == nil:
			return records, nil
		case ctx.Err() != nil:
			return nil, err
		case !errors.Is(err, ErrNotFound) && failed == nil:
			failed = err
		}
	}
	if failed != nil {
		return nil, failed
	}
	return nil, ErrNotFound
}

// ask sends one question to the servers in turn until one answers it.
func (m *MiekgResolver) ask(ctx context.Context, conf *dns.ClientConfig, name string, qtype uint16) ([]dns.RR, error) {
	msg := new(dns.Msg).SetQuestion(name, qtype)
	msg.SetEdns0(ednsBytes, false)
	timeout := time.Duration(max(conf.Timeout, 1)) * time.Second

	var errs []error
	for range max(conf.Attempts, 1) {
		errs = errs[:0]
		for _, server := range conf.Servers {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			addr := net.JoinHostPort(server, conf.Port)
			answer, err := m.exchange(ctx, timeout, msg, addr)
			if err != nil {
				errs = append(errs, fmt.Errorf("server %s: %w", addr, err))
				continue
			}
			switch {
			case answer.Rcode == dns.RcodeSuccess && len(answer.Answer) > 0:
				return answer.Answer, nil
			case answer.Rcode == dns.RcodeSuccess, answer.Rcode == dns.RcodeNameError:
				return nil, ErrNotFound
			default:
				errs = append(errs, fmt.Errorf("server %s answered %s", addr, dns.RcodeToString[answer.Rcode]))
			}
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("%s %s: %w", dns.TypeToString[qtype], strings.TrimSuffix(name, "."), errors.Join(errs...))
}

func (m *MiekgResolver) exchange(ctx context.Context, timeout time.Duration, msg *dns.Msg, addr string) (*dns.Msg, error) {
	try := func(c *dns.Client) (*dns.Msg, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		answer, _, err := c.ExchangeContext(ctx, msg, addr)
		return answer, err
	}
	answer, err := try(m.udp)
	if err != nil {
		return nil, err
	}
	if answer.Rcode == dns.RcodeFormatError {
		// Some servers do not know EDNS0: ask again without it.
		plain := msg.Copy()
		plain.Extra = nil
		msg = plain
		if answer, err = try(m.udp); err != nil {
			return nil, err
		}
	}
	if answer.Truncated {
		return try(m.tcp)
	}
	return answer, nil
}
