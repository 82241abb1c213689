// Package upload brings the blocks of the Prometheus beside the sidecar to the bucket: the
// check that Prometheus leaves them as they are until they are there, and the loop that ships them.
package upload

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/promontory-io/promontory/libs/promapi/promclient"
)

// usualBlock is the duration of a block as the compactor plans for it.
const usualBlock = 2 * time.Hour

// delayCompactFlag names the file that makes Prometheus wait with its compaction.
const delayCompactFlag = "storage.tsdb.delay-compact-file.path"

// Guard is what makes sure that Prometheus does not compact blocks before they are uploaded:
// compacted ones cannot be shipped, so their data would never reach the bucket.
type Guard struct {
	// Dir is the TSDB's folder and MetaFileName the shipper's state file in it.
	Dir, MetaFileName string
	// IgnoreUnequal lets a Prometheus pass that does compact.
	IgnoreUnequal bool
}

// Check looks at Prometheus' flags. The error says what to change; notes are worth a warning.
func (g Guard) Check(flags promclient.Flags) (notes []string, err error) {
	shortest, longest, err := flags.BlockDurations()
	if err != nil {
		return nil, err
	}
	delayed := flags[delayCompactFlag]
	if delayed != "" {
		if err := g.checkDelayFile(delayed); err != nil {
			return nil, err
		}
	}
	switch {
	case shortest == longest || delayed != "":
	case g.IgnoreUnequal:
		notes = append(notes, fmt.Sprintf("Prometheus compacts its blocks (min-block-duration %s, max-block-duration %s): "+
			"those that it compacts before they are uploaded never will be", shortest, longest))
	default:
		return nil, fmt.Errorf("it compacts its blocks, so that they cannot be uploaded: --storage.tsdb.min-block-duration is %s and "+
			"--storage.tsdb.max-block-duration is %s; set both to 2h, or --%s=%s", shortest, longest, delayCompactFlag, g.stateFile())
	}
	if shortest != usualBlock {
		notes = append(notes, fmt.Sprintf("Prometheus' blocks are of %s: 2h is what compaction and queries are made for", shortest))
	}
	return notes, nil
}

func (g Guard) stateFile() string { return filepath.Join(g.Dir, g.MetaFileName) }

// checkDelayFile makes sure that Prometheus waits for the file we write.
func (g Guard) checkDelayFile(path string) error {
	ours := filepath.Clean(g.stateFile())
	if path = filepath.Clean(path); path == ours {
		return nil
	}
	// One of the two may be given relative to a folder that both processes were started in.
	if a, err := filepath.Abs(ours); err == nil && filepath.IsAbs(path) && a == path {
		return nil
	}
	return fmt.Errorf("it waits with compaction for --%s=%s, which is not the file this sidecar writes: %s "+
		"(--tsdb.path and --shipper.meta-file-name)", delayCompactFlag, path, ours)
}
