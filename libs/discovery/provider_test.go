package discovery

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func inUse(p *Provider) []string {
	out := []string{}
	for _, a := range p.Addresses() {
		out = append(out, a.Addr)
	}
	return out
}

func TestAddressesKeepTheirOrderAndOrigin(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.2", "A 10.0.0.1")
	p := NewProvider(Options{Resolver: s.miekg(t)})
	require.Empty(t, p.Addresses())
	require.NoError(t, p.Resolve(t.Context(), []string{"z:1", "dns+a.test:2", "z:1", "b:1"}))
	require.Equal(t, []Address{
		{Addr: "z:1", From: "z:1"},
		{Addr: "10.0.0.1:2", From: "dns+a.test:2", Dynamic: true},
		{Addr: "10.0.0.2:2", From: "dns+a.test:2", Dynamic: true},
		{Addr: "b:1", From: "b:1"},
	}, p.Addresses())
	require.Empty(t, p.Missing())
}

func TestAFailedLookupKeepsTheLastGoodAnswerAndSaysSo(t *testing.T) {
	t.Parallel()
	s, c := newDNSServer(t), newClock()
	core, logs := observer.New(zap.InfoLevel)
	p := NewProvider(Options{Resolver: s.miekg(t), Now: c.Now, Logger: zap.New(core)})
	names := []string{"dns+a.test:1", "s:1"}
	s.set(t, "a.test.", "A 10.0.0.1")
	good := c.Now()
	require.NoError(t, p.Resolve(t.Context(), names))

	s.fail("a.test. A", dns.RcodeServerFailure)
	failed := c.advance(30 * time.Second)
	for range 3 {
		require.ErrorContains(t, p.Resolve(t.Context(), names), "dns+a.test:1: look up addresses")
		c.advance(30 * time.Second)
	}
	require.Equal(t, []Address{{Addr: "10.0.0.1:1", From: "dns+a.test:1", Dynamic: true, StaleSince: failed}, {Addr: "s:1", From: "s:1"}}, p.Addresses())
	state := p.Names()[0]
	require.Equal(t, failed, state.FailingSince)
	require.Equal(t, good, state.LastSuccess)
	require.ErrorContains(t, state.Err, "SERVFAIL")
	require.Empty(t, p.Missing(), "what is still in use is not missing")

	s.fail("a.test. A", 0)
	require.NoError(t, p.Resolve(t.Context(), names))
	state = p.Names()[0]
	require.NoError(t, state.Err)
	require.Zero(t, state.FailingSince)
	require.Zero(t, p.Addresses()[0].StaleSince)
	require.Equal(t, []string{"lookup failed, keeping the last good answer", "lookup works again"}, messages(logs), "each change is logged once")
}

func messages(logs *observer.ObservedLogs) []string {
	var out []string
	for _, e := range logs.All() {
		out = append(out, e.Message)
	}
	return out
}

func TestANameThatVanishedIsMissingForAsLongAsItIsConfigured(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"not found", "no records"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s, c := newDNSServer(t), newClock()
			core, logs := observer.New(zap.InfoLevel)
			p := NewProvider(Options{Resolver: s.miekg(t), Now: c.Now, ForgetAfter: time.Hour, Logger: zap.New(core)})
			names := []string{"dns+a.test:1"}
			s.set(t, "a.test.", "A 10.0.0.1", "A 10.0.0.2")
			require.NoError(t, p.Resolve(t.Context(), names))

			if how == "not found" {
				s.remove("a.test.")
			} else {
				s.set(t, "a.test.")
			}
			gone := c.advance(time.Minute)
			require.NoError(t, p.Resolve(t.Context(), names), "not found is an answer")
			c.advance(5 * time.Hour)
			require.NoError(t, p.Resolve(t.Context(), names))
			require.Empty(t, p.Addresses())
			const why = "the name has no addresses any more"
			require.Equal(t, []Missing{
				{Addr: "10.0.0.1:1", From: names[0], Since: gone, Reason: why},
				{Addr: "10.0.0.2:1", From: names[0], Since: gone, Reason: why},
			}, p.Missing())
			require.Equal(t, gone, p.Names()[0].EmptySince)

			s.set(t, "a.test.", "A 10.0.0.2")
			require.NoError(t, p.Resolve(t.Context(), names))
			require.Empty(t, p.Missing(), "it is back, and the other one was last seen long ago")
			require.Zero(t, p.Names()[0].EmptySince)
			require.Equal(t, []string{"name has no addresses any more", "name has addresses again"}, messages(logs))

			require.NoError(t, p.Resolve(t.Context(), nil))
			require.Empty(t, p.Names())
			require.Empty(t, p.Missing())
		})
	}
}

