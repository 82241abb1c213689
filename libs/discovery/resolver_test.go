package discovery

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

func goDialer(port string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
}

// impatientConn never waits beyond its time.
type impatientConn struct {
	*net.UDPConn
	until time.Time
}

func (c *impatientConn) SetDeadline(time.Time) error { return c.UDPConn.SetDeadline(c.until) }

// lookup resolves one configured address.
func lookup(t testing.TB, r Resolver, addr string) ([]string, error) {
	t.Helper()
	q, err := parseAddress(addr)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return resolve(ctx, r, q)
}

func TestBothResolversFindWhatEachPrefixAsksFor(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "v4.test.", "A 10.0.0.2", "A 10.0.0.1", "A 10.0.0.2")
	s.set(t, "v6.test.", "AAAA fd00::1")
	s.set(t, "both.test.", "A 10.0.0.1", "AAAA fd00::1")
	s.set(t, "alias.test.", "CNAME v4.test.")
	s.set(t, "_grpc._tcp.store.test.", "SRV 0 0 10901 v4.test.", "SRV 0 0 10902 v6.test.")
	s.set(t, "none._tcp.test.", "SRV 0 0 0 .")
	s.set(t, "empty.test.", "TXT nothing")
	s.set(t, "many.test.", manyAddresses(300)...)
	for name, r := range s.resolvers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for addr, want := range map[string][]string{
				"10.9.9.9:1":                                  {"10.9.9.9:1"},
				"dns+v4.test:10901":                           {"10.0.0.1:10901", "10.0.0.2:10901"},
				"dns+v6.test:10901":                           {"[fd00::1]:10901"},
				"dns+10.0.0.9:1":                              {"10.0.0.9:1"},
				"dns+[fd00::9]:1":                             {"[fd00::9]:1"},
				"dns+http://v4.test:9090/prefix":              {"http://10.0.0.1:9090/prefix", "http://10.0.0.2:9090/prefix"},
				"dnsdualstack+both.test:1":                    {"10.0.0.1:1", "[fd00::1]:1"},
				"dnsdualstack+v4.test:1":                      {"10.0.0.1:1", "10.0.0.2:1"},
				"dnssrv+_grpc._tcp.store.test":                {"10.0.0.1:10901", "10.0.0.2:10901", "[fd00::1]:10902"},
				"dnssrv+_grpc._tcp.store.test:7":              {"10.0.0.1:7", "10.0.0.2:7", "[fd00::1]:7"},
				"dnssrvnoa+_grpc._tcp.store.test":             {"v4.test:10901", "v6.test:10902"},
				"dnssrvnoa+https://_grpc._tcp.store.test:7/x": {"https://v4.test:7/x", "https://v6.test:7/x"},
				"dnssrv+none._tcp.test":                       {},
				"dns+missing.test:1":                          {},
				"dnsdualstack+missing.test:1":                 {},
				"dnssrv+missing.test":                         {},
				"dns+empty.test:1":                            {},
			} {
				got, err := lookup(t, r, addr)
				require.NoError(t, err, addr)
				require.ElementsMatch(t, want, got, addr)
			}
			got, err := lookup(t, r, "dns+many.test:1")
			require.NoError(t, err)
			require.Len(t, got, 300, "a truncated answer is asked for again by TCP")
		})
	}
}

func TestFailuresAreNotTakenForEmptyAnswers(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	for _, name := range []string{"broken.test.", "refused.test."} {
		rcode := map[string]int{"broken.test.": dns.RcodeServerFailure, "refused.test.": dns.RcodeRefused}[name]
		for _, typ := range []string{"A", "AAAA", "SRV"} {
			s.fail(name+" "+typ, rcode)
		}
	}
	for name, r := range s.resolvers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, addr := range []string{"dns+broken.test:1", "dnsdualstack+broken.test:1", "dnssrv+broken.test", "dnssrvnoa+broken.test", "dns+refused.test:1"} {
				got, err := lookup(t, r, addr)
				require.Error(t, err, addr)
				require.Empty(t, got, addr)
			}
		})
	}
	_, err := lookup(t, s.miekg(t), "dns+broken.test:1")
	require.ErrorContains(t, err, `look up addresses of "broken.test"`)
	require.ErrorContains(t, err, "answered SERVFAIL")
}

func TestAServerThatDoesNotAnswerIsAFailure(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.silence("silent.test.")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// Go's resolver lets a lookup that nobody waits for any more run into its own timeout, which must not outlive the test.
	dial := goDialer(s.port)
	golang := NewGoResolver(&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if udp, ok := conn.(*net.UDPConn); ok {
			return &impatientConn{UDPConn: udp, until: time.Now().Add(250 * time.Millisecond)}, nil
		}
		return conn, err
	}})
	for name, r := range map[string]Resolver{"miekgdns": s.miekg(t), "golang": golang} {
		_, err := resolve(ctx, r, query{lookup: LookupHost, host: "silent.test", port: "1"})
		require.Error(t, err, name)
		require.NotErrorIs(t, err, ErrNotFound, name)
	}
	require.Contains(t, s.questions(), "silent.test. A")
}

func TestOneBrokenTargetOfAnSRVRecordDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.1")
	s.set(t, "srv.test.", "SRV 0 0 1 a.test.", "SRV 0 0 2 b.test.")
	s.fail("b.test. A", dns.RcodeServerFailure)
	s.fail("b.test. AAAA", dns.RcodeServerFailure)
	for name, r := range s.resolvers(t) {
		got, err := lookup(t, r, "dnssrv+srv.test")
		require.ErrorContains(t, err, `"b.test"`, name)
		require.Equal(t, []string{"10.0.0.1:1"}, got, name)
	}
}

