package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/promontory-io/promontory/libs/procs"
	"go.yaml.in/yaml/v3"
)

// Local is a cluster laid out on this machine: where each container listens, and in which folders its volumes are.
type Local struct {
	cluster *Cluster
	dir     string
	addrs   map[string]string // "pod/port number" to the loopback address
}

// Process is a container that can be started here.
type Process struct {
	procs.Spec

	Pod, Container, Image string
	// HTTP is the address of the port named http or web; empty where there is none.
	HTTP string
}

// Place gives every container port of c a free address, and every volume a folder below dir.
func Place(c *Cluster, dir string) (*Local, error) {
	l := &Local{cluster: c, dir: dir, addrs: map[string]string{}}
	var keys []string
	for _, p := range c.Pods {
		for _, container := range p.Containers {
			for _, port := range container.Ports {
				keys = append(keys, key(p.Name, port.ContainerPort))
			}
		}
	}
	free, err := procs.FreeAddrs(len(keys))
	if err != nil {
		return nil, fmt.Errorf("find free addresses: %w", err)
	}
	for i, k := range keys {
		if _, taken := l.addrs[k]; taken {
			return nil, fmt.Errorf("two containers of one pod have the port %s", k)
		}
		l.addrs[k] = free[i]
	}
	return l, nil
}

func key(pod string, port int) string { return fmt.Sprintf("%s/%d", pod, port) }

// Addr is where the port of a pod is on this machine; empty when the pod has no such port.
func (l *Local) Addr(pod string, port int) string { return l.addrs[key(pod, port)] }

// backends are the addresses behind a port of a service, by its name or number.
func (l *Local) backends(s service, port string) []string {
	var addrs []string
	for _, sp := range s.Spec.Ports {
		if sp.Name != port && fmt.Sprint(sp.Port) != port {
			continue
		}
		for _, p := range l.cluster.Pods {
			if !s.selected(p) {
				continue
			}
			for _, container := range p.Containers {
				for _, cp := range container.Ports {
					if cp.Name == sp.TargetPort || fmt.Sprint(cp.ContainerPort) == sp.TargetPort {
						addrs = append(addrs, l.Addr(p.Name, cp.ContainerPort))
					}
				}
			}
		}
	}
	return addrs
}

// srv matches a reference to all pods of a service by the SRV records of a named port.
var srv = regexp.MustCompile(`dnssrv\+(https?://)?_([a-z0-9-]+)\._tcp\.([a-z0-9-]+)(\.[a-z0-9.-]+)?`)

// expand replaces references to services in text. A reference to several pods makes several texts.
func (l *Local) expand(text string) ([]string, error) {
	if m := srv.FindStringSubmatchIndex(text); m != nil {
		group := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return text[m[2*i]:m[2*i+1]]
		}
		var out []string
		s, err := l.service(group(3))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		for _, addr := range l.backends(s, group(2)) {
			out = append(out, text[:m[0]]+group(1)+addr+text[m[1]:])
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("%q: service %s has no pod with a port %s", text, group(3), group(2))
		}
		return out, nil
	}
	return []string{l.replaceNames(text)}, nil
}

func (l *Local) service(name string) (service, error) {
	for _, s := range l.cluster.services {
		if s.Metadata.Name == name {
			return s, nil
		}
	}
	return service{}, fmt.Errorf("there is no service %s", name)
}

// domain is what a cluster appends to the name of a service.
const domain = `(?:\.[a-z0-9-]+\.svc(?:\.cluster\.local)?)?`

// replaceNames replaces pod.service:port by the pod's address, and service:port by that of its first pod.
func (l *Local) replaceNames(text string) string {
	replace := func(name string, port int, addr string) {
		if addr == "" {
			return
		}
		re := regexp.MustCompile(`(^|[/ "'=])` + regexp.QuoteMeta(name) + domain + fmt.Sprintf(`:%d\b`, port))
		text = re.ReplaceAllString(text, "${1}"+addr)
	}
	for _, s := range l.cluster.services {
		for _, port := range s.Spec.Ports {
			for _, p := range l.cluster.Pods {
				if s.selected(p) {
					replace(p.Name+"."+s.Metadata.Name, port.Port, l.Addr(p.Name, port.Port))
				}
			}
			if backends := l.backends(s, fmt.Sprint(port.Port)); len(backends) > 0 {
				replace(s.Metadata.Name, port.Port, backends[0])
			}
		}
	}
	return text
}

