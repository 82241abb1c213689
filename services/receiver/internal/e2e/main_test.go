package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if bin := built.Load(); bin != nil {
		_ = os.RemoveAll(filepath.Dir(*bin))
	}
	os.Exit(code)
}
