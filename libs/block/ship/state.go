package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"

	"github.com/promontory-io/promontory/libs/block"
)

// DefaultMetaFileName is the state file's name by default.
const DefaultMetaFileName = "thanos.shipper.json"

// stateVersion is the only version of the state file there is.
const stateVersion = 1

// State is the content of the state file.
type State struct {
	Version int `json:"version"`
	// Uploaded are the blocks of the folder that are in the bucket, in the order of ULIDs.
	Uploaded []ulid.ULID `json:"uploaded"`
}

// ReadState reads the state file of a TSDB folder. One that is not there is an
// empty state.
func ReadState(dir, name string) (State, error) {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Version: stateVersion}, nil
	}
	if err != nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("parse %s: %w", path, err)
	}
	if s.Version != stateVersion {
		return State{}, fmt.Errorf("parse %s: version %d, want %d", path, s.Version, stateVersion)
	}
	return s, nil
}

func (s State) encode() ([]byte, error) {
	if s.Uploaded == nil {
		s.Uploaded = []ulid.ULID{}
	}
	return json.MarshalIndent(s, "", "\t")
}

// writeState writes the state file, whole or not at all, unless it is as it should be.
func writeState(dir, name string, s State) error {
	b, err := s.encode()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err := block.WriteFileAtomic(path, b); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
