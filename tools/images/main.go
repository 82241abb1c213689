// Command images makes container images of our programs without Docker:
//
//	images -out FOLDER -version V -revision R [name ...]
//
// It builds each program as a static binary and writes FOLDER/<name>.tar, which `docker load`, `crane push` and
// `ctr images import` take. The same sources give the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/promontory-io/promontory/tools/images/internal/image"
)

// modules are the programs that have images, by the folder of their Go module.
var modules = map[string]string{
	"querier": "services/querier", "sidecar": "services/sidecar", "store-gateway": "services/store-gateway",
	"receiver": "services/receiver", "ruler": "services/ruler", "compactor": "services/compactor",
	"bucket-web": "services/bucket-web", "promontory": "tools/promontory",
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	dir := flags.String("out", "", "folder for the images")
	root := flags.String("root", ".", "root of the repository")
	version := flags.String("version", "dev", "version, for the labels, the tag and --version")
	revision := flags.String("revision", "unknown", "commit, for the labels and --version")
	certificates := flags.String("ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "file with the certificate authorities to trust")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("-out: say a folder for the images")
	}
	names := flags.Args()
	if len(names) == 0 {
		for name := range modules {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	trust, err := os.ReadFile(*certificates)
	if err != nil {
		return fmt.Errorf("-ca-certificates: %w", err)
	}
	for _, name := range names {
		module, ok := modules[name]
		if !ok {
			return fmt.Errorf("there is no program %q", name)
		}
		binary, err := build(ctx, filepath.Join(*root, module), name, *version, *revision)
		if err != nil {
			return err
		}
		path := filepath.Join(*dir, name+".tar")
		size, err := image.Write(path, image.Spec{
			Name: name, Tag: "promontory/" + name + ":" + *version, Version: *version, Revision: *revision,
			Binary: binary, Certificates: trust,
		})
		if err != nil {
			return fmt.Errorf("write image of %s: %w", name, err)
		}
		fmt.Fprintf(out, "%-14s binary %5.1f MB   image %5.1f MB   %s\n", name, mb(int64(len(binary))), mb(size), path)
	}
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

// build returns the static binary of the module in dir, stripped, with no path of this machine in it.
func build(ctx context.Context, dir, name, version, revision string) (binary []byte, err error) {
	tmp, err := os.MkdirTemp("", "images")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	path := filepath.Join(tmp, name)
	const pkg = "github.com/prometheus/common/version."
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X "+pkg+"Version="+version+" -X "+pkg+"Revision="+revision, "-o", path, "./cmd/...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS=linux", "GOARCH=amd64")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", name, err, strings.TrimSpace(string(said)))
	}
	return os.ReadFile(path)
}
