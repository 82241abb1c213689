package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/promontory-io/promontory/libs/block/blocktest"
	"github.com/promontory-io/promontory/libs/objstore/filesystem"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// islands are store gateways with a block of their own each: which of them a querier reaches shows in its answers.
func islands(t *testing.T, s *harness.Stack, names ...string) (services []harness.Service, at time.Time) {
	t.Helper()
	begin := time.Now().Add(-3 * window).Truncate(window)
	for _, name := range names {
		config, dir := s.FilesystemBucket("bucket-"+name, "")
		bucket, err := filesystem.New(dir)
		require.NoError(t, err)
		blocktest.Upload(t, bucket, blocktest.Spec{
			ExternalLabels: labels.FromStrings("island", name), Floats: 1, MinTime: begin.UnixMilli(), MaxTime: begin.Add(window).UnixMilli(),
		})
		services = append(services, s.StoreGateway(name, config))
	}
	return services, begin.Add(time.Hour)
}

// reaches waits until answers of a querier come from exactly these islands.
func reaches(t *testing.T, s *harness.Stack, q harness.Service, at time.Time, names ...string) {
	t.Helper()
	harness.Eventually(t, func() error {
		got, warnings, err := s.API(q).AllowPartial().TryInstant("count by (island) ("+blocktest.FloatMetric+")", at)
		if err != nil {
			return err
		}
		want := map[string]float64{}
		for _, name := range names {
			want[fmt.Sprintf(`{island="%s"}`, name)] = 1
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("%s, warnings %v", diff, warnings)
		}
		return nil
	})
}

// named are the addresses on a querier's list of stores.
func named(t *testing.T, q harness.Service) (addrs []string) {
	t.Helper()
	kinds := map[string][]struct{ Name string }{}
	require.NoError(t, json.Unmarshal(call(t, q, http.MethodGet, "/stores", nil).Data, &kinds))
	for _, stores := range kinds {
		for _, store := range stores {
			addrs = append(addrs, store.Name)
		}
	}
	slices.Sort(addrs)
	return addrs
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}

func TestEndpointsAreFoundInEveryWayThatFlagsOffer(t *testing.T) {
	t.Parallel()
	s := harness.New(t)
	stores, at := islands(t, s, "a", "b", "c", "d")
	write := func(name, text string) string {
		require.NoError(t, os.WriteFile(s.Dir(name+".tmp"), []byte(text), 0o600))
		require.NoError(t, os.Rename(s.Dir(name+".tmp"), s.Dir(name)))
		return s.Dir(name)
	}

	t.Run("by DNS, in a group, strictly and in a file", func(t *testing.T) {
		files := write("targets.yml", fmt.Sprintf("- targets: [%q]\n", stores[3].GRPC))
		// The other resolver asks DNS servers only, which need not know localhost.
		q := s.Querier("mixed", nil, "--store.sd-dns-resolver=golang",
			"--endpoint=dns+localhost:"+portOf(t, stores[0].GRPC), "--endpoint-group=dns+localhost:"+portOf(t, stores[1].GRPC),
			"--endpoint-strict="+stores[2].GRPC, "--store.sd-files="+s.Dir("targets*.yml"), "--store.sd-interval=1s")
		reaches(t, s, q, at, "a", "b", "c", "d")
		require.Contains(t, named(t, q), "127.0.0.1:"+portOf(t, stores[0].GRPC), "DNS names become addresses")
		require.Contains(t, named(t, q), "dns+localhost:"+portOf(t, stores[1].GRPC), "a group is one endpoint")

		// A file that breaks keeps what it said.
		write("targets.yml", "- targets: [")
		s.AwaitLog(q.Name, "targets.yml", "level=warn")
		reaches(t, s, q, at, "a", "b", "c", "d")
		require.Equal(t, files, s.Dir("targets.yml"))
	})
	t.Run("a configuration is read again", func(t *testing.T) {
		list := func(stores ...harness.Service) string {
			text := "default_client_config: {compression: snappy}\nendpoints:\n"
			for _, store := range stores {
				text += "- address: " + store.GRPC + "\n"
			}
			return text
		}
		path := write("endpoints.yml", list(stores[0]))
		q := s.Querier("configured", nil, "--endpoint.sd-config-file="+path, "--endpoint.sd-config-reload-interval=1s")
		reaches(t, s, q, at, "a")
		write("endpoints.yml", list(stores[0], stores[1]))
		reaches(t, s, q, at, "a", "b")
		write("endpoints.yml", "endpoints:\n- address: "+stores[2].GRPC+"\n  strct: true\n")
		s.AwaitLog(q.Name, "endpoints.yml:3", "strct")
		reaches(t, s, q, at, "a", "b")
		write("endpoints.yml", list(stores[1]))
		reaches(t, s, q, at, "b")
		require.Equal(t, []string{stores[1].GRPC}, named(t, q), "what is not configured any more is not missing")
		got := s.API(q).Instant("count by (island) ("+blocktest.FloatMetric+")", at) // without a warning
		require.Len(t, got, 1)
	})
}

func TestAStrictEndpointThatWasNeverThereIsMissedForEver(t *testing.T) {
	t.Parallel()
	s := harness.New(t)
	stores, at := islands(t, s, "a")
	nobody := unanswered(t)
	strict := s.Querier("strict", stores, "--endpoint-strict="+nobody, "--store.unhealthy-timeout=1s")
	loose := s.Querier("loose", stores, "--endpoint="+nobody, "--store.unhealthy-timeout=1s")
	missing := func(q harness.Service) (bool, error) {
		got, warnings, err := s.API(q).AllowPartial().TryInstant("count("+blocktest.FloatMetric+")", at)
		if err == nil && got["{}"] != 1 {
			err = fmt.Errorf("got %v", got)
		}
		return strings.Contains(strings.Join(warnings, "\n"), nobody), err
	}
	harness.Eventually(t, func() error {
		named, err := missing(loose)
		if err == nil && named {
			err = fmt.Errorf("%s is still missed after the unhealthy timeout", nobody)
		}
		return err
	})
	named, err := missing(strict)
	require.NoError(t, err)
	require.True(t, named, "a strict endpoint is missed whatever the time")
	for _, path := range []string{"/rules", "/targets", "/metadata", "/status/tsdb"} {
		require.Contains(t, strings.Join(call(t, strict, http.MethodGet, path, nil).Warnings, "\n"), nobody, "it might serve %s too", path)
		require.Empty(t, call(t, loose, http.MethodGet, path, nil).Warnings, path)
	}
	_, _, err = s.API(strict).With("partial_response", "false").TryInstant("count("+blocktest.FloatMetric+")", at)
	require.ErrorContains(t, err, nobody)
}
