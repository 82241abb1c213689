package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func promtool(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t, "make peers", ".bin", "promtool"), args...).CombinedOutput()
	require.NoError(t, err, "promtool %s:\n%s", strings.Join(args, " "), out)
}

func TestRulesPassPromtoolAndTheirUnitTests(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", root(t, "deploy", "base", "ruler", "rules", "promontory.yaml"))
	promtool(t, "test", "rules", root(t, "deploy", "prometheus", "rules-test.yaml"))
}

func TestEveryAlertHasARunbook(t *testing.T) {
	t.Parallel()
	book, err := os.ReadFile(root(t, "docs", "operate", "runbook.md"))
	require.NoError(t, err)
	alerts := map[string]bool{}
	for _, rule := range ruleExprs(t) {
		if name := rule.where; strings.HasPrefix(name, "Promontory") {
			alerts[name] = true
			require.Contains(t, string(book), "\n## "+name+"\n", "docs/operate/runbook.md has no section for the alert")
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (Promontory\w+)$`).FindAllStringSubmatch(string(book), -1) {
		require.Contains(t, alerts, m[1], "docs/operate/runbook.md tells of an alert that does not exist")
	}
}

func TestScrapeAndRemoteWriteExamplesAreTakenByPrometheus(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"remote-write.yaml", "hashmod.yaml", "scrape.yaml"} {
		text, err := os.ReadFile(root(t, "deploy", "prometheus", name))
		require.NoError(t, err)
		// This machine's promtool has no DNS discovery; the sidecar's reloader replaces the variables.
		content := strings.NewReplacer("$(SHARDS)", "3", "$(SHARD)", "0").Replace(string(text))
		content = regexp.MustCompile(`dns_sd_configs: \[\{names: \[([^]]+)\]\}\]`).ReplaceAllString(content, `static_configs: [{targets: ["$1:1"]}]`)
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		promtool(t, "check", "config", path)
	}
}

func TestOperatorManifestsAreTakenByItsSchemas(t *testing.T) {
	t.Parallel()
	objects, err := tools(t).Build(t.Context(), root(t, "deploy", "prometheus", "operator"))
	require.NoError(t, err)
	validate(t, objects)
	objects[0]["spec"].(map[string]any)["replicaz"] = 1
	objects[1]["spec"].(map[string]any)["replicaz"] = 1
	require.Error(t, tools(t).Validate(t.Context(), objects, crds(t), t.TempDir()))
}
