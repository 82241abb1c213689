package wiring

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/promontory-io/promontory/tools/manifests/internal/render"
)

// Config says what the manifests cannot say themselves.
type Config struct {
	// Outside are objects, as "Kind name", that somebody else makes.
	Outside []string
	// Ours is the beginning of the images of our own programs.
	Ours string
	// GraceSeconds is how long one of our programs takes at most to end the requests it has.
	GraceSeconds int
	// SettleSeconds is how long the addresses of pods are remembered by those who look them up.
	SettleSeconds int
}

// Check returns what is wrong between objects, each problem naming the object.
func Check(objects []render.Object, config Config) ([]string, error) {
	s, err := read(objects)
	if err != nil {
		return nil, err
	}
	for _, name := range config.Outside {
		s.names[name] = true
	}
	c := checker{system: s, Config: config}
	c.serviceEnds()
	c.policyEnds()
	c.selectors()
	c.autoscaling()
	for _, w := range s.workloads {
		c.volumes(w)
		c.containers(w)
		c.ending(w)
		c.references(w)
	}
	slices.Sort(c.problems)
	return slices.Compact(c.problems), nil
}

type checker struct {
	*system
	Config
	problems []string
}

func (c *checker) say(about fmt.Stringer, format string, args ...any) {
	c.problems = append(c.problems, about.String()+": "+fmt.Sprintf(format, args...))
}

func (s *service) String() string    { return "Service " + s.Metadata.Name }
func (p *policy) String() string     { return "NetworkPolicy " + p.Metadata.Name }
func (b *budget) String() string     { return "PodDisruptionBudget " + b.Metadata.Name }
func (a *autoscaler) String() string { return "HorizontalPodAutoscaler " + a.Metadata.Name }
func (i *ingress) String() string    { return "Ingress " + i.Metadata.Name }

// serviceEnds looks whether somebody stands behind every service and ingress.
func (c *checker) serviceEnds() {
	for _, svc := range c.services {
		pods := c.selected(svc.Spec.Selector)
		if len(pods) != 1 {
			c.say(svc, "selects the pods of %d workloads, not of one", len(pods))
			continue
		}
		for _, p := range svc.Spec.Ports {
			if !pods[0].opens(string(p.TargetPort)) {
				c.say(svc, "port %s leads to %q, which %s does not open", p.Name, p.TargetPort, pods[0])
			}
		}
	}
	for _, i := range c.ingresses {
		for _, rule := range i.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				to := path.Backend.Service
				name := to.Port.Name
				if name == "" {
					name = fmt.Sprint(to.Port.Number)
				}
				svc := c.service(to.Name)
				if svc == nil || svc.target(name) == "" {
					c.say(i, "there is no service %s with a port %s", to.Name, name)
					continue
				}
				for _, w := range c.selected(svc.Spec.Selector) {
					if !c.lets(nil, w, svc.target(name)) {
						c.say(i, "a network policy keeps what it brings from port %s of %s", svc.target(name), w)
					}
				}
			}
		}
	}
	for _, w := range c.workloads {
		if name := w.Spec.ServiceName; w.Kind == "StatefulSet" && c.service(name) == nil {
			c.say(w, "there is no service %q to name its pods", name)
		}
	}
}

// policyEnds looks whether every policy is about somebody, and about ports that are there.
func (c *checker) policyEnds() {
	for _, p := range c.policies {
		pods := c.selected(p.Spec.PodSelector.MatchLabels)
		if len(pods) == 0 {
			c.say(p, "selects no pod")
		}
		for _, w := range pods {
			for _, rule := range p.Spec.Ingress {
				for _, port := range rule.Ports {
					if !w.opens(string(port.Port)) {
						c.say(p, "lets traffic to port %s, which %s does not open", port.Port, w)
					}
				}
			}
			// Scrapes come from other namespaces, and what a load balancer or an ingress brings may come from a node's address.
			for _, public := range []string{"http", "web"} {
				if w.opens(public) && !c.lets(nil, w, public) {
					c.say(p, "keeps those outside the namespace from port %s of %s", public, w)
				}
			}
		}
	}
}

