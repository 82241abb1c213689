package discovery

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAllKeysOfTheEndpointListAreRead(t *testing.T) {
	t.Parallel()
	c, err := ParseEndpoints("e.yml", []byte(`
default_client_config:
  tls_config: {enabled: true, insecure_skip_verify: true, cert_file: c, key_file: k, ca_file: a, min_version: "1.2"}
  server_name: name
  compression: snappy
endpoints:
- address: a:1
  strict: true
- address: dns+b:2
- address: dnssrv+c
  group: true
  service_config: '{"loadBalancingConfig": [{"round_robin": {}}]}'
- address: d:4
  client_config:
    compression: none
`))
	require.NoError(t, err)
	def := ClientConfig{
		TLS:        ClientTLS{Enabled: true, InsecureSkipVerify: true, CertFile: "c", KeyFile: "k", CAFile: "a", MinVersion: "1.2"},
		ServerName: "name", Compression: "snappy",
	}
	own := ClientConfig{Compression: "none"}
	require.Equal(t, &EndpointsConfig{DefaultClient: def, Endpoints: []Endpoint{
		{Address: "a:1", Strict: true},
		{Address: "dns+b:2"},
		{Address: "dnssrv+c", Group: true, ServiceConfig: `{"loadBalancingConfig": [{"round_robin": {}}]}`},
		{Address: "d:4", Client: &own},
	}}, c)
	require.Equal(t, def, c.ClientFor(c.Endpoints[1]))
	require.Equal(t, own, c.ClientFor(c.Endpoints[3]))

	c, err = ParseEndpoints("e.yml", nil)
	require.NoError(t, err)
	require.Empty(t, c.Endpoints)
}

func TestWrongEndpointListsAreNamedWithTheLine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key":           {"endpoints:\n- adress: a:1\n", `e.yml:2: unknown key "adress"`},
		"unknown key in TLS":    {"default_client_config:\n  tls_config:\n    enbled: true\n", `e.yml:3: unknown key "enbled"`},
		"strict with DNS":       {"endpoints:\n- address: a:1\n- address: dns+b:1\n  strict: true\n", `e.yml:3: endpoint 1 (dns+b:1): strict is for static addresses: what DNS finds may change at any time`},
		"no address":            {"endpoints:\n- strict: true\n", `e.yml:2: endpoint 0 (): address is empty`},
		"no port":               {"endpoints: [{address: dns+b}]", `e.yml:1: endpoint 0 (dns+b): address "dns+b": missing port`},
		"unknown lookup":        {"endpoints: [{address: srv+b}]", `e.yml:1: endpoint 0 (srv+b): address "srv+b": unknown lookup "srv", want dns, dnssrv, dnssrvnoa or dnsdualstack`},
		"service without group": {"endpoints:\n- {address: a:1, service_config: '{}'}\n", `e.yml:2: endpoint 0 (a:1): service_config is for groups only`},
		"service not JSON":      {"endpoints:\n- {address: a:1, group: true, service_config: '{'}\n", `e.yml:2: endpoint 0 (a:1): service_config is not JSON`},
		"compression":           {"default_client_config: {compression: zstd}", `e.yml: default_client_config: unknown compression "zstd", want none or snappy`},
		"own compression":       {"endpoints:\n- {address: a:1, client_config: {compression: zstd}}", `e.yml:2: endpoint 0 (a:1): client_config: unknown compression "zstd", want none or snappy`},
		"TLS version":           {"default_client_config: {tls_config: {min_version: '2'}}", `e.yml: default_client_config: tls_config: unknown min_version "2", want 1.0, 1.1, 1.2 or 1.3`},
		"certificate, no key":   {"default_client_config: {tls_config: {cert_file: c}}", `e.yml: default_client_config: tls_config: cert_file and key_file must be given together`},
		"two wrong":             {"endpoints:\n- address: ''\n- address: dns+b\n", "e.yml:2: endpoint 0 (): address is empty\ne.yml:3: endpoint 1 (dns+b): address \"dns+b\": missing port"},
		"list of texts":         {"endpoints:\n- a:1\n", `e.yml:2: "a:1" is not a map of keys`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseEndpoints("e.yml", []byte(tc.in))
			require.EqualError(t, err, tc.want)
		})
	}
	require.NoError(t, Endpoint{Address: "dns+a:1", Strict: true, Group: true}.Validate(), "a group is one endpoint whatever DNS finds")
}

func TestAReloadThatFailsKeepsTheLastGoodList(t *testing.T) {
	t.Parallel()
	content, failure := "endpoints: [{address: a:1}]", error(nil)
	load := func() ([]byte, error) { return []byte(content), failure }
	s, err := NewEndpointSource("e.yml", load, nil)
	require.NoError(t, err)
	require.Equal(t, "a:1", s.Config().Endpoints[0].Address)
	require.NoError(t, s.Reload())
	require.Empty(t, s.Changed())

	content = "endpoints: [{adress: b:1}]"
	require.ErrorContains(t, s.Reload(), `unknown key "adress"`)
	require.ErrorContains(t, s.Err(), `unknown key "adress"`)
	failure = errors.New("disk gone")
	require.EqualError(t, s.Reload(), "read e.yml: disk gone")
	require.Equal(t, "a:1", s.Config().Endpoints[0].Address)

	content, failure = "endpoints: [{address: b:1}]", nil
	require.NoError(t, s.Reload())
	require.NoError(t, s.Err())
	require.Equal(t, "b:1", s.Config().Endpoints[0].Address)
	await(t, s.Changed())

	_, err = NewEndpointSource("e.yml", func() ([]byte, error) { return []byte("x: 1"), nil }, nil)
	require.EqualError(t, err, `e.yml:1: unknown key "x"`)
}

func TestTheListIsReloadedAtIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		s, err := NewEndpointSource("e.yml", func() ([]byte, error) {
			loads.Add(1)
			return nil, nil
		}, nil)
		require.NoError(t, err)
		ctx := t.Context()
		go func() { _ = s.Run(ctx, time.Minute) }()
		time.Sleep(5*time.Minute + time.Second) // in the bubble's time
		synctest.Wait()
		require.Equal(t, int32(6), loads.Load())
	})
}

func FuzzParseEndpoints(f *testing.F) {
	for _, s := range []string{
		"endpoints: [{address: a:1, strict: true, group: true, service_config: '{}', client_config: {compression: snappy}}]",
		"default_client_config: &x {tls_config: {enabled: true}}\nendpoints: [{address: dns+a:1, client_config: *x}]", "endpoints: &e [*e]", "- a", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseEndpoints("e.yml", b)
		if err != nil {
			require.ErrorContains(t, err, "e.yml:")
			return
		}
		for _, e := range c.Endpoints {
			require.NoError(t, e.Validate())
		}
	})
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"a:1", "dns+a:1", "dnssrv+http://a/x", "dns+[::1]:1", "dnsdualstack+://:", "+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := parseAddress(s)
		if err != nil {
			return
		}
		require.NotEmpty(t, q.host)
		require.Equal(t, WithDefaultPort(s, 9093), WithDefaultPort(WithDefaultPort(s, 9093), 1))
	})
}
