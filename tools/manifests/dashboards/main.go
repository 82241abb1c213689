// Command dashboards makes Grafana's dashboards: dashboards SOURCE FOLDER writes one file to the folder for each page of
// the source.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/promontory-io/promontory/tools/manifests/internal/dashboards"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("want two arguments: the source and the folder of the JSON files")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	all, err := dashboards.Read(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", args[0], err)
	}
	if err := os.MkdirAll(args[1], 0o755); err != nil {
		return err
	}
	for _, d := range all {
		text, err := d.JSON()
		if err != nil {
			return fmt.Errorf("make %s: %w", d.UID, err)
		}
		if err := os.WriteFile(filepath.Join(args[1], d.UID+".json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