// lets tells whether policies let traffic from pods with these labels to a port of w; labels of nil are an address that
// is no pod's. A pod that no policy selects takes everything.
func (c *checker) lets(from labels, w *workload, port string) bool {
	open := true
	for _, p := range c.policies {
		if !w.labels().has(p.Spec.PodSelector.MatchLabels) {
			continue
		}
		open = false
		for _, rule := range p.Spec.Ingress {
			toPort := len(rule.Ports) == 0
			for _, allowed := range rule.Ports {
				toPort = toPort || string(allowed.Port) == port
			}
			fromPod := len(rule.From) == 0
			for _, peer := range rule.From {
				if from != nil && peer.NamespaceSelector == nil && peer.PodSelector != nil {
					fromPod = fromPod || from.has(peer.PodSelector.MatchLabels)
				}
			}
			if toPort && fromPod {
				return true
			}
		}
	}
	return open
}

// selectors looks whether disruption budgets are about somebody.
func (c *checker) selectors() {
	for _, b := range c.budgets {
		if n := len(c.selected(b.Spec.Selector.MatchLabels)); n != 1 {
			c.say(b, "selects the pods of %d workloads, not of one", n)
		}
	}
}

// autoscaling looks whether autoscalers can count, and whether nobody works against them.
func (c *checker) autoscaling() {
	for _, a := range c.autoscalers {
		to := a.Spec.ScaleTargetRef
		i := slices.IndexFunc(c.workloads, func(w *workload) bool { return w.Kind == to.Kind && w.Metadata.Name == to.Name })
		if i < 0 {
			c.say(a, "there is no %s %s", to.Kind, to.Name)
			continue
		}
		w := c.workloads[i]
		if w.Spec.Replicas != nil {
			c.say(a, "%s says its replicas itself: each apply would take back what the autoscaler did", w)
		}
		for _, metric := range a.Spec.Metrics {
			for _, container := range w.containers() {
				if container.Resources.Requests[metric.Resource.Name] == nil {
					c.say(a, "container %s requests no %s to compare with", container.Name, metric.Resource.Name)
				}
			}
		}
	}
}

// volumes looks whether what a pod mounts and who it runs as is there, and whether it may write to its disks.
func (c *checker) volumes(w *workload) {
	want := func(object string) {
		if !c.names[object] {
			c.say(w, "there is no %s", object)
		}
	}
	if name := w.pod().ServiceAccountName; name != "" {
		want("ServiceAccount " + name)
	}
	for _, v := range w.pod().Volumes {
		if v.ConfigMap != nil {
			want("ConfigMap " + v.ConfigMap.Name)
		}
		if v.Secret != nil {
			want("Secret " + v.Secret.SecretName)
		}
	}
	if len(w.Spec.VolumeClaimTemplates) > 0 && w.pod().SecurityContext.FsGroup == nil {
		c.say(w, "has disks, but no fsGroup to write to them")
	}
}

// containers looks at what each container promises.
func (c *checker) containers(w *workload) {
	for _, container := range append(slices.Clone(w.pod().InitContainers), w.containers()...) {
		if container.Resources.Limits["memory"] == nil {
			c.say(w, "container %s has no memory limit", container.Name)
		}
		if c.ours(container) && !slices.Contains(container.Args, "--enable-auto-gomemlimit") {
			c.say(w, "container %s does not keep Go's memory below its limit", container.Name)
		}
		for _, p := range []*probe{container.ReadinessProbe, container.LivenessProbe} {
			var port string
			switch {
			case p == nil:
				continue
			case p.HTTPGet != nil:
				port = string(p.HTTPGet.Port)
			case p.TCPSocket != nil:
				port = string(p.TCPSocket.Port)
			}
			if !w.opens(port) {
				c.say(w, "a probe of container %s asks the port %q, which is not open", container.Name, port)
			}
		}
	}
}

func (c *checker) ours(container container) bool { return strings.HasPrefix(container.Image, c.Ours) }

