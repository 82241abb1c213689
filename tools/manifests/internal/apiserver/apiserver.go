// Package apiserver runs a real Kubernetes API server on this machine, over an etcd of its own, and talks to it with a real
// kubectl.
//
// It is the control plane without its controllers: what is applied is checked, admitted and kept, but nobody makes pods of
// it. So it answers what no schema does: whether a value is allowed, whether an object fits the others it names, and
// whether the admission of the namespace would let the pods in.
package apiserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/promontory-io/promontory/libs/procs"
)

// Programs are the binaries that are run, by path.
type Programs struct{ Etcd, APIServer, Kubectl string }

// Server is a running API server. Its methods may be called at once.
type Server struct {
	group      *procs.Group
	kubectl    string
	kubeconfig string
}

// startTimeout is for etcd and the API server together on a busy machine; alone they take three seconds.
const startTimeout = 2 * time.Minute

// Start runs etcd and the API server with their data below dir, and returns when the API server is ready. Who started it
// stops it; the error of a start that failed names the process and its last words.
func Start(ctx context.Context, programs Programs, dir string) (_ *Server, err error) {
	addrs, err := procs.FreeAddrs(3)
	if err != nil {
		return nil, fmt.Errorf("find free addresses: %w", err)
	}
	client, peer, api := addrs[0], addrs[1], addrs[2]
	s := &Server{
		group: procs.New(procs.Config{LogDir: filepath.Join(dir, "logs")}), kubectl: programs.Kubectl,
		kubeconfig: filepath.Join(dir, "kubeconfig"),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	args, err := s.writeFiles(dir, api)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = s.group.Start(ctx,
		procs.Spec{
			Name: "etcd", Binary: programs.Etcd, Source: "package etcd-server", Ready: "http://" + client + "/health", Args: []string{
				"--data-dir=" + filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
				"--listen-client-urls=http://" + client, "--advertise-client-urls=http://" + client,
				"--listen-peer-urls=http://" + peer, "--initial-advertise-peer-urls=http://" + peer, "--initial-cluster=default=http://" + peer,
			},
		},
		procs.Spec{
			Name: "kube-apiserver", Binary: programs.APIServer, Source: "make apiserver-tools", After: []string{"etcd"},
			Args: append(args, "--etcd-servers=http://"+client),
		},
	)
	if err != nil {
		return nil, err
	}
	return s, s.awaitReady(ctx)
}

// writeFiles writes what the API server and kubectl read, and returns the API server's arguments.
func (s *Server) writeFiles(dir, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make key of service accounts: %w", err)
	}
	// It listens on the loopback address and knows one user: the certificate it makes for itself need not be checked.
	const token = "administrator"
	files := map[string]string{
		"sa.key":     string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"tokens.csv": token + ",admin,1,system:masters\n",
		"kubeconfig": "apiVersion: v1\nkind: Config\ncurrent-context: here\n" +
			"clusters: [{name: here, cluster: {server: 'https://" + addr + "', insecure-skip-tls-verify: true}}]\n" +
			"users: [{name: here, user: {token: " + token + "}}]\n" +
			"contexts: [{name: here, context: {cluster: here, user: here}}]\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return []string{
		"--bind-address=" + host, "--secure-port=" + port, "--cert-dir=" + filepath.Join(dir, "certificates"), "--endpoint-reconciler-type=none",
		"--service-account-issuer=https://" + host, "--service-account-key-file=" + filepath.Join(dir, "sa.key"),
		"--service-account-signing-key-file=" + filepath.Join(dir, "sa.key"), "--token-auth-file=" + filepath.Join(dir, "tokens.csv"),
		"--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
	}, nil
}

func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := s.Kubectl(ctx, nil, "get", "--raw", "/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-s.group.Process("kube-apiserver").Gone():
			return s.group.Wait(ctx)
		case <-ctx.Done():
			return fmt.Errorf("wait until the API server is ready: %w", err)
		case <-tick.C:
		}
	}
}

// Stop ends both processes.
func (s *Server) Stop() error { return s.group.Stop() }

// Kubectl runs kubectl with args as the cluster's administrator, stdin for its standard input, and returns what it wrote
// to both outputs. The error holds that too.
func (s *Server) Kubectl(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Kubeconfig is the path of the file by which a kubectl of one's own finds the server.
func (s *Server) Kubeconfig() string { return s.kubeconfig }
