package e2e

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/tools/e2e/harness"
)

// unanswered is an address where connections are refused: nobody has it until the end of the test.
func unanswered(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	return addr
}

func TestAnUnreachableBucketIsNamedAndKeepsTheStoreGatewayUnready(t *testing.T) {
	t.Parallel()
	s := harness.New(t)
	addr := unanswered(t)
	service, spec := s.ServiceSpec("store-gateway", "store-gateway", "--data-dir="+s.Dir("data"), "--objstore.config="+
		"{type: S3, config: {bucket: history, endpoint: '"+addr+"', access_key: a, secret_key: b, insecure: true, region: us-east-1}}")
	spec.Ready = "" // it never is
	s.Start(spec)
	s.AwaitLog(service.Name, "the bucket cannot be used", "level=warn", "history", "S3", addr, "refused")
	require.Equal(t, http.StatusServiceUnavailable, status(t, service.URL()+"/-/ready"))
	require.Equal(t, http.StatusOK, status(t, service.URL()+"/-/healthy"))
}

func TestAPrometheusWithoutExternalLabelsEndsItsSidecar(t *testing.T) {
	t.Parallel()
	s := harness.New(t)
	p := s.Prometheus("prometheus", harness.PrometheusConfig{})
	err := s.TryStart(sidecarSpec(s, "sidecar", p))
	require.ErrorContains(t, err, p.URL()+" has no external labels")
	require.ErrorContains(t, err, "global.external_labels")
}

func TestTwoSidecarsWithTheSameExternalLabelsAreBothNamed(t *testing.T) {
	t.Parallel()
	s := harness.New(t)
	var sidecars []harness.Service
	for _, n := range []string{"1", "2"} {
		p := s.Prometheus("prometheus-"+n, harness.PrometheusConfig{ExternalLabels: map[string]string{"cluster": "one", "replica": "same"}})
		sidecars = append(sidecars, s.Sidecar("sidecar-"+n, p))
	}
	other := s.Prometheus("prometheus-3", harness.PrometheusConfig{ExternalLabels: map[string]string{"cluster": "one", "replica": "other"}})
	sidecars = append(sidecars, s.Sidecar("sidecar-3", other))
	q := s.Querier("querier", sidecars)
	line := s.AwaitLog(q.Name, "the same external labels", "level=warn", sidecars[0].GRPC, sidecars[1].GRPC, "same")
	require.NotContains(t, line, sidecars[2].GRPC)
}

func sidecarSpec(s *harness.Stack, name string, p harness.Prometheus, args ...string) procs.Spec {
	_, spec := s.ServiceSpec(name, "sidecar", append([]string{"--prometheus.url=" + p.URL(), "--tsdb.path=" + p.DataDir}, args...)...)
	return spec
}

// status is the HTTP status of a GET.
func status(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, strings.NewReader(""))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}
