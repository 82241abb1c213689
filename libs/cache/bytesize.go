package cache

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ByteSize is a number of bytes as configurations write it: 1000, 250MB, 125MiB, 1.5GB. All units go by 1024, with or
// without the i.
type ByteSize int64

// Binary units.
const (
	KiB ByteSize = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// byteUnits in the order in which an exact multiple is looked for.
func byteUnits() []struct {
	name string
	size ByteSize
} {
	return []struct {
		name string
		size ByteSize
	}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}
}

// ParseByteSize reads a number of bytes. Negative numbers are refused.
func ParseByteSize(s string) (ByteSize, error) {
	number, factor := strings.TrimSpace(s), ByteSize(1)
	upper := strings.ToUpper(number)
	for _, unit := range byteUnits() {
		full := strings.ToUpper(unit.name)
		for _, suffix := range []string{full, strings.Replace(full, "I", "", 1), strings.TrimSuffix(full, "IB")} {
			if factor == 1 && suffix != "" && strings.HasSuffix(upper, suffix) {
				number, factor = strings.TrimSpace(number[:len(number)-len(suffix)]), unit.size
				upper = ""
			}
		}
	}
	bad := fmt.Errorf("%q is not a size in bytes such as 1000, 250MB or 1GiB", s)
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/int64(factor) {
			return 0, bad
		}
		return ByteSize(n) * factor, nil
	}
	if strings.ContainsFunc(number, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }) {
		return 0, bad
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(factor) >= math.MaxInt64 {
		return 0, bad
	}
	return ByteSize(f * float64(factor)), nil
}

// String returns the size in the largest unit that holds it without a rest.
func (b ByteSize) String() string {
	for _, unit := range byteUnits() {
		if b >= unit.size && b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// UnmarshalYAML reads a scalar.
func (b *ByteSize) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a size in bytes is one value", node.Line)
	}
	size, err := ParseByteSize(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	*b = size
	return nil
}
