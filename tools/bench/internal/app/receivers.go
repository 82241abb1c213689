package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/promontory-io/promontory/libs/procs"
)

// fresh is an empty folder for the data of a target.
func fresh(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.RemoveAll(path); err != nil {
		return "", fmt.Errorf("clear data folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	return path, nil
}

// prometheus is the yardstick: the same job done by a real Prometheus.
func (c *receiveConfig) prometheus(dir string) (t target, err error) {
	data, err := fresh(dir, "prometheus")
	if err != nil {
		return t, err
	}
	config := filepath.Join(data, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		return t, fmt.Errorf("write configuration: %w", err)
	}
	addrs, err := procs.FreeAddrs(1)
	if err != nil {
		return t, err
	}
	return target{
		name: "prometheus", title: "Prometheus", url: "http://" + addrs[0] + "/api/v1/write", http: addrs,
		specs: []procs.Spec{{
			Name: "prometheus", Binary: filepath.Join(c.peers, "prometheus"), Source: "make peers", Ready: "http://" + addrs[0] + "/-/ready",
			Args: []string{
				"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(data, "data"), "--web.listen-address=" + addrs[0],
				"--web.enable-remote-write-receiver",
			},
		}},
	}, nil
}

// receiver is one of ours; it returns its gRPC and write addresses too.
func (c *receiveConfig) receiver(name string, args ...string) (spec procs.Spec, httpAddr, grpc, write string, err error) {
	addrs, err := procs.FreeAddrs(3)
	if err != nil {
		return spec, "", "", "", err
	}
	return procs.Spec{
		Name: name, Binary: filepath.Join(c.Bin, "receiver"), Source: "make build", Ready: "http://" + addrs[0] + "/-/ready",
		Args: append([]string{"--http-address=" + addrs[0], "--grpc-address=" + addrs[1], "--remote-write.address=" + addrs[2], "--log.level=warn"}, args...),
	}, addrs[0], addrs[1], addrs[2], nil
}

// node is one receiver that keeps all.
func (c *receiveConfig) node(dir string) (t target, err error) {
	data, err := fresh(dir, "node")
	if err != nil {
		return t, err
	}
	spec, httpAddr, _, write, err := c.receiver("node", `--label=replica="a"`, "--tsdb.path="+data)
	if err != nil {
		return t, err
	}
	return target{
		name: "node", title: "one node", url: "http://" + write + "/api/v1/receive",
		specs: []procs.Spec{spec}, http: []string{httpAddr},
	}, nil
}

// cluster is a router with three ingesters, replication factor 3.
func (c *receiveConfig) cluster(dir string) (t target, err error) {
	data, err := fresh(dir, "cluster")
	if err != nil {
		return t, err
	}
	t = target{name: "cluster", title: "router and 3, replication 3"}
	var endpoints []string
	for i := range 3 {
		name := fmt.Sprintf("ingester-%d", i)
		spec, httpAddr, grpc, _, err := c.receiver(name, fmt.Sprintf("--label=replica=%q", name), "--tsdb.path="+filepath.Join(data, name))
		if err != nil {
			return t, err
		}
		t.specs, t.http, endpoints = append(t.specs, spec), append(t.http, httpAddr), append(endpoints, grpc)
	}
	rings, err := json.Marshal([]map[string]any{{"endpoints": endpoints}})
	if err != nil {
		return t, fmt.Errorf("encode hashrings: %w", err)
	}
	spec, httpAddr, _, write, err := c.receiver("router", "--receive.hashrings="+string(rings), "--receive.hashrings-algorithm=ketama", "--receive.replication-factor=3")
	if err != nil {
		return t, err
	}
	spec.After = []string{"ingester-0", "ingester-1", "ingester-2"}
	t.specs, t.http = append([]procs.Spec{spec}, t.specs...), append([]string{httpAddr}, t.http...)
	t.url = "http://" + write + "/api/v1/receive"
	return t, nil
}

// profileSeconds is shorter than the rows at their default length.
const profileSeconds = 5

// profiles begins a CPU profile of each process; the returned function waits for them.
func (c *receiveConfig) profiles(ctx context.Context, t target) func() error {
	var g errgroup.Group
	for i, s := range t.specs {
		g.Go(func() error {
			return fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", t.http[i], profileSeconds), filepath.Join(c.profile, t.name+"-"+s.Name+".pprof"))
		})
	}
	return g.Wait
}

// fetch writes what url answers to a file.
func fetch(ctx context.Context, url, path string) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile %s: %s", url, resp.Status)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
