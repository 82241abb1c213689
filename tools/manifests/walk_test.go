package manifests

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promontory-io/promontory/tools/manifests/internal/apiserver"
	"github.com/promontory-io/promontory/tools/manifests/internal/docs"
	"github.com/stretchr/testify/require"
)

// kubectlCommands are the commands of the operator's pages for kubectl, by page, in a form that can be run: `k` written out,
// placeholders filled, files and folders at their paths here.
func kubectlCommands(t *testing.T) map[string][][]string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"objstore.yml", "tls.crt", "tls.key", "ca.crt"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("text\n"), 0o600))
	}
	out := map[string][][]string{}
	for _, page := range operatorsPages(t) {
		for _, command := range page.Commands("k", "kubectl") {
			command = strings.NewReplacer("NAME", "compactor", "my-overlay", "deploy/overlays/receive").Replace(command)
			args := []string{"--namespace=promontory"}
			for _, arg := range strings.Fields(strings.ReplaceAll(command, "--namespace promontory", ""))[1:] {
				arg = strings.Replace(arg, "--from-file=", "--from-file="+dir+"/", 1)
				if strings.HasPrefix(arg, "deploy/") {
					arg = root(t, arg)
				}
				args = append(args, arg)
			}
			if len(args) > 2 { // more than a verb alone
				out[page.Path] = append(out[page.Path], args)
			}
		}
	}
	require.NotEmpty(t, out)
	return out
}

// needsPods are kubectl's verbs that want running pods, which nobody makes here.
var needsPods = map[string]bool{"logs": true, "describe": true, "port-forward": true, "wait": true, "rollout": true, "edit": true}

var podOf = regexp.MustCompile(`^(?:data-)?([a-z-]+)-\d+$`)

func TestAPIServerTakesTheCommandsOfTheDocs(t *testing.T) {
	t.Parallel()
	s := startAPIServer(t)
	for _, name := range []string{"sidecar", "receive"} {
		kubectl(t, s, nil, "apply", "--kustomize", root(t, "deploy", "overlays", name))
	}
	for page, commands := range kubectlCommands(t) {
		for _, args := range commands {
			verb := args[1]
			words := map[string]int{"create": 3, "set": 2, "rollout": 2}[verb] // of commands that have commands
			help := kubectl(t, s, nil, append(slices.Clone(args[1:1+max(1, words)]), "--help")...) + kubectl(t, s, nil, "options")
			for _, flag := range docs.Flags(strings.Join(args, " ")) {
				require.True(t, has(help, flag) || strings.Contains(help, flag+"="), "%s: kubectl %s has no flag %s", page, verb, flag)
			}
			if needsPods[verb] {
				requireNamed(t, s, page, args)
				continue
			}
			if verb == "scale" || verb == "delete" || verb == "create" || verb == "apply" {
				args = append(args, "--dry-run=server")
			}
			_, err := s.Kubectl(t.Context(), nil, args...)
			if err != nil && strings.Contains(err.Error(), `"thanos-`) && strings.Contains(err.Error(), "not found") {
				continue // it is the reader's own
			}
			require.NoError(t, err, page)
		}
	}
}

// requireNamed looks whether the workload that a command is about, and the container, exist.
func requireNamed(t *testing.T, s *apiserver.Server, page string, args []string) {
	t.Helper()
	for i, arg := range args {
		if m := podOf.FindStringSubmatch(arg); m != nil {
			names := kubectl(t, s, nil, "--namespace=promontory", "get", "statefulset", m[1], "--output=jsonpath={.spec.template.spec.containers[*].name}")
			if args[max(i+1, 0)%len(args)] == "-c" {
				require.Contains(t, strings.Fields(names), args[i+2], "%s: %s", page, args)
			}
		}
		for _, kind := range []string{"deployment/", "statefulset/", "service/"} {
			if strings.HasPrefix(arg, kind) {
				kubectl(t, s, nil, "--namespace=promontory", "get", arg)
			}
		}
	}
}

var (
	calledURL = regexp.MustCompile(`([a-z0-9.-]+):10902(/[^\s'"]*)`)
	jqFilter  = regexp.MustCompile(`\| jq '([^']*)'`)
)

// requireDocumentedCalls makes every call of the operator's pages to a service of a running stack, and hands the answer to
// the filter that the page has for it, where this machine has jq.
func requireDocumentedCalls(t *testing.T, r running) {
	t.Helper()
	jq, _ := exec.LookPath("jq")
	var calls int
	for _, page := range operatorsPages(t) {
		for _, line := range page.Lines("curl") {
			m := calledURL.FindStringSubmatch(line)
			if m == nil {
				continue // not a service of ours
			}
			workload := regexp.MustCompile(`-\d+$`).ReplaceAllString(strings.Split(m[1], ".")[0], "")
			status, body := get(t.Context(), t, "http://"+r.http(t, workload)+m[2])
			require.Equal(t, http.StatusOK, status, "%s: %s: %s", page.Path, line, body)
			require.True(t, json.Valid(body), "%s: %s: %s", page.Path, line, body)
			if filter := jqFilter.FindStringSubmatch(line); filter != nil && jq != "" {
				cmd := exec.CommandContext(t.Context(), jq, filter[1])
				cmd.Stdin = bytes.NewReader(body)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s: %s: %s", page.Path, line, out)
				require.NotEqual(t, "null", strings.TrimSpace(string(out)), "%s: %s: the answer has nothing there", page.Path, line)
			}
			calls++
		}
	}
	require.Greater(t, calls, 5)
}

func get(ctx context.Context, t *testing.T, url string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, body
}
