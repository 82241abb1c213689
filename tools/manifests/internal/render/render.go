// Package render turns kustomizations into manifests and holds them against the Kubernetes API's schemas.
package render

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Object is one manifest, as YAML has it.
type Object map[string]any

// Kind is the kind of the object, such as Service.
func (o Object) Kind() string { return o.text("kind") }

// Name is its metadata.name.
func (o Object) Name() string {
	meta, _ := o["metadata"].(map[string]any)
	return Object(meta).text("name")
}

func (o Object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// Tools are the programs this package runs, by path.
type Tools struct{ Kustomize, KubectlValidate string }

// Build renders the kustomization in dir. The error holds what kustomize said.
func (t Tools) Build(ctx context.Context, dir string) ([]Object, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, t.Kustomize, "build", dir)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("render %s: %w: %s", dir, err, strings.TrimSpace(stderr.String()))
	}
	if said := strings.TrimSpace(stderr.String()); said != "" {
		return nil, fmt.Errorf("render %s: kustomize warns: %s", dir, said)
	}
	objects, err := Parse(&stdout)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", dir, err)
	}
	return objects, nil
}

// Parse reads manifests, one to a YAML document.
func Parse(r io.Reader) ([]Object, error) {
	var objects []Object
	dec := yaml.NewDecoder(r)
	for {
		var o map[string]any // not Object: the decoder would make one of every map inside, too
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if o != nil {
			objects = append(objects, o)
		}
	}
}

// Print writes objects as a stream of YAML documents.
func Print(objects []Object) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	for _, o := range objects {
		if err := enc.Encode(o); err != nil {
			return nil, fmt.Errorf("write %s %s: %w", o.Kind(), o.Name(), err)
		}
	}
	return out.Bytes(), enc.Close()
}

// Validate holds objects strictly against the schemas of Kubernetes: an unknown field or a wrong type is an error that
// names the object. crds is a folder with definitions of custom resources. scratch is a folder for the rendered files.
func (t Tools) Validate(ctx context.Context, objects []Object, crds, scratch string) error {
	dir, err := os.MkdirTemp(scratch, "objects")
	if err != nil {
		return fmt.Errorf("make folder for manifests: %w", err)
	}
	for i, o := range objects {
		if o.Kind() == "Secret" {
			if err := unwrap(o); err != nil {
				return err
			}
		}
		text, err := yaml.Marshal(o)
		if err != nil {
			return fmt.Errorf("write %s %s: %w", o.Kind(), o.Name(), err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d-%s-%s.yaml", i, o.Kind(), o.Name())), text, 0o600); err != nil {
			return fmt.Errorf("write %s %s: %w", o.Kind(), o.Name(), err)
		}
	}
	cmd := exec.CommandContext(ctx, t.KubectlValidate, dir, "--local-crds", crds)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("validate manifests: %w\n%s", err, out)
	}
	return nil
}

// unwrap joins the lines of base64 values: a real API server reads both, the offline validator only one line.
func unwrap(secret Object) error {
	data, _ := secret["data"].(map[string]any)
	for key, value := range data {
		text := strings.Join(strings.Fields(fmt.Sprint(value)), "")
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			return fmt.Errorf("secret %s: key %s: %w", secret.Name(), key, err)
		}
		data[key] = text
	}
	return nil
}
