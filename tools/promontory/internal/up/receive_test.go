package up

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
)

func TestTheReceiveSetUpStartsChecksStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Once, c.SetUp = true, SetUpReceive
	var out output
	require.NoError(t, Run(t.Context(), c, zap.NewNop(), &out))
	text := out.String()
	for _, want := range []string{
		" blocks made in ", "router         ready after", "ingester-2     ready after", "prometheus-a   ready after", "querier        ready after",
		"answer         10 series, 10 points: sum by (job) (up)", "demo-shop      stopped after",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "sidecar")
	require.NotContains(t, text, "prometheus-b")
	require.Less(t, strings.Index(text, "ingester-0     ready"), strings.Index(text, "router         ready"))
	require.Less(t, strings.Index(text, "router         ready"), strings.Index(text, "prometheus-a   ready"), "nobody writes before there is a router")

	out = output{}
	require.NoError(t, Run(t.Context(), c, zap.NewNop(), &out))
	require.Contains(t, out.String(), "3h0m0s from an earlier run")

	c.SetUp = SetUpSidecar
	require.ErrorContains(t, Run(t.Context(), c, zap.NewNop(), &output{}), "holds the receive set-up")
}

func TestTheReceiveSetUpWritesItsRingAndWhereToWrite(t *testing.T) {
	t.Parallel()
	l := layout{Config: Config{SetUp: SetUpReceive, BasePort: 20000, BinDir: "/b", PeersDir: "/p"}, data: t.TempDir()}
	require.NoError(t, os.MkdirAll(l.dir("config"), 0o755))
	require.NoError(t, writeFiles(l, stack(l)))
	rings, err := os.ReadFile(l.hashringsPath())
	require.NoError(t, err)
	require.JSONEq(t, `[{"hashring":"demo","endpoints":["127.0.0.1:20015","127.0.0.1:20018","127.0.0.1:20021"]}]`, string(rings))
	text, err := os.ReadFile(l.prometheusConfig("a"))
	require.NoError(t, err)
	var c prometheusConfig
	require.NoError(t, yaml.Unmarshal(text, &c))
	require.Len(t, c.RemoteWrite, 1)
	require.Equal(t, "http://127.0.0.1:20013/api/v1/receive", c.RemoteWrite[0].URL)

	l.SetUp = SetUpSidecar
	require.Empty(t, prometheusFile(l, stack(l), "a").RemoteWrite)
}

func TestEachSetUpHasAFolderOfItsOwn(t *testing.T) {
	t.Parallel()
	for setUp, want := range map[string]string{SetUpSidecar: filepath.Join(".data", "up"), SetUpReceive: filepath.Join(".data", "up-receive")} {
		c := DefaultConfig()
		c.SetUp = setUp
		l, err := newLayout(c)
		require.NoError(t, err)
		require.Equal(t, want, func() string { wd, _ := os.Getwd(); rel, _ := filepath.Rel(wd, l.data); return rel }())
	}
}

func TestNoTwoProcessesOfASetUpShareAPort(t *testing.T) {
	t.Parallel()
	for _, setUp := range []string{SetUpSidecar, SetUpReceive} {
		taken := map[string]string{}
		for _, m := range stack(layout{Config: Config{SetUp: setUp, BasePort: 20000}}) {
			for _, a := range m.Listen {
				require.Empty(t, taken[a.Addr], "%s: %s", m.Name, a.Addr)
				taken[a.Addr] = m.Name
			}
		}
	}
}
