// Package cluster runs rendered manifests without a cluster.
//
// Every container becomes a process on this machine with the argument list of the manifest. What a kubelet would do for
// it is done here: names of environment variables are filled in, volumes become folders, config maps and secrets become
// files in them. What the cluster's network would do is a substitution: every listening address becomes a free port of
// the loopback address, and every service name that another container refers to becomes the addresses of that service's
// pods. Nothing else of an argument list changes.
package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/promontory-io/promontory/tools/manifests/internal/render"
)

// workload is the part of a Deployment or StatefulSet that matters here.
type workload struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Replicas *int
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     podSpec
		}
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } }
	}
}

type podSpec struct {
	InitContainers, Containers []Container
	Volumes                    []volume
}

// Container is one container of a pod.
type Container struct {
	Name, Image string
	Args        []string
	Command     []string
	Env         []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef     struct{ FieldPath string }
			SecretKeyRef struct{ Name, Key string }
		}
	}
	Ports []struct {
		Name          string
		ContainerPort int
	}
	ReadinessProbe *struct {
		HTTPGet *struct{ Path, Port string }
	}
	VolumeMounts []struct{ Name, MountPath string }
}

type volume struct {
	Name      string
	ConfigMap *struct{ Name string }
	Secret    *struct{ SecretName string }
	EmptyDir  map[string]any
}

type service struct {
	Metadata struct{ Name string }
	Spec     struct {
		Selector map[string]string
		Ports    []struct {
			Name       string
			Port       int
			TargetPort string
		}
	}
}

// Pod is one replica of a workload.
type Pod struct {
	Name     string // querier-0
	Workload string // querier
	labels   map[string]string
	volumes  []volume
	claims   []string
	// Init are the containers that run one after another before the others start.
	Init, Containers []Container
}

// Cluster is what a set of manifests says, in the order in which it says it.
type Cluster struct {
	Pods     []Pod
	services []service
	// files are the contents of config maps and secrets: kind and name of the object, then file, then content.
	files map[string]map[string]string
}

// Read takes manifests apart. Objects of other kinds do not run anything and are passed over.
func Read(objects []render.Object) (*Cluster, error) {
	c := &Cluster{files: map[string]map[string]string{}}
	for _, o := range objects {
		var err error
		switch o.Kind() {
		case "Deployment", "StatefulSet":
			err = c.addWorkload(o)
		case "Service":
			var s service
			if err = convert(o, &s); err == nil {
				c.services = append(c.services, s)
			}
		case "ConfigMap", "Secret":
			err = c.addFiles(o)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.Kind(), o.Name(), err)
		}
	}
	return c, nil
}

// convert reads an object into the fields of v that it knows, by their names without regard to case.
func convert(o render.Object, v any) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

func (c *Cluster) addWorkload(o render.Object) error {
	var w workload
	if err := convert(o, &w); err != nil {
		return err
	}
	replicas := 1
	if w.Spec.Replicas != nil {
		replicas = *w.Spec.Replicas
	}
	var claims []string
	for _, claim := range w.Spec.VolumeClaimTemplates {
		claims = append(claims, claim.Metadata.Name)
	}
	template := w.Spec.Template
	for i := range replicas {
		c.Pods = append(c.Pods, Pod{
			Name: fmt.Sprintf("%s-%d", w.Metadata.Name, i), Workload: w.Metadata.Name, labels: template.Metadata.Labels,
			volumes: template.Spec.Volumes, claims: claims, Init: template.Spec.InitContainers, Containers: template.Spec.Containers,
		})
	}
	return nil
}

func (c *Cluster) addFiles(o render.Object) error {
	data, _ := o["data"].(map[string]any)
	files := map[string]string{}
	for name, value := range data {
		text := fmt.Sprint(value)
		if o.Kind() == "Secret" {
			raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
			if err != nil {
				return fmt.Errorf("key %s: %w", name, err)
			}
			text = string(raw)
		}
		files[name] = text
	}
	c.files[o.Kind()+"/"+o.Name()] = files
	return nil
}

// SetSecret puts the content of a secret that the manifests expect from elsewhere.
func (c *Cluster) SetSecret(name string, files map[string]string) { c.files["Secret/"+name] = files }

// selected tells whether a service's selector takes in a pod.
func (s service) selected(p Pod) bool {
	for key, value := range s.Spec.Selector {
		if p.labels[key] != value {
			return false
		}
	}
	return len(s.Spec.Selector) > 0
}
