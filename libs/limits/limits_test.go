package limits

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const document = `
write:
  global:
    max_concurrency: 2
    meta_monitoring_url: "http://prometheus:9090"
    meta_monitoring_limit_query: "sum(x) by (tenant)"
  default:
    request:
      size_bytes_limit: 1024
      series_limit: 100
      samples_limit: 10
    head_series_limit: 1000
  tenants:
    big:
      request:
        series_limit: 0
        samples_limit: 500
      head_series_limit: 0
`

func TestTenantsInheritWhatTheyDoNotSay(t *testing.T) {
	t.Parallel()
	c, err := Parse("limits.yaml", []byte(document))
	require.NoError(t, err)
	require.Equal(t, Effective{SizeBytes: 1024, Series: 100, Samples: 10, HeadSeries: 1000}, c.For("any"))
	require.Equal(t, Effective{SizeBytes: 1024, Series: 0, Samples: 500, HeadSeries: 0}, c.For("big"))
	empty, err := Parse("x", nil)
	require.NoError(t, err)
	require.Equal(t, Effective{}, empty.For("any"))
}

func TestBadDocumentsAreRefusedByLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"write:\n  globals: {}":                                 "limits.yaml:2",
		"write:\n  default:\n    request: {series_limit: x}":    "limits.yaml:3",
		"write: {default: {request: {series_limit: -1}}}":       "write.default.request.series_limit: -1 is negative",
		"write: {tenants: {a: {request: {samples_limit: -2}}}}": "write.tenants.a.request.samples_limit: -2",
		"write: {global: {max_concurrency: -1}}":                "max_concurrency",
	} {
		_, err := Parse("limits.yaml", []byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(document))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if c, err := Parse("x", data); err == nil {
			_ = c.For("tenant")
		}
	})
}