func TestOneAddressOfSeveralIsMissingForAWhile(t *testing.T) {
	t.Parallel()
	s, c := newDNSServer(t), newClock()
	p := NewProvider(Options{Resolver: s.miekg(t), Now: c.Now, ForgetAfter: time.Hour})
	names := []string{"dns+a.test:1"}
	s.set(t, "a.test.", "A 10.0.0.1", "A 10.0.0.2")
	require.NoError(t, p.Resolve(t.Context(), names))
	s.set(t, "a.test.", "A 10.0.0.1", "A 10.0.0.3")
	gone := c.advance(time.Minute)
	require.NoError(t, p.Resolve(t.Context(), names))
	require.Equal(t, []string{"10.0.0.1:1", "10.0.0.3:1"}, inUse(p))
	require.Equal(t, []Missing{{Addr: "10.0.0.2:1", From: names[0], Since: gone, Reason: "no longer in the answer"}}, p.Missing())

	c.advance(59 * time.Minute)
	require.NoError(t, p.Resolve(t.Context(), names))
	require.Len(t, p.Missing(), 1)
	c.advance(time.Minute)
	require.NoError(t, p.Resolve(t.Context(), names))
	require.Empty(t, p.Missing())
}

func TestANameThatNeverHadAnAddressIsMissingToo(t *testing.T) {
	t.Parallel()
	s, c := newDNSServer(t), newClock()
	core, logs := observer.New(zap.InfoLevel)
	p := NewProvider(Options{Resolver: s.miekg(t), Now: c.Now, Logger: zap.New(core)})
	s.fail("broken.test. A", dns.RcodeServerFailure)
	first := c.Now()
	require.Error(t, p.Resolve(t.Context(), []string{"dns+never.test:1", "dns+broken.test:1", "dns+noport"}))
	c.advance(time.Minute)
	require.Error(t, p.Resolve(t.Context(), []string{"dns+never.test:1", "dns+broken.test:1", "dns+noport"}))
	require.Equal(t, 1, logs.FilterMessage("name has no addresses").Len(), "it is told once")
	missing := p.Missing()
	require.Len(t, missing, 3)
	require.Equal(t, Missing{From: "dns+never.test:1", Since: first, Reason: "the name has no addresses"}, missing[0])
	require.Contains(t, missing[1].Reason, "SERVFAIL")
	require.Equal(t, `address "dns+noport": missing port`, missing[2].Reason)
}

func TestAPartialFailureAddsToWhatIsKnownAndTakesNothingAway(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	p := NewProvider(Options{Resolver: s.miekg(t)})
	names := []string{"dnssrv+srv.test"}
	s.set(t, "a.test.", "A 10.0.0.1")
	s.set(t, "b.test.", "A 10.0.0.2")
	s.set(t, "srv.test.", "SRV 0 0 1 a.test.", "SRV 0 0 1 b.test.")
	require.NoError(t, p.Resolve(t.Context(), names))
	s.set(t, "a.test.", "A 10.0.0.3")
	s.fail("b.test. A", dns.RcodeServerFailure)
	s.fail("b.test. AAAA", dns.RcodeServerFailure)
	require.Error(t, p.Resolve(t.Context(), names))
	require.Equal(t, []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"}, inUse(p))
	s.fail("b.test. A", 0)
	require.NoError(t, p.Resolve(t.Context(), names))
	require.Equal(t, []string{"10.0.0.2:1", "10.0.0.3:1"}, inUse(p))
}

func TestACancelledRoundChangesNothing(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.1")
	reg := prometheus.NewRegistry()
	p := NewProvider(Options{Resolver: s.miekg(t), Registerer: reg, MetricPrefix: "x_"})
	require.NoError(t, p.Resolve(t.Context(), []string{"dns+a.test:1"}))
	before := p.Names()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Resolve(ctx, []string{"dns+a.test:1"}), context.Canceled)
	require.Equal(t, before, p.Names())
	require.InDelta(t, 0, testutil.ToFloat64(p.metrics.failures), 0)
}

func TestASilentServerCostsOneTimeoutAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.1")
	s.silence("silent.test.")
	p := NewProvider(Options{Resolver: s.miekg(t), Timeout: 200 * time.Millisecond})
	err := p.Resolve(t.Context(), []string{"dns+silent.test:1", "dns+a.test:1"})
	require.ErrorContains(t, err, "dns+silent.test:1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, []string{"10.0.0.1:1"}, inUse(p))
}

func TestLookupsAreCounted(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.1", "A 10.0.0.2")
	s.fail("b.test. A", dns.RcodeServerFailure)
	reg := prometheus.NewPedanticRegistry()
	p := NewProvider(Options{Resolver: s.miekg(t), Registerer: reg, MetricPrefix: "thanos_query_endpoints_"})
	require.Error(t, p.Resolve(t.Context(), []string{"dns+a.test:1", "dns+b.test:1", "s:1"}))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP thanos_query_endpoints_dns_failures_total The number of DNS lookups of configured addresses that failed.
# TYPE thanos_query_endpoints_dns_failures_total counter
thanos_query_endpoints_dns_failures_total 1
# HELP thanos_query_endpoints_dns_lookups_total The number of DNS lookups of configured addresses.
# TYPE thanos_query_endpoints_dns_lookups_total counter
thanos_query_endpoints_dns_lookups_total 2
# HELP thanos_query_endpoints_dns_provider_results The number of addresses in use for each configured address.
# TYPE thanos_query_endpoints_dns_provider_results gauge
thanos_query_endpoints_dns_provider_results{addr="dns+a.test:1"} 2
thanos_query_endpoints_dns_provider_results{addr="dns+b.test:1"} 0
thanos_query_endpoints_dns_provider_results{addr="s:1"} 1
`)))
	require.NoError(t, p.Resolve(t.Context(), []string{"s:1"}))
	require.Equal(t, 1, testutil.CollectAndCount(p.metrics.results), "names no longer configured have no series")
}

func TestWhatIsRememberedOfANameIsBounded(t *testing.T) {
	t.Parallel()
	r := &changingResolver{}
	p := NewProvider(Options{Resolver: r})
	for range 3 * maxMissing {
		require.NoError(t, p.Resolve(t.Context(), []string{"dns+a:1"}))
	}
	require.Len(t, p.Missing(), maxMissing)
}

// changingResolver gives a new address each time.
type changingResolver struct{ ip netip.Addr }

func (c *changingResolver) LookupIP(context.Context, string, bool) ([]netip.Addr, error) {
	if !c.ip.IsValid() {
		c.ip = netip.MustParseAddr("10.0.0.0")
	}
	c.ip = c.ip.Next()
	return []netip.Addr{c.ip}, nil
}

func (c *changingResolver) LookupSRV(context.Context, string) ([]SRV, error) { return nil, ErrNotFound }

func TestRunResolvesAtOnceAndWhenWoken(t *testing.T) {
	t.Parallel()
	s := newDNSServer(t)
	s.set(t, "a.test.", "A 10.0.0.1")
	p := NewProvider(Options{Resolver: s.miekg(t)})
	ctx, cancel := context.WithCancel(t.Context())
	wake, rounds, done := make(chan struct{}), make(chan struct{}, 10), make(chan error, 1)
	go func() {
		done <- p.Run(ctx, time.Hour, func() []string { return []string{"dns+a.test:1"} }, wake, func() { rounds <- struct{}{} })
	}()
	await(t, rounds)
	require.Equal(t, []string{"10.0.0.1:1"}, inUse(p))
	s.set(t, "a.test.", "A 10.0.0.2")
	wake <- struct{}{}
	await(t, rounds)
	require.Equal(t, []string{"10.0.0.2:1"}, inUse(p))
	cancel()
	require.NoError(t, <-done)
}

func await(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		require.Fail(t, "nothing happened in time")
	}
}
