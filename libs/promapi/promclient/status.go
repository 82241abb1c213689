package promclient

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// BuildInfo asks for the version of the server.
func (c *Client) BuildInfo(ctx context.Context) (promtypes.BuildInfo, error) {
	resp, err := apiGet[promtypes.BuildInfo](ctx, c, "/status/buildinfo", nil)
	return resp.Data, err
}

// RuntimeInfo is what a Prometheus server says of its process.
type RuntimeInfo struct {
	StartTime           time.Time `json:"startTime"`
	CWD                 string    `json:"CWD"`
	ReloadConfigSuccess bool      `json:"reloadConfigSuccess"`
	LastConfigTime      time.Time `json:"lastConfigTime"`
	CorruptionCount     int64     `json:"corruptionCount"`
	GoroutineCount      int       `json:"goroutineCount"`
	GOMAXPROCS          int       `json:"GOMAXPROCS"`
	GOMEMLIMIT          int64     `json:"GOMEMLIMIT"`
	StorageRetention    string    `json:"storageRetention"`
}

// RuntimeInfo asks for the state of the process; it tells whether and when a reload was successful.
func (c *Client) RuntimeInfo(ctx context.Context) (RuntimeInfo, error) {
	resp, err := apiGet[RuntimeInfo](ctx, c, "/status/runtimeinfo", nil)
	return resp.Data, err
}

// Flags asks for the command-line flags. Servers without this endpoint give an [*Error] of kind [NotFound].
func (c *Client) Flags(ctx context.Context) (Flags, error) {
	resp, err := apiGet[Flags](ctx, c, "/status/flags", nil)
	return resp.Data, err
}

// Flags are the values of a server's command-line flags by name, without leading dashes.
type Flags map[string]string

// Duration returns the flag name as a duration; 0 if the flag is not there or empty.
func (f Flags) Duration(name string) (time.Duration, error) {
	v := f[name]
	if v == "" {
		return 0, nil
	}
	d, err := model.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("flag --%s: %w", name, err)
	}
	return time.Duration(d), nil
}

// Bool returns the flag name as a bool; false if the flag is not there or empty.
func (f Flags) Bool(name string) (bool, error) {
	v := f[name]
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("flag --%s: %w", name, err)
	}
	return b, nil
}

// BlockDurations returns the shortest and longest duration of a block that the server makes.
func (f Flags) BlockDurations() (shortest, longest time.Duration, err error) {
	if shortest, err = f.Duration("storage.tsdb.min-block-duration"); err != nil {
		return 0, 0, err
	}
	longest, err = f.Duration("storage.tsdb.max-block-duration")
	return shortest, longest, err
}

// Config asks for the configuration file the server runs with, as YAML.
func (c *Client) Config(ctx context.Context) (string, error) {
	resp, err := apiGet[struct {
		YAML string `json:"yaml"`
	}](ctx, c, "/status/config", nil)
	return resp.Data.YAML, err
}

// ExternalLabels asks for the configuration and returns global.external_labels; without them it is empty.
func (c *Client) ExternalLabels(ctx context.Context) (labels.Labels, error) {
	text, err := c.Config(ctx)
	if err != nil {
		return labels.EmptyLabels(), err
	}
	var conf struct {
		Global struct {
			ExternalLabels map[string]string `yaml:"external_labels"`
		} `yaml:"global"`
	}
	if err := yaml.Unmarshal([]byte(text), &conf); err != nil {
		return labels.EmptyLabels(), fmt.Errorf("parse configuration of %s: %w", c.base.Redacted(), err)
	}
	return labels.FromMap(conf.Global.ExternalLabels), nil
}

// TSDBStatus asks for the figures of the head block; limit bounds each list, 0 leaves it to the server.
func (c *Client) TSDBStatus(ctx context.Context, limit int) (promtypes.TSDBStatus, error) {
	params := values{}
	if limit > 0 {
		params.set("limit", strconv.Itoa(limit))
	}
	resp, err := apiGet[promtypes.TSDBStatus](ctx, c, "/status/tsdb", params.Values())
	return resp.Data, err
}

// Ready asks the server whether it is ready; nil means it is.
func (c *Client) Ready(ctx context.Context) error {
	body, err := c.send(ctx, http.MethodGet, "/-/ready", nil, "*/*")
	if err != nil {
		return err
	}
	return body.Close()
}

// Reload tells the server to read its configuration again. The answer must be 200.
func (c *Client) Reload(ctx context.Context) error {
	body, err := c.send(ctx, http.MethodPost, "/-/reload", nil, "*/*")
	if err != nil {
		return err
	}
	return body.Close()
}
