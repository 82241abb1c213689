package up

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/rulefile"
)

func TestTheRulersRulesAreGoodAndItsAlertsReachAlertmanager(t *testing.T) {
	t.Parallel()
	groups, err := rulefile.Parse("ruler-rules.yml", []byte(rulerRules))
	require.NoError(t, err)
	require.Len(t, groups, 2)
	for _, setUp := range []string{SetUpSidecar, SetUpReceive} {
		l := layout{Config: Config{SetUp: setUp, BasePort: 20000, BinDir: "/b", PeersDir: "/p"}, data: "/d"}
		found := map[string]member{}
		for _, m := range stack(l) {
			found[m.Name] = m
		}
		require.Contains(t, found["ruler"].Args, "--alertmanagers.url=http://"+found["alertmanager"].http)
		require.Contains(t, found["ruler"].Args, "--query=http://"+found["querier"].http)
		require.Contains(t, found["querier"].Args, "--endpoint="+found["ruler"].grpc)
		require.NotContains(t, found["ruler"].After, "querier", "the querier waits for the ruler")
	}
}
