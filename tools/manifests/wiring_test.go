package manifests

import (
	"slices"
	"testing"

	"github.com/promontory-io/promontory/tools/manifests/internal/render"
	"github.com/promontory-io/promontory/tools/manifests/internal/wiring"
	"github.com/stretchr/testify/require"
)

func wiringConfig() wiring.Config {
	return wiring.Config{
		Outside: []string{"Secret promontory-tls"}, Ours: "promontory/",
		GraceSeconds:  120, // --http-grace-period and --grpc-grace-period, where nothing else is said
		SettleSeconds: 60,  // a cluster's DNS keeps an answer for 30 seconds, and addresses are looked up every 30
	}
}

func TestEveryOverlayIsWiredRight(t *testing.T) {
	t.Parallel()
	for _, name := range folders(t, "overlays") {
		for _, components := range [][]string{nil, everything[name]} {
			problems, err := wiring.Check(overlay(t, name, components...), wiringConfig())
			require.NoError(t, err)
			require.Empty(t, problems, "%s with %v", name, components)
		}
	}
}

// at is the value inside v at a path of keys and indexes.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			require.True(t, ok, "%v of %v", step, path)
			v = m[step]
		case int:
			l, ok := v.([]any)
			require.True(t, ok, "%v of %v", step, path)
			v = l[step]
		}
	}
	return v
}

func TestMistakesBetweenManifestsAreFound(t *testing.T) {
	t.Parallel()
	// change puts a value into the object, below a path, in the place of key; nil takes the key away.
	type change struct {
		kind, name string
		path       []any
		key        string
		value      any
		want       string
	}
	pod := []any{"spec", "template", "spec"}
	first := append(slices.Clone(pod), "containers", 0)
	rule := func(peer any) []any { return []any{map[string]any{"from": []any{peer}}} }
	for name, c := range map[string]change{
		"service of nobody": {
			"Service", "querier",
			[]any{"spec", "selector"},
			"app.kubernetes.io/name", "query",
			"Service querier: selects the pods of 0 workloads, not of one",
		},
		"port that is not open": {
			"Service", "querier",
			[]any{"spec", "ports", 0},
			"targetPort", "htpp",
			`Service querier: port http leads to "htpp", which Deployment querier does not open`,
		},
		"one address for all": {
			"Service", "store-gateway",
			[]any{"spec"},
			"clusterIP", nil,
			"Deployment querier: _grpc._tcp.store-gateway finds one address for all pods: Service store-gateway is not headless",
		},
		"policy against the others": {
			"NetworkPolicy", "store-gateway",
			[]any{"spec"},
			"ingress", rule(map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "thanos"}}}),
			"Deployment querier: _grpc._tcp.store-gateway: a network policy keeps it from port grpc of StatefulSet store-gateway",
		},
		"policy against scrapes": {
			"NetworkPolicy", "compactor",
			[]any{"spec"},
			"ingress", rule(map[string]any{"namespaceSelector": map[string]any{}}),
			"NetworkPolicy compactor: keeps those outside the namespace from port http of StatefulSet compactor",
		},
		"policy against the ingress": {
			"NetworkPolicy", "receiver-router",
			[]any{"spec"},
			"ingress", rule(map[string]any{"namespaceSelector": map[string]any{}}),
			"Ingress receiver-router: a network policy keeps what it brings from port remote-write of Deployment receiver-router",
		},
		"fewer pods than the ring names": {
			"StatefulSet", "receiver-ingester",
			[]any{"spec"},
			"replicas", 2,
			"Deployment receiver-router: receiver-ingester-2.receiver-ingester: StatefulSet receiver-ingester has 2 pods and none of that name",
		},
		"rollout in a hurry": {
			"StatefulSet", "receiver-ingester",
			[]any{"spec"},
			"minReadySeconds", nil,
			"StatefulSet receiver-ingester: a rollout goes on 0 seconds after a pod is ready, but Deployment receiver-router may know its old address for 60",
		},
		"killed over its requests": {
			"Deployment", "querier", pod, "terminationGracePeriodSeconds", nil,
			"Deployment querier: is killed after 30 seconds, but may take 130 to end its requests",
		},
		"deaf too soon": {
			"Deployment", "query-frontend", first, "lifecycle", nil,
			"Deployment query-frontend: stops listening while Service query-frontend still sends requests: it needs a preStop pause",
		},
		"disk that is not ours": {
			"StatefulSet", "compactor", append(slices.Clone(pod), "securityContext"), "fsGroup", nil,
			"StatefulSet compactor: has disks, but no fsGroup to write to them",
		},
		"no account": {
			"Deployment", "bucket-web", pod, "serviceAccountName", "bucket",
			"Deployment bucket-web: there is no ServiceAccount bucket",
		},
		"no limit": {
			"Deployment", "bucket-web", append(slices.Clone(first), "resources"), "limits", nil,
			"Deployment bucket-web: container bucket-web has no memory limit",
		},
		"probe at a closed port": {
			"Deployment", "bucket-web", append(slices.Clone(first), "readinessProbe", "httpGet"), "port", "web",
			`Deployment bucket-web: a probe of container bucket-web asks the port "web", which is not open`,
		},
		"autoscaler against the manifest": {
			"Deployment", "querier",
			[]any{"spec"},
			"replicas", 2,
			"HorizontalPodAutoscaler querier: Deployment querier says its replicas itself: each apply would take back what the autoscaler did",
		},
		"nothing to measure by": {
			"Deployment", "querier", append(slices.Clone(first), "resources", "requests"), "cpu", nil,
			"HorizontalPodAutoscaler querier: container querier requests no cpu to compare with",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := overlay(t, "receive", everything["receive"]...)
			i := slices.IndexFunc(objects, func(o render.Object) bool { return o.Kind() == c.kind && o.Name() == c.name })
			require.GreaterOrEqual(t, i, 0)
			place, ok := at(t, map[string]any(objects[i]), c.path...).(map[string]any)
			require.True(t, ok)
			place[c.key] = c.value
			if c.value == nil {
				delete(place, c.key)
			}
			problems, err := wiring.Check(objects, wiringConfig())
			require.NoError(t, err)
			require.Contains(t, problems, c.want)
		})
	}
}
