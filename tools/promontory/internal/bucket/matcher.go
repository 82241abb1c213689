package bucket

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

var matcherSyntax = regexp.MustCompile(`(?s)^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*$`)

// parseMatchers reads label matchers in Alertmanager's syntax: one or several with commas between, in braces or not,
// values quoted or not.
func parseMatchers(text string) ([]*labels.Matcher, error) {
	inner := strings.TrimSpace(text)
	if strings.HasPrefix(inner, "{") != strings.HasSuffix(inner, "}") {
		return nil, fmt.Errorf("%q: a brace is missing", text)
	}
	inner = strings.TrimSuffix(strings.TrimPrefix(inner, "{"), "}")
	parts, err := splitMatchers(inner)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	var out []*labels.Matcher
	for _, part := range parts {
		m, err := parseMatcher(part)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q: no matcher", text)
	}
	return out, nil
}

// splitMatchers splits at commas outside of quotes; one at the end is allowed.
func splitMatchers(s string) ([]string, error) {
	var parts []string
	begin, quoted, escaped := 0, false, false
	for i := range len(s) {
		switch c := s[i]; {
		case escaped:
			escaped = false
		case c == '\\' && quoted:
			escaped = true
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if rest := s[begin:]; strings.TrimSpace(rest) != "" {
		parts = append(parts, rest)
	}
	return parts, nil
}

func parseMatcher(s string) (*labels.Matcher, error) {
	m := matcherSyntax.FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("%q is no matcher such as cluster=\"eu1\"", strings.TrimSpace(s))
	}
	kinds := map[string]labels.MatchType{"=": labels.MatchEqual, "!=": labels.MatchNotEqual, "=~": labels.MatchRegexp, "!~": labels.MatchNotRegexp}
	value := m[3]
	if strings.HasPrefix(value, `"`) {
		unquoted, err := strconv.Unquote(value)
		if err != nil {
			return nil, fmt.Errorf("value %s is not quoted well", value)
		}
		value = unquoted
	}
	return labels.NewMatcher(kinds[m[2]], m[1], value)
}
