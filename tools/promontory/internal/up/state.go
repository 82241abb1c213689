package up

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/promontory-io/promontory/libs/block"
)

// state is what a run leaves to the next one, in <data>/state.json.
type state struct {
	Version int `json:"version"`
	// SetUp is whose data it is; empty is the sidecar set-up, from before there was another.
	SetUp string `json:"set_up,omitempty"`
	// FirstRun is before all live data: history ends there.
	FirstRun time.Time `json:"first_run"`
	// History is what was begun; nil while no run has made any. Length and interval of a later run do not matter.
	History *historyState `json:"history,omitempty"`
}

type historyState struct {
	Length   time.Duration `json:"length_ns"`
	Interval time.Duration `json:"interval_ns"`
	// Complete tells that nothing is left to be made, also where blocks have been compacted or deleted since.
	Complete bool `json:"complete"`
}

const stateVersion = 1

func (l layout) statePath() string { return l.dir("state.json") }

// loadState reads the state, or makes that of a first run.
func loadState(l layout, now time.Time) (state, error) {
	text, err := os.ReadFile(l.statePath())
	if errors.Is(err, os.ErrNotExist) {
		return state{Version: stateVersion, SetUp: l.SetUp, FirstRun: now.Truncate(time.Millisecond)}, nil
	}
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, fmt.Errorf("read %s: %w (removing %s begins anew)", l.statePath(), err, l.data)
	}
	if s.Version != stateVersion {
		return state{}, fmt.Errorf("%s has version %d, this program knows %d (removing %s begins anew)", l.statePath(), s.Version, stateVersion, l.data)
	}
	if s.SetUp == "" {
		s.SetUp = SetUpSidecar
	}
	if s.SetUp != l.SetUp {
		return state{}, fmt.Errorf("%s holds the %s set-up, not %s: name another --data-dir", l.data, s.SetUp, l.SetUp)
	}
	return s, nil
}

// past is the time that the history covers.
func (s state) past() past {
	return past{from: s.FirstRun.Add(-s.History.Length), until: s.FirstRun}
}

func (s state) save(l layout) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return block.WriteFileAtomic(l.statePath(), append(text, '\n'))
}
