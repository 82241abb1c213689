package cluster

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/promontory-io/promontory/libs/procs"
)

// Program says how an image is run on this machine.
type Program struct {
	Binary, Source string
	// Of, where it is set, says which program an image of several runs with such arguments.
	Of func(args []string) (Program, error)
	// Rewrite, where it is set, changes the arguments that this machine's program of the same job does not know. addr is
	// where it must listen, dirs are the folders of the mount paths.
	Rewrite func(args []string, addr string, dirs map[string]string) []string
}

// Processes returns what runs of pods, in their order. images maps the image, without its tag, to the program; an image
// that it does not hold is an error.
func (l *Local) Processes(images map[string]Program) ([]Process, error) {
	var out []Process
	for _, p := range l.cluster.Pods {
		for _, container := range p.Containers {
			process, err := l.process(p, container, images)
			if err != nil {
				return nil, fmt.Errorf("pod %s: container %s: %w", p.Name, container.Name, err)
			}
			out = append(out, process)
		}
	}
	return out, nil
}

// Initial returns the commands of the init containers of all pods, in their order. Each says its command, since the
// programs of other images are not here.
func (l *Local) Initial() ([][]string, error) {
	var out [][]string
	for _, p := range l.cluster.Pods {
		for _, container := range p.Init {
			if len(container.Command) == 0 {
				return nil, fmt.Errorf("pod %s: init container %s does not say its command", p.Name, container.Name)
			}
			dirs, err := l.mounts(p, container)
			if err != nil {
				return nil, err
			}
			command := container.Command[:1:1]
			for _, arg := range append(container.Command[1:len(container.Command):len(container.Command)], container.Args...) {
				command = append(command, replacePath(arg, dirs))
			}
			out = append(out, command)
		}
	}
	return out, nil
}

func (l *Local) process(p Pod, container Container, images map[string]Program) (Process, error) {
	image, _, _ := strings.Cut(container.Image, ":")
	program, ok := images[image]
	if !ok {
		return Process{}, fmt.Errorf("no program stands for the image %s", image)
	}
	var err error
	if program.Of != nil {
		if program, err = program.Of(container.Args); err != nil {
			return Process{}, err
		}
	}
	dirs, err := l.mounts(p, container)
	if err != nil {
		return Process{}, err
	}
	env, err := l.env(p, container)
	if err != nil {
		return Process{}, err
	}
	args, err := l.args(p, container, env, dirs)
	if err != nil {
		return Process{}, err
	}
	out := Process{Pod: p.Name, Container: container.Name, Image: image, Spec: procs.Spec{
		Name: p.Name + "." + container.Name, Binary: program.Binary, Source: program.Source, Args: args, Dir: l.dir,
	}}
	for name, value := range env {
		out.Env = append(out.Env, name+"="+value)
	}
	var first string
	for _, port := range container.Ports {
		addr := l.Addr(p.Name, port.ContainerPort)
		out.Listen = append(out.Listen, procs.Address{Purpose: port.Name, Addr: addr})
		if first == "" {
			first = addr
		}
		if port.Name == "http" || port.Name == "web" {
			out.HTTP = addr
		}
	}
	if program.Rewrite != nil {
		out.Args = program.Rewrite(args, first, dirs)
		return out, nil
	}
	out.Ready, err = l.ready(p, container)
	return out, err
}

// ready is the URL of the readiness probe.
func (l *Local) ready(p Pod, container Container) (string, error) {
	if container.ReadinessProbe == nil || container.ReadinessProbe.HTTPGet == nil {
		return "", fmt.Errorf("has no readiness probe over HTTP")
	}
	get := container.ReadinessProbe.HTTPGet
	for _, port := range container.Ports {
		if port.Name == get.Port {
			return "http://" + l.Addr(p.Name, port.ContainerPort) + get.Path, nil
		}
	}
	return "", fmt.Errorf("the readiness probe asks the port %q, which it does not have", get.Port)
}

func (l *Local) env(p Pod, container Container) (map[string]string, error) {
	env := map[string]string{}
	for _, e := range container.Env {
		switch {
		case e.ValueFrom.FieldRef.FieldPath == "metadata.name":
			env[e.Name] = p.Name
		case e.ValueFrom.FieldRef.FieldPath != "":
			return nil, fmt.Errorf("environment variable %s: field %s is not known here", e.Name, e.ValueFrom.FieldRef.FieldPath)
		case e.ValueFrom.SecretKeyRef.Name != "":
			ref := e.ValueFrom.SecretKeyRef
			value, ok := l.cluster.files["Secret/"+ref.Name][ref.Key]
			if !ok {
				return nil, fmt.Errorf("environment variable %s: secret %s has no key %s", e.Name, ref.Name, ref.Key)
			}
			env[e.Name] = value
		default:
			env[e.Name] = e.Value
		}
	}
	return env, nil
}

var (
	anyAddress = regexp.MustCompile(`(?:0\.0\.0\.0|127\.0\.0\.1):(\d+)`)
	variable   = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)
)

// args is the argument list as the container would see it, with addresses and paths of this machine.
func (l *Local) args(p Pod, container Container, env map[string]string, dirs map[string]string) ([]string, error) {
	var out []string
	for _, arg := range container.Args {
		arg = variable.ReplaceAllStringFunc(arg, func(ref string) string {
			if value, ok := env[variable.FindStringSubmatch(ref)[1]]; ok {
				return value
			}
			return ref // a kubelet leaves it too
		})
		var unknown string
		arg = anyAddress.ReplaceAllStringFunc(arg, func(text string) string {
			addr := l.addrs[p.Name+"/"+anyAddress.FindStringSubmatch(text)[1]]
			if addr == "" {
				unknown = text
			}
			return addr
		})
		if unknown != "" {
			return nil, fmt.Errorf("argument %q: no container port for %s", arg, unknown)
		}
		texts, err := l.expand(replacePath(arg, dirs))
		if err != nil {
			return nil, err
		}
		out = append(out, texts...)
	}
	return out, nil
}

// replacePath puts the folder of a mount path in its place where an argument's value begins with it. The longest mount path
// wins, and it is done once: a folder of this machine may lie below what is a mount path there.
func replacePath(arg string, dirs map[string]string) string {
	name, value, found := strings.Cut(arg, "=")
	if found {
		name += "="
	} else {
		name, value = "", arg
	}
	var best string
	for mount := range dirs {
		if len(mount) > len(best) && (value == mount || strings.HasPrefix(value, mount+"/")) {
			best = mount
		}
	}
	return name + dirs[best] + strings.TrimPrefix(value, best)
}
