package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/stretchr/testify/require"
)

// AlertmanagerSpec is how a real Alertmanager is run, with what it was sent below the folder of the stack.
func (s *Stack) AlertmanagerSpec(name string) (Service, procs.Spec) {
	s.t.Helper()
	am, config := Service{Name: name, HTTP: Addrs(s.t, 1)[0]}, s.Dir(name+".yml")
	require.NoError(s.t, os.WriteFile(config, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o644))
	return am, procs.Spec{
		Name: name, Binary: Peer(s.t, "alertmanager"), Source: "make peers",
		Args: []string{
			"--config.file=" + config, "--storage.path=" + s.Dir(name), "--web.listen-address=" + am.HTTP, "--cluster.listen-address=",
		},
		Listen: []procs.Address{{Purpose: "HTTP", Addr: am.HTTP}},
		Ready:  am.URL() + "/-/ready",
	}
}

// RulerSpec is how a ruler is run that evaluates the rules in a text every second through a querier.
func (s *Stack) RulerSpec(name string, querier Service, rules string, args ...string) (Service, procs.Spec) {
	s.t.Helper()
	file := s.Dir(name + "-rules.yml")
	require.NoError(s.t, os.WriteFile(file, []byte(rules), 0o644))
	return s.ServiceSpec(name, "ruler", append([]string{
		"--query=" + querier.URL(), "--rule-file=" + file, "--data-dir=" + s.Dir(name), "--eval-interval=1s", "--resend-delay=2s",
	}, args...)...)
}

// Alert is an alert as Alertmanager shows it.
type Alert struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
}

// TryAlerts returns the alerts that an Alertmanager has.
func (s *Stack) TryAlerts(alertmanager Service) ([]Alert, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, alertmanager.URL()+"/api/v2/alerts", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var alerts []Alert
	if err := json.NewDecoder(response.Body).Decode(&alerts); err != nil {
		return nil, fmt.Errorf("alerts of %s: %w", alertmanager.Name, err)
	}
	return alerts, nil
}