func TestOneBrokenFamilyDoesNotHideTheOther(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.1")
	s.fail("a.test. AAAA", dns.RcodeServerFailure)
	s.set(t, "b.test.", "AAAA fd00::1")
	s.fail("b.test. A", dns.RcodeServerFailure)
	r := s.miekg(t)
	got, err := lookup(t, r, "dnsdualstack+a.test:1")
	require.Error(t, err)
	require.Equal(t, []string{"10.0.0.1:1"}, got)
	got, err = lookup(t, r, "dns+a.test:1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:1"}, got)
	got, err = lookup(t, r, "dns+b.test:1")
	require.NoError(t, err)
	require.Equal(t, []string{"[fd00::1]:1"}, got)
}

func TestTheSearchListOfResolvConfIsTried(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "store.monitoring.svc.", "A 10.0.0.1")
	s.set(t, "a.b.c.", "A 10.0.0.2")
	r := s.miekg(t, "search default.svc monitoring.svc")
	got, err := lookup(t, r, "dns+store:1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:1"}, got)
	got, err = lookup(t, r, "dns+a.b.c:1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.2:1"}, got)

	// A suffix that could not be asked might have had the name: that is no "not found".
	s.fail("gone.default.svc. A", dns.RcodeServerFailure)
	_, err = lookup(t, r, "dns+gone:1")
	require.ErrorContains(t, err, "gone.default.svc")
}

func TestTheNextServerIsAskedWhenOneFails(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.1")
	path := filepath.Join(t.TempDir(), "resolv.conf")
	// Nobody listens on the first one.
	require.NoError(t, os.WriteFile(path, []byte("nameserver 127.0.0.2\nnameserver 127.0.0.1\noptions attempts:1 timeout:1\n"), 0o600))
	r := NewMiekgResolver(path)
	r.port = s.port
	got, err := lookup(t, r, "dns+a.test:1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:1"}, got)
}

func TestServersWithoutEDNSAreAskedPlainly(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.noEDNS = true
	s.set(t, "a.test.", "A 10.0.0.1")
	s.set(t, "many.test.", manyAddresses(300)...)
	got, err := lookup(t, s.miekg(t), "dns+a.test:1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:1"}, got)
	got, err = lookup(t, s.miekg(t), "dns+many.test:1")
	require.NoError(t, err)
	require.Len(t, got, 300)
}

func TestAliasesThatGoInCirclesAreAFailure(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "CNAME b.test.")
	s.set(t, "b.test.", "CNAME a.test.")
	_, err := lookup(t, s.miekg(t), "dns+a.test:1")
	require.ErrorContains(t, err, "aliases in a row")
	s.set(t, "c.test.", "CNAME d.test.")
	s.set(t, "d.test.", "A 10.0.0.1")
	got, err := lookup(t, s.miekg(t), "dns+c.test:1")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:1"}, got)
}

func TestAResolverWithoutSettingsSaysSo(t *testing.T) {
	t.Parallel()
	_, err := NewMiekgResolver("/does/not/exist").LookupSRV(t.Context(), "a")
	require.ErrorContains(t, err, "read DNS settings: open /does/not/exist")
	_, err = NewResolver("bind")
	require.EqualError(t, err, `unknown DNS resolver "bind", want golang or miekgdns`)
	for _, typ := range []ResolverType{"", ResolverGo, ResolverMiekg} {
		r, err := NewResolver(typ)
		require.NoError(t, err)
		require.NotNil(t, r)
	}
	require.NotErrorIs(t, goError(errors.New("x")), ErrNotFound)
}

func TestAddressesAreChecked(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"a:1", "a", "unix:///x", "dns+a:1", "dnssrv+a", "dnssrvnoa+a:1", "dnsdualstack+a:1", "dns+http://a:1/x"} {
		require.NoError(t, ValidateAddress(ok), ok)
	}
	for in, want := range map[string]string{
		"":               `address is empty`,
		"dns+a":          `address "dns+a": missing port`,
		"dns+http://a/x": `address "dns+http://a/x": missing port`,
		"dnsdualstack+a": `address "dnsdualstack+a": missing port`,
		"dns+:1":         `address "dns+:1": no host`,
		"dnssrv+":        `address "dnssrv+": no host`,
		"srv+a:1":        `address "srv+a:1": unknown lookup "srv", want dns, dnssrv, dnssrvnoa or dnsdualstack`,
		"+a":             `address "+a": unknown lookup "", want dns, dnssrv, dnssrvnoa or dnsdualstack`,
	} {
		require.EqualError(t, ValidateAddress(in), want)
	}
}

func TestHostLookupsGetADefaultPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"dns+am":             "dns+am:9093",
		"dns+am:1":           "dns+am:1",
		"dns+http://am/x":    "dns+http://am:9093/x",
		"dns+fd00::1":        "dns+[fd00::1]:9093",
		"dns+[fd00::1]":      "dns+[fd00::1]:9093",
		"dnsdualstack+am":    "dnsdualstack+am:9093",
		"dnssrv+_web._tcp.x": "dnssrv+_web._tcp.x",
		"am":                 "am",
	} {
		require.Equal(t, want, WithDefaultPort(in, 9093))
	}
}
