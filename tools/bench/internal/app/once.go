package app

import (
	"fmt"
	"os"
	"path/filepath"
)

// once makes what belongs into dir unless an earlier run has made all of it; what one has left half made is cleared.
func once(dir string, fill func() error) error {
	done := filepath.Join(dir, "done")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	if err := fill(); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o644)
}
