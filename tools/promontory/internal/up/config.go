// Package up runs the whole stack on this machine: two real Prometheus servers that scrape it, their sidecars, a store
// gateway and a querier over a bucket in a folder, with some days of history made beforehand. In the other set-up one
// Prometheus writes to receivers in the sidecars' place.
//
// The central idea is that the stack is data: see [stack]. What starts, stops and watches processes is libs/procs.
package up

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"
)

// Config is all that can be said to `promontory up` from outside.
type Config struct {
	// SetUp is how live data comes in: [SetUpSidecar] or [SetUpReceive].
	SetUp string
	// BinDir holds our own programs, PeersDir those of others: prometheus.
	BinDir, PeersDir string
	// DataDir holds the bucket, the data of each process, its logs and its configuration. Empty is a folder for each
	// set-up.
	DataDir string
	// BasePort is the querier's HTTP port; those of the others follow it, see stack.
	BasePort int
	// History is how many days of history are made at the first run, HistoryInterval their scrape interval.
	History, HistoryInterval time.Duration
	NoHistory                bool
	// Once makes the command check the answers, stop, and end.
	Once bool
	// Plain makes progress one line a step, as for a log, even on a terminal.
	Plain bool

	// answersTimeout bounds the time from "all are ready" to "all examples are answered": a rate needs two scrapes,
	// and the querier must have met its stores.
	answersTimeout time.Duration
}

// DefaultConfig is what a clone of the repository needs: programs are looked for beside the running one.
func DefaultConfig() Config {
	c := Config{
		SetUp: SetUpSidecar, BinDir: "bin", PeersDir: ".bin", BasePort: 19090,
		History: 3 * 24 * time.Hour, HistoryInterval: 30 * time.Second,
		answersTimeout: 90 * time.Second,
	}
	if self, err := os.Executable(); err == nil {
		c.BinDir = filepath.Dir(self)
		c.PeersDir = filepath.Join(filepath.Dir(c.BinDir), ".bin")
	}
	return c
}

// BindFlags gives each field a flag.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.SetUp, "set-up", c.SetUp, "How live data comes in: sidecar (two Prometheus servers, a sidecar beside each) or receive (one Prometheus that remote-writes to a router with three ingesters, replication factor 3).")
	fs.StringVar(&c.BinDir, "bin-dir", c.BinDir, "Folder with our own programs.")
	fs.StringVar(&c.PeersDir, "peers-dir", c.PeersDir, "Folder with prometheus and alertmanager.")
	fs.StringVar(&c.DataDir, "data-dir", c.DataDir, "Folder for the bucket, the processes' data, their logs and configuration. A second run goes on with what is there. (default "+defaultDataDir(SetUpSidecar)+", "+defaultDataDir(SetUpReceive)+" for the receive set-up)")
	fs.IntVar(&c.BasePort, "ports", c.BasePort, "The querier's HTTP port; the other processes take ports up to 31 above it.")
	fs.Var((*duration)(&c.History), "history", "How much history to make at the first run.")
	fs.Var((*duration)(&c.HistoryInterval), "history-interval", "Scrape interval of the history.")
	fs.BoolVar(&c.NoHistory, "no-history", c.NoHistory, "Make no history.")
	fs.BoolVar(&c.Once, "once", c.Once, "Start, check the answers of the example queries, and stop: the exit status tells whether all was well.")
	fs.BoolVar(&c.Plain, "plain", c.Plain, "Print progress as lines, also on a terminal.")
}

// Validate returns all problems at once, each with its flag.
func (c *Config) Validate() error {
	var problems []error
	if c.BasePort < 1 || c.BasePort+portSpan > 65536 {
		problems = append(problems, fmt.Errorf("--ports %d: must be from 1 to %d", c.BasePort, 65536-portSpan))
	}
	if !c.NoHistory && c.History <= 0 {
		problems = append(problems, fmt.Errorf("--history %s: must be positive; --no-history makes none", c.History))
	}
	if !c.NoHistory && (c.HistoryInterval < time.Second || c.HistoryInterval > 5*time.Minute) {
		problems = append(problems, fmt.Errorf("--history-interval %s: must be from 1s to 5m, after which a series counts as gone", c.HistoryInterval))
	}
	if c.SetUp != SetUpSidecar && c.SetUp != SetUpReceive {
		problems = append(problems, fmt.Errorf("--set-up %s: must be %s or %s", c.SetUp, SetUpSidecar, SetUpReceive))
	}
	return errors.Join(problems...)
}

// duration is a flag's value in Prometheus' way of writing, with days and weeks: 2d, 36h, 1h30m.
type duration time.Duration

func (d *duration) String() string { return model.Duration(*d).String() }

func (d *duration) Type() string { return "duration" }

func (d *duration) Set(text string) error {
	parsed, err := model.ParseDuration(text)
	if err != nil {
		return errors.New("want a duration such as 30s, 5m, 36h or 2d")
	}
	*d = duration(parsed)
	return nil
}
