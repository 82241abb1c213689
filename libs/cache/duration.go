package cache

import (
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Duration is a time span as configurations write it: 500ms and 1h30m as Go does, 1d and 2w as Prometheus does.
// Negative ones are refused.
type Duration time.Duration

// ParseDuration reads a time span.
func ParseDuration(s string) (Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			return 0, fmt.Errorf("%q is a negative duration", s)
		}
		return Duration(d), nil
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 500ms, 1h30m or 7d", s)
	}
	return Duration(d), nil
}

// String writes it as Go does.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalYAML reads a scalar.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a duration is one value", node.Line)
	}
	parsed, err := ParseDuration(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	*d = parsed
	return nil
}
