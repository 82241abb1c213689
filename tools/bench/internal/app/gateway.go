package app

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/procs"
	"github.com/promontory-io/promontory/tools/bench/internal/rawstream"
)

// filesystem describes a bucket in a folder.
func filesystem(dir string) string {
	return "{type: FILESYSTEM, config: {directory: " + dir + "}}"
}

// gateway is a store-gateway that runs.
type gateway struct {
	process *procs.Process
	http    string
	conn    *grpc.ClientConn
}

// gatewaySpec says how a store-gateway over a bucket is run, keeping its headers in data.
func (c *Config) gatewaySpec(name, bucket, data string, args ...string) (spec procs.Spec, httpAddr, grpcAddr string, err error) {
	addrs, err := procs.FreeAddrs(2)
	if err != nil {
		return spec, "", "", err
	}
	return procs.Spec{
		Name: name, Binary: filepath.Join(c.Bin, "store-gateway"),
		Args: append([]string{
			"--data-dir=" + data, "--objstore.config=" + bucket, "--http-address=" + addrs[0], "--grpc-address=" + addrs[1],
		}, args...),
		Ready: "http://" + addrs[0] + "/-/ready", StartTimeout: 5 * time.Minute,
	}, addrs[0], addrs[1], nil
}

// startGateway runs a store-gateway and returns when it is ready. Its connection is to be closed.
func (c *Config) startGateway(ctx context.Context, group *procs.Group, name, bucket, data string, args ...string) (*gateway, error) {
	spec, httpAddr, grpcAddr, err := c.gatewaySpec(name, bucket, data, args...)
	if err != nil {
		return nil, err
	}
	if err := group.Start(ctx, spec); err != nil {
		return nil, err
	}
	conn, err := rawstream.Dial(grpcAddr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", name, err)
	}
	return &gateway{process: group.Process(name), http: httpAddr, conn: conn}, nil
}

// asked is what a store-gateway has asked of its bucket so far, by cause and operation; and, by cause, how many tasks it has
// finished and what was asked for these.
type asked struct {
	requests    map[[2]string]int
	tasks, done map[string]int
}

// asked reads the store-gateway's metrics.
func (g *gateway) asked(ctx context.Context) (asked, error) {
	a := asked{requests: map[[2]string]int{}, tasks: map[string]int{}, done: map[string]int{}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.http+"/metrics", http.NoBody)
	if err != nil {
		return a, fmt.Errorf("read metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		a.add(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return a, fmt.Errorf("read metrics: %w", err)
	}
	if len(a.requests) == 0 {
		return a, fmt.Errorf("%s does not count its requests", g.http)
	}
	return a, nil
}

// add takes a line of metrics.
func (a asked) add(line string) {
	const family = "promontory_store_gateway_bucket_requests"
	rest, ok := strings.CutPrefix(line, family)
	if !ok {
		return
	}
	suffix, rest, _ := strings.Cut(rest, "{")
	labels, number, ok := strings.Cut(rest, "} ")
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil {
		return
	}
	of := map[string]string{}
	for pair := range strings.SplitSeq(labels, ",") {
		name, text, _ := strings.Cut(pair, "=")
		of[name] = strings.Trim(text, `"`)
	}
	switch suffix {
	case "_total":
		a.requests[[2]string{of["cause"], of["operation"]}] = int(value)
	case "_sum":
		a.done[of["cause"]] = int(value)
	case "_count":
		a.tasks[of["cause"]] = int(value)
	}
}

// since is what was asked after before, for the causes given or for all of them.
func (a asked) since(before asked, causes ...string) (sum int, byOperation string) {
	ops := map[string]int{}
	for key, n := range a.requests {
		if len(causes) > 0 && !slices.Contains(causes, key[0]) {
			continue
		}
		ops[key[1]] += n - before.requests[key]
		sum += n - before.requests[key]
	}
	var parts []string
	for _, op := range []string{"iter", "exists", "attributes", "get", "get_range"} {
		if ops[op] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", op, ops[op]))
		}
	}
	return sum, strings.Join(parts, ", ")
}

// awaitRound waits until the store-gateway has ended at least one more round of its sync than when it was called, and returns
// what it has asked up to then.
func (g *gateway) awaitRound(ctx context.Context) (asked, error) {
	before, err := g.asked(ctx)
	if err != nil {
		return before, err
	}
	poll := time.NewTicker(250 * time.Millisecond)
	defer poll.Stop()
	for {
		now, err := g.asked(ctx)
		if err != nil || now.tasks["sync"] > before.tasks["sync"] {
			return now, err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

// s3 runs an S3 server over the folders in dir, each of which is a bucket, and returns the description of one of them.
func s3(ctx context.Context, group *procs.Group, peers, dir, bucket string) (string, error) {
	addrs, err := procs.FreeAddrs(1)
	if err != nil {
		return "", err
	}
	program, err := filepath.Abs(filepath.Join(peers, "versitygw"))
	if err != nil {
		return "", fmt.Errorf("find the S3 server: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, bucket), 0o755); err != nil {
		return "", fmt.Errorf("make bucket: %w", err)
	}
	err = group.Start(ctx, procs.Spec{
		Name: "s3", Binary: program, Source: "make peers",
		Args:  []string{"--port", addrs[0], "--health", "/health", "--quiet", "posix", dir},
		Env:   []string{"ROOT_ACCESS_KEY=test", "ROOT_SECRET_KEY=testsecret"},
		Ready: "http://" + addrs[0] + "/health",
	})
	return fmt.Sprintf("{type: S3, config: {bucket: %s, endpoint: '%s', access_key: test, secret_key: testsecret, insecure: true, "+
		"region: us-east-1, bucket_lookup_type: path}}", bucket, addrs[0]), err
}
