package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"google.golang.org/grpc/metadata"

	"github.com/promontory-io/promontory/libs/limits"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
	"github.com/promontory-io/promontory/services/receiver/internal/grpcapi"
	"github.com/promontory-io/promontory/services/receiver/internal/tenants"
)

const countTimeout = 10 * time.Second

// counter counts active series by tenant over all nodes.
type counter struct {
	forwarder *forward.Forwarder
	local     *tenants.Multi
}

func (c *counter) count(ctx context.Context, cfg *limits.Config) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	if cfg.Write.Global.MetaMonitoringURL != "" {
		return askPrometheus(ctx, cfg.Write.Global)
	}
	return c.askNodes(ctx)
}

// askNodes sums what the nodes say. Nodes that do not answer count for nothing; that all of them do not is
// an error.
func (c *counter) askNodes(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, t := range c.local.Tenants() {
		out[t.Name()] += t.NumSeries()
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	asked := 0
	c.forwarder.Conns(func(addr string, conn forward.Conn) {
		asked++
		wg.Go(func() {
			counts, err := askNode(ctx, conn)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			}
			for t, n := range counts {
				out[t] += n
			}
		})
	})
	wg.Wait()
	if asked > 0 && len(errs) == asked {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func askNode(ctx context.Context, conn forward.Conn) (map[string]uint64, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, grpcapi.HeadOnly, "true")
	stream, err := thanos.NewStatusClient(conn).TSDBStatistics(ctx, &thanos.TSDBStatisticsRequest{Limit: 1})
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		for tenant, e := range resp.GetStatistics().GetStatistics() {
			out[tenant] += e.GetHeadStatistics().GetNumSeries()
		}
	}
}

// askPrometheus runs the configured query; its result has a label tenant.
func askPrometheus(ctx context.Context, g limits.Global) (map[string]uint64, error) {
	base, err := url.Parse(g.MetaMonitoringURL)
	if err != nil {
		return nil, fmt.Errorf("meta_monitoring_url: %w", err)
	}
	settings, err := httpclient.Parse("meta_monitoring_http_client", nil)
	if err != nil {
		return nil, err
	}
	if g.MetaMonitoringHTTPClient != nil {
		settings = *g.MetaMonitoringHTTPClient
	}
	hc, err := httpclient.New(settings, "promontory-receiver")
	if err != nil {
		return nil, fmt.Errorf("meta_monitoring_http_client: %w", err)
	}
	defer hc.CloseIdleConnections()
	query := g.MetaMonitoringLimitQuery
	if query == "" {
		query = limits.DefaultLimitQuery
	}
	res, err := promclient.New(base, promclient.Options{HTTP: hc}).Query(ctx, query, time.Time{}, nil)
	if err != nil {
		return nil, err
	}
	vec, ok := res.Value.(model.Vector)
	if !ok {
		return nil, fmt.Errorf("query %q has no vector for a result", query)
	}
	out := map[string]uint64{}
	for _, s := range vec {
		out[string(s.Metric["tenant"])] = uint64(s.Value)
	}
	return out, nil
}
