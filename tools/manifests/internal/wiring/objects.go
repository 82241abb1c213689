// Package wiring finds what a set of manifests gets wrong between its objects: names that lead nowhere, ports that nobody
// opens, policies that keep out who must come in, pods that end before their requests do.
//
// The API server takes all of these without a word, since each object may be right by itself. The checks are pure: they
// take rendered manifests and return what is wrong.
package wiring

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/promontory-io/promontory/tools/manifests/internal/render"
)

type labels map[string]string

// has tells whether all of want are among l.
func (l labels) has(want labels) bool {
	for key, value := range want {
		if l[key] != value {
			return false
		}
	}
	return true
}

type selector struct{ MatchLabels labels }

type metadata struct {
	Name   string
	Labels labels
}

type workload struct {
	Kind     string
	Metadata metadata
	Spec     struct {
		Replicas        *int
		ServiceName     string
		MinReadySeconds int
		Template        struct {
			Metadata metadata
			Spec     podSpec
		}
		VolumeClaimTemplates []struct{ Metadata metadata }
	}
}

func (w *workload) String() string          { return w.Kind + " " + w.Metadata.Name }
func (w *workload) labels() labels          { return w.Spec.Template.Metadata.Labels }
func (w *workload) pod() *podSpec           { return &w.Spec.Template.Spec }
func (w *workload) containers() []container { return w.Spec.Template.Spec.Containers }

// replicas is how many pods the manifest asks for; 1 where it leaves that to others.
func (w *workload) replicas() int {
	if w.Spec.Replicas == nil {
		return 1
	}
	return *w.Spec.Replicas
}

// opens tells whether a container has a port of that name or number.
func (w *workload) opens(port string) bool {
	for _, c := range w.containers() {
		for _, p := range c.Ports {
			if p.Name == port || fmt.Sprint(p.ContainerPort) == port {
				return true
			}
		}
	}
	return false
}

type podSpec struct {
	ServiceAccountName            string
	TerminationGracePeriodSeconds *int
	SecurityContext               struct{ FsGroup *int }
	InitContainers, Containers    []container
	Volumes                       []struct {
		Name      string
		ConfigMap *struct{ Name string }
		Secret    *struct{ SecretName string }
	}
}

type probe struct {
	HTTPGet   *struct{ Port port }
	TCPSocket *struct{ Port port }
}

type container struct {
	Name, Image string
	Args        []string
	Ports       []struct {
		Name          string
		ContainerPort int
	}
	ReadinessProbe, LivenessProbe *probe
	Lifecycle                     struct {
		PreStop *struct{ Sleep struct{ Seconds int } }
	}
	Resources struct{ Requests, Limits map[string]any }
}

// port is a number or a name.
type port string

func (p *port) UnmarshalJSON(text []byte) error {
	*p = port(strings.Trim(string(text), `"`))
	return nil
}

type service struct {
	Metadata metadata
	Spec     struct {
		ClusterIP string
		Selector  labels
		Ports     []struct {
			Name       string
			Port       int
			TargetPort port
		}
	}
}

func (s *service) headless() bool { return s.Spec.ClusterIP == "None" }

// target is the container port behind a port of the service, by its name or number; empty where it has no such port.
func (s *service) target(name string) string {
	for _, p := range s.Spec.Ports {
		if p.Name == name || fmt.Sprint(p.Port) == name {
			return string(p.TargetPort)
		}
	}
	return ""
}

type policy struct {
	Metadata metadata
	Spec     struct {
		PodSelector selector
		Ingress     []struct {
			From  []struct{ PodSelector, NamespaceSelector *selector }
			Ports []struct{ Port port }
		}
	}
}

type budget struct {
	Metadata metadata
	Spec     struct{ Selector selector }
}

type autoscaler struct {
	Metadata metadata
	Spec     struct {
		ScaleTargetRef struct{ Kind, Name string }
		Metrics        []struct{ Resource struct{ Name string } }
	}
}

type ingress struct {
	Metadata metadata
	Spec     struct {
		Rules []struct {
			HTTP struct {
				Paths []struct {
					Backend struct {
						Service struct {
							Name string
							Port struct {
								Name   string
								Number int
							}
						}
					}
				}
			}
		}
	}
}

// system is a set of manifests, taken apart.
type system struct {
	workloads   []*workload
	services    []*service
	policies    []*policy
	budgets     []*budget
	autoscalers []*autoscaler
	ingresses   []*ingress
	// names holds "Kind name" of every object.
	names map[string]bool
	// files are the contents of config maps: name of the object, then file.
	files map[string]map[string]string
}

func read(objects []render.Object) (*system, error) {
	s := &system{names: map[string]bool{}, files: map[string]map[string]string{}}
	for _, o := range objects {
		s.names[o.Kind()+" "+o.Name()] = true
		var err error
		switch o.Kind() {
		case "Deployment", "StatefulSet":
			err = add(o, &s.workloads)
		case "Service":
			err = add(o, &s.services)
		case "NetworkPolicy":
			err = add(o, &s.policies)
		case "PodDisruptionBudget":
			err = add(o, &s.budgets)
		case "HorizontalPodAutoscaler":
			err = add(o, &s.autoscalers)
		case "Ingress":
			err = add(o, &s.ingresses)
		case "ConfigMap":
			data, _ := o["data"].(map[string]any)
			files := map[string]string{}
			for name, content := range data {
				files[name] = fmt.Sprint(content)
			}
			s.files[o.Name()] = files
		}
		if err != nil {
			return nil, fmt.Errorf("read %s %s: %w", o.Kind(), o.Name(), err)
		}
	}
	return s, nil
}

func add[T any](o render.Object, to *[]*T) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return err
	}
	*to = append(*to, v)
	return nil
}

func (s *system) service(name string) *service {
	for _, svc := range s.services {
		if svc.Metadata.Name == name {
			return svc
		}
	}
	return nil
}

// selected are the workloads whose pods have the labels.
func (s *system) selected(want labels) []*workload {
	var out []*workload
	for _, w := range s.workloads {
		if len(want) > 0 && w.labels().has(want) {
			out = append(out, w)
		}
	}
	return out
}
