package recorded

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// complaints is a test that goes on and tells what was wrong.
type complaints struct {
	testing.TB

	said []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

// FailNow ends what require does in a test that goes on.
func (c *complaints) FailNow() {}

func table(t *testing.T, text string) [][]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table.tsv")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return Table(t, path)
}

func TestFlagsAreHeldAgainstTheirDefaults(t *testing.T) {
	t.Parallel()
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	on, off := true, false
	var words []string
	flags.Bool(fs, &on, "on", "")
	flags.Bool(fs, &off, "off", "")
	flags.Strings(fs, &words, "word.list", "")
	fs.String("text", "POST", "")
	fs.String("size", "1024", "")
	fs.String("time", "24h", "")
	fs.String("numbers", "0.1,0.5", "")
	fs.BoolP("help", "h", false, "")
	good := "c\t-h, --[no-]help\nc\t--[no-]off\nc\t--word.list=WORD-LIST\nc\t--word.list=WORD.LIST\nc\t--text=\"POST\"\nc\t--size=1KiB\n--time=1d\n--numbers=0.1...\n"
	RequireFlags(t, fs, table(t, good), nil)
	RequireFlags(t, fs, table(t, "--[no-]on\n--text=GET\n"), map[string]string{"on": "true", "text": "POST"})
	for _, bad := range []string{"--[no-]on", "--text=GET", "--text=\"TEXT\"", "--nothing", "--size=2KiB", "--time=1w", "--[no-]text", "--numbers=0.5..."} {
		c := &complaints{TB: t}
		RequireFlags(c, fs, table(t, bad), nil)
		require.NotEmpty(t, c.said, bad)
	}
	c := &complaints{TB: t}
	RequireFlags(c, fs, table(t, "--[no-]off\n"), map[string]string{"off": "false"})
	require.Len(t, c.said, 1, "what is as recorded is not our own")
}

func TestMetricsAreHeldAgainstTheirTypeAndLabels(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	f := promauto.With(reg)
	f.NewCounterVec(prometheus.CounterOpts{Name: "a_total"}, []string{"x", "y"}).WithLabelValues("1", "2")
	f.NewGauge(prometheus.GaugeOpts{Name: "b"})
	good := table(t, "c\ta_total\tcounter\tx,y\nc\tb\tgauge\t\nc\tb\tgauge\n")
	RequireMetrics(t, Gathered(t, reg), good)
	RequireMetrics(t, Scraped(t, "# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 0\n# TYPE b gauge\nb 0\n"), good)
	for _, bad := range []string{"c\ta_total\tgauge\tx,y", "c\ta_total\tcounter\tx", "c\tb\tgauge\tx", "c\tnone\tgauge\t"} {
		c := &complaints{TB: t}
		RequireMetrics(c, Gathered(t, reg), table(t, bad))
		require.Len(t, c.said, 1, bad)
	}
}
