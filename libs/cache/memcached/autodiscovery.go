package memcached

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// maxClusterConfig bounds what a configuration endpoint may say: room for thousands of nodes.
const maxClusterConfig = 1 << 20

// askCluster asks a configuration endpoint for the nodes of its cluster.
//
// Protocol: "config get cluster", as Amazon ElastiCache documents it.
func askCluster(ctx context.Context, addr string, timeout time.Duration) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, address(addr).Network(), addr)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its cluster: %w", addr, err)
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("ask %s for its cluster: %w", addr, err)
		}
	}
	if _, err := io.WriteString(conn, "config get cluster\r\n"); err != nil {
		return nil, fmt.Errorf("ask %s for its cluster: %w", addr, err)
	}
	nodes, err := readCluster(bufio.NewReader(conn))
	if err != nil {
		return nil, fmt.Errorf("ask %s for its cluster: %w", addr, err)
	}
	return nodes, nil
}

// readCluster reads the answer: a line "CONFIG cluster <flags> <bytes>", then so many bytes, in which a line with a version
// and a line with nodes, then END.
func readCluster(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(line))
	if len(fields) != 4 || fields[0] != "CONFIG" || fields[1] != "cluster" {
		return nil, fmt.Errorf("unexpected answer %q", strings.TrimSpace(string(line)))
	}
	size, err := strconv.Atoi(fields[3])
	if err != nil || size < 0 || size > maxClusterConfig {
		return nil, fmt.Errorf("unexpected size %q", fields[3])
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(body), "\n")
	rest, _, _ = strings.Cut(strings.TrimLeft(rest, "\r\n"), "\n")
	var nodes []string
	for _, node := range strings.Fields(rest) {
		parts := strings.Split(node, "|")
		if len(parts) != 3 {
			return nil, fmt.Errorf("node %q is not host|ip|port", node)
		}
		host := parts[0]
		if host == "" {
			host = parts[1]
		}
		if port, err := strconv.ParseUint(parts[2], 10, 16); err != nil || host == "" || port == 0 {
			return nil, fmt.Errorf("node %q is not host|ip|port", node)
		}
		nodes = append(nodes, net.JoinHostPort(host, parts[2]))
	}
	if len(nodes) == 0 {
		return nil, errors.New("the answer has no nodes")
	}
	return nodes, nil
}
