package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promontory-io/promontory/tools/manifests/internal/cluster"
	"github.com/promontory-io/promontory/tools/manifests/internal/render"
	"github.com/stretchr/testify/require"
)

// words are Thanos' subcommands, and which of our programs is each.
var words = map[string]string{
	"query": "querier", "sidecar": "sidecar", "store": "store-gateway", "rule": "ruler", "compact": "compactor", "receive": "receiver",
	"bucket": "bucket-web",
}

// guide reads manifests written for Thanos 0.12: their one image stands for all of our programs.
func guide(t *testing.T, name string) running {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "guide", name+".yaml"))
	require.NoError(t, err)
	defer f.Close()
	objects, err := render.Parse(f)
	require.NoError(t, err)
	c, err := cluster.Read(objects)
	require.NoError(t, err)
	bucket := t.TempDir()
	c.SetSecret("objstore", map[string]string{"objectstorage.yaml": "type: FILESYSTEM\nconfig: {directory: " + bucket + "}\n"})
	images := programs(t)
	images["thanosio/thanos"] = cluster.Program{Of: func(args []string) (cluster.Program, error) {
		program, ok := images["promontory/"+words[args[0]]]
		if !ok {
			return cluster.Program{}, fmt.Errorf("no program of ours is %q", args[0])
		}
		return program, nil
	}}
	return startCluster(t, c, images)
}

func TestArgumentsOfTheSidecarGuideForThanos012Run(t *testing.T) {
	r := guide(t, "sidecar")
	up := requireSeries(t, r.http(t, "thanos-query"), `up{job="prometheus"} == 1`, func(a answer) bool { return len(a.Data.Result) == 2 })
	for _, series := range up.Data.Result {
		require.NotContains(t, series.Metric, "prometheus_replica")
	}
	// The sidecar has put the pod's name into the configuration, and Prometheus has read it.
	requireSeries(t, r.http(t, "thanos-query"), `job:up:sum{job="prometheus"} == 2`, func(a answer) bool { return len(a.Data.Result) == 1 })
}

func TestArgumentsOfTheReceiveGuideForThanos012Run(t *testing.T) {
	r := guide(t, "receive")
	requireSeries(t, r.http(t, "thanos-query"), `up{job="prometheus",receive="true"} == 1`, func(a answer) bool {
		return len(a.Data.Result) > 0 && strings.HasPrefix(a.Data.Result[0].Metric["receive_replica"], "thanos-receive-")
	})
}