var quotedSRV = regexp.MustCompile(`"(dnssrv\+[^"]*)"`)

// expandFile does for the content of a config map or secret what expand does for an argument: a quoted reference to
// several pods becomes several quoted addresses.
func (l *Local) expandFile(name, content string) (string, error) {
	var bad error
	content = quotedSRV.ReplaceAllStringFunc(content, func(quoted string) string {
		texts, err := l.expand(strings.Trim(quoted, `"`))
		if err != nil {
			bad = fmt.Errorf("file %s: %w", name, err)
			return quoted
		}
		for i := range texts {
			raw, err := json.Marshal(texts[i])
			if err != nil {
				bad = err
			}
			texts[i] = string(raw)
		}
		return strings.Join(texts, ", ")
	})
	if bad != nil {
		return "", bad
	}
	content = l.replaceNames(content)
	if strings.Contains(content, "kubernetes_sd_configs") {
		return l.staticTargets(content)
	}
	return content, nil
}

// staticTargets puts the addresses of all metrics ports in the place of the discovery through the Kubernetes API, and
// drops the relabelling that reads what that discovery would say.
func (l *Local) staticTargets(content string) (string, error) {
	var config map[string]any
	if err := yaml.Unmarshal([]byte(content), &config); err != nil {
		return "", fmt.Errorf("scrape configuration: %w", err)
	}
	jobs := map[string][]string{}
	for _, p := range l.cluster.Pods {
		for _, container := range p.Containers {
			for _, port := range container.Ports {
				if port.Name == "http" || port.Name == "web" {
					jobs[container.Name] = append(jobs[container.Name], l.Addr(p.Name, port.ContainerPort))
				}
			}
		}
	}
	var scrapes []any
	for _, name := range slices.Sorted(mapKeys(jobs)) {
		scrapes = append(scrapes, map[string]any{
			"job_name": name, "scrape_interval": "1s", "static_configs": []any{map[string]any{"targets": jobs[name]}},
		})
	}
	config["scrape_configs"] = scrapes
	text, err := yaml.Marshal(config)
	return string(text), err
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// mounts makes the folders of a pod's volumes and fills those of config maps and secrets. It returns the folder of each
// mount path of a container.
func (l *Local) mounts(p Pod, container Container) (map[string]string, error) {
	out := map[string]string{}
	for _, m := range container.VolumeMounts {
		dir := filepath.Join(l.dir, p.Name, m.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make volume %s of %s: %w", m.Name, p.Name, err)
		}
		out[m.MountPath] = dir
		if slices.Contains(p.claims, m.Name) {
			continue
		}
		i := slices.IndexFunc(p.volumes, func(v volume) bool { return v.Name == m.Name })
		if i < 0 {
			return nil, fmt.Errorf("pod %s: container %s mounts %q, which is no volume", p.Name, container.Name, m.Name)
		}
		if err := l.fill(p, p.volumes[i], dir); err != nil {
			return nil, fmt.Errorf("pod %s: volume %s: %w", p.Name, m.Name, err)
		}
	}
	return out, nil
}

func (l *Local) fill(p Pod, v volume, dir string) error {
	var object string
	switch {
	case v.ConfigMap != nil:
		object = "ConfigMap/" + v.ConfigMap.Name
	case v.Secret != nil:
		object = "Secret/" + v.Secret.SecretName
	case v.EmptyDir != nil:
		return nil
	default:
		return fmt.Errorf("is of a kind that cannot be laid out here")
	}
	files, ok := l.cluster.files[object]
	if !ok {
		return fmt.Errorf("there is no %s", object)
	}
	for name, content := range files {
		text, err := l.expandFile(name, content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
