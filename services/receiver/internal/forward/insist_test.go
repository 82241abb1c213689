package forward

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

func (n *node) set(answer func(*Message) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = answer
}

func (n *node) called() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

func TestANodeInBackOffIsAskedWhenAQuorumHangsOnIt(t *testing.T) {
	t.Parallel()
	for name, tenants := range map[string][]string{"one tenant": {"t"}, "several tenants": {"t", "u"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var parts []TenantSeries
			for _, tenant := range tenants {
				parts = append(parts, TenantSeries{Tenant: tenant, Series: many(30)})
			}
			c := newCluster(t, 3, 3, nil)
			// Node 1 restarts: it is left alone, and is back before the time for that is over.
			c.nodes[1].set(refuse(codes.Unavailable))
			fs, err := c.write(t, parts...)
			require.NoError(t, err)
			require.Empty(t, fs)
			c.flights.Wait()
			c.nodes[1].set(nil)
			p, err := c.peer("node-1:10901")
			require.NoError(t, err)
			p.mu.Lock()
			p.until = time.Now().Add(time.Hour)
			p.mu.Unlock()

			before := c.nodes[1].called()
			fs, err = c.write(t, parts...)
			require.NoError(t, err)
			require.Empty(t, fs)
			c.flights.Wait()
			require.Equal(t, before, c.nodes[1].called(), "two others are enough: it is left alone")

			// Now node 2 restarts.
			c.nodes[2].set(refuse(codes.Unavailable))
			fs, err = c.write(t, parts...)
			require.NoError(t, err)
			require.Empty(t, fs, "%s", verdict.Explain(fs))
			require.Greater(t, c.nodes[1].called(), before)
		})
	}
}

func TestAQuorumWaitsForANodeThatComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3, nil)
	c.nodes[1].set(refuse(codes.Unavailable))
	var asked atomic.Int32
	c.nodes[2].set(func(*Message) error {
		if asked.Add(1) < 4 {
			return status.Error(codes.Unavailable, "not ready")
		}
		return nil
	})
	fs, err := c.write(t, TenantSeries{Tenant: "t", Series: many(30)})
	require.NoError(t, err)
	require.Empty(t, fs, "%s", verdict.Explain(fs))
}

func TestWithoutAQuorumTheReasonIsToldSoon(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, 3, nil)
	for _, n := range c.nodes[1:] {
		n.set(refuse(codes.Unavailable))
	}
	for range 2 { // the second time they are in back-off
		start := time.Now()
		fs, err := c.write(t, TenantSeries{Tenant: "t", Series: many(3)})
		require.NoError(t, err)
		require.Less(t, time.Since(start), patience)
		require.Len(t, fs, 3)
		for _, f := range fs {
			require.Equal(t, verdict.Unavailable, f.Kind)
		}
		require.Contains(t, verdict.Explain(fs), "said so")
	}
}
