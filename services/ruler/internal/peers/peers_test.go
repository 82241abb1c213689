package peers_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/services/ruler/internal/peers"
)

func TestAddressesAsFlagsHaveThem(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct{ static, scheme, path, user string }{
		"a:1":                             {"a:1", "http", "", ""},
		"a:1/x/y":                         {"a:1", "http", "/x/y", ""},
		"https://a:1/x":                   {"a:1", "https", "/x", ""},
		"dns+a:1":                         {"dns+a:1", "http", "", ""},
		"dnssrv+https://_h._tcp.a/x":      {"dnssrv+_h._tcp.a", "https", "/x", ""},
		"http://joe:secret@a:1":           {"a:1", "http", "", "joe"},
		"dns+http://joe:secret@a:9093/am": {"dns+a:9093", "http", "/am", "joe"},
	} {
		s, err := peers.ParseAddress(in)
		require.NoError(t, err, in)
		require.Equal(t, []string{want.static}, s.Static, in)
		require.Equal(t, want.scheme, s.Scheme, in)
		require.Equal(t, want.path, s.PathPrefix, in)
		require.Equal(t, want.user, s.HTTP.BasicAuth.Username, in)
	}
	for _, in := range []string{"", "dns+a", "ftp://a:1", "magic+a:1"} {
		_, err := peers.ParseAddress(in)
		require.Error(t, err, in)
	}
}

func TestServersAreThoseListedAndThoseInFilesEachOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "q.json")
	require.NoError(t, os.WriteFile(file, []byte(`[{"targets": ["b:2", "a:1"]}]`), 0o600))
	one, two := peers.DefaultSection(), peers.DefaultSection()
	one.Static, one.Files, one.PathPrefix = []string{"a:1"}, []peers.FileSD{{Files: []string{file}, RefreshInterval: model.Duration(time.Minute)}}, "/x"
	two.Static, two.Scheme = []string{"c:3"}, "https"
	pool, err := peers.NewPool(peers.Options{Sections: []peers.Section{one, two}, Logger: zap.NewNop(), MetricPrefix: "x_"})
	require.NoError(t, err)
	pool.Prepare(t.Context())
	urls, duplicates := pool.URLs(0)
	require.Equal(t, 1, duplicates)
	require.Len(t, urls, 2)
	require.Equal(t, "http://a:1/x", urls[0].String())
	require.Equal(t, "http://b:2/x", urls[1].String())
	urls, _ = pool.URLs(1)
	require.Len(t, urls, 1)
	require.Equal(t, "https://c:3", urls[0].String())
}