// ending looks whether a pod has the time to end its requests, and whether nobody sends it new ones meanwhile.
func (c *checker) ending(w *workload) {
	for _, container := range w.containers() {
		if !c.ours(container) {
			continue
		}
		grace, pause := 30, 0
		if g := w.pod().TerminationGracePeriodSeconds; g != nil {
			grace = *g
		}
		if container.Lifecycle.PreStop != nil {
			pause = container.Lifecycle.PreStop.Sleep.Seconds
		}
		if need := c.GraceSeconds + pause; grace <= need {
			c.say(w, "is killed after %d seconds, but may take %d to end its requests", grace, need)
		}
		// A service's address goes on leading to a pod for some seconds after the pod was told to stop.
		for _, svc := range c.services {
			if w.labels().has(svc.Spec.Selector) && !svc.headless() && w.Kind == "Deployment" && pause == 0 {
				c.say(w, "stops listening while %s still sends requests: it needs a preStop pause", svc)
			}
		}
	}
}

var (
	srvName  = regexp.MustCompile(`_([a-z0-9-]+)\._tcp\.([a-z0-9-]+)`)
	hostPort = regexp.MustCompile(`(?:^|[/ "'=+])(?:([a-z][a-z0-9-]*-\d+)\.)?([a-z][a-z0-9-]*):(\d+)\b`)
)

// references follows every name of a service in the arguments and files of a pod's containers.
func (c *checker) references(w *workload) {
	var texts []string
	for _, container := range w.containers() {
		texts = append(texts, container.Args...)
	}
	for _, v := range w.pod().Volumes {
		if v.ConfigMap != nil {
			for _, content := range c.files[v.ConfigMap.Name] {
				texts = append(texts, strings.Split(content, "\n")...)
			}
		}
	}
	for _, text := range texts {
		if strings.HasPrefix(strings.TrimSpace(text), "#") {
			continue
		}
		for _, m := range srvName.FindAllStringSubmatch(text, -1) {
			c.reference(w, m[0], m[2], m[1])
			if svc := c.service(m[2]); svc != nil && m[1] == "grpc" {
				c.settles(w, svc)
				if !svc.headless() {
					c.say(w, "%s finds one address for all pods: %s is not headless", m[0], svc)
				}
			}
		}
		for _, m := range hostPort.FindAllStringSubmatch(text, -1) {
			pod, name, port := m[1], m[2], m[3]
			if c.service(name) == nil && !c.selfContained(name) {
				continue // an address outside, or no address at all
			}
			c.reference(w, strings.TrimLeft(m[0], `/ "'=+`), name, port)
			if pod != "" {
				c.namedPod(w, pod, name)
			}
		}
	}
}

// selfContained tells whether a name is that of a workload, and so must be that of a service too.
func (c *checker) selfContained(name string) bool {
	return slices.ContainsFunc(c.workloads, func(w *workload) bool { return w.Metadata.Name == name })
}

// reference looks whether w gets through to a port of a service.
func (c *checker) reference(w *workload, text, name, port string) {
	svc := c.service(name)
	if svc == nil || svc.target(port) == "" {
		c.say(w, "%s: there is no service %s with a port %s", text, name, port)
		return
	}
	for _, to := range c.selected(svc.Spec.Selector) {
		if !c.lets(w.labels(), to, svc.target(port)) {
			c.say(w, "%s: a network policy keeps it from port %s of %s", text, svc.target(port), to)
		}
	}
}

// namedPod looks whether a pod that is named exists and has a name of its own.
func (c *checker) namedPod(w *workload, pod, name string) {
	svc := c.service(name)
	for _, to := range c.selected(svc.Spec.Selector) {
		i := strings.LastIndexByte(pod, '-')
		var n int
		if _, err := fmt.Sscanf(pod[i+1:], "%d", &n); err != nil || pod[:i] != to.Metadata.Name || n >= to.replicas() {
			c.say(w, "%s.%s: %s has %d pods and none of that name", pod, name, to, to.replicas())
		}
		if to.Kind != "StatefulSet" || to.Spec.ServiceName != name || !svc.headless() {
			c.say(w, "%s.%s: the pods of %s have no names of their own there", pod, name, to)
		}
	}
	c.settles(w, svc)
}

// settles looks whether w learns the new address of a pod before the next one is replaced.
func (c *checker) settles(w *workload, svc *service) {
	for _, to := range c.selected(svc.Spec.Selector) {
		if to.replicas() > 1 && to.Spec.MinReadySeconds < c.SettleSeconds {
			c.say(to, "a rollout goes on %d seconds after a pod is ready, but %s may know its old address for %d",
				to.Spec.MinReadySeconds, w, c.SettleSeconds)
		}
	}
}
