package upstream

import (
	"strconv"
	"strings"
)

// Version is the version of a server. The zero value is one that cannot be told.
type Version struct {
	text         string
	major, minor int
	known        bool
}

// ancient stands for servers from before versions could be asked for.
var ancient = Version{text: "before 2.14", known: true}

// ParseVersion reads a version such as 2.24.0, v3.1.0-rc.0 or 2.52.1+meta.
func ParseVersion(text string) Version {
	v := Version{text: text}
	numbers := strings.SplitN(strings.TrimPrefix(text, "v"), ".", 3)
	if len(numbers) < 2 {
		return v
	}
	major, err := strconv.Atoi(numbers[0])
	if err != nil {
		return v
	}
	minor, _, _ := strings.Cut(numbers[1], "-")
	minor, _, _ = strings.Cut(minor, "+")
	if v.minor, err = strconv.Atoi(minor); err != nil {
		return v
	}
	v.major, v.known = major, true
	return v
}

// AtLeast reports whether the server is of version major.minor or later. One whose
// version cannot be told is taken for a build of somebody's own, and recent.
func (v Version) AtLeast(major, minor int) bool {
	return !v.known || v.major > major || v.major == major && v.minor >= minor
}

// String is the version as the server says it.
func (v Version) String() string {
	if v.text == "" {
		return "unknown"
	}
	return v.text
}
