package promapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// MinTime and MaxTime bound all times of the API: as far as Unix milliseconds and Go's own time reach together.
// They are what an open start or end means, and are accepted in their RFC 3339 form even though that has
// more than four digits for the year.
var (
	MinTime = time.Unix(math.MinInt64/1000+62135596801, 0).UTC()
	MaxTime = time.Unix(math.MaxInt64/1000-62135596801, 999999999).UTC()

	minTimeText = MinTime.Format(time.RFC3339Nano)
	maxTimeText = MaxTime.Format(time.RFC3339Nano)
)

// maxFormBytes bounds the body of a request.
const maxFormBytes = 10 << 20

var errTimeOrder = errors.New("end timestamp must not be before start time")

// Form is the parameters of a request: those of the body before those of the URL.
type Form struct{ url.Values }

// ParseForm reads the parameters of a GET or POST request. Every error of it and of the methods of
// [Form] is an [*Error] of type bad_data and names the parameter.
func ParseForm(r *http.Request) (Form, error) {
	if r.Body != nil {
		r.Body = http.MaxBytesReader(nil, r.Body, maxFormBytes)
	}
	err := r.ParseForm()
	if err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		err = r.ParseMultipartForm(maxFormBytes)
	}
	if err != nil {
		return Form{}, BadData("error parsing form values: %w", err)
	}
	return Form{Values: r.Form}, nil
}

func paramError(name string, err error) *Error {
	return BadData("'%s' parameter: %w", name, err)
}

// Bool returns the boolean parameter name, or def if it is not given.
func (f Form) Bool(name string, def bool) (bool, error) {
	v := f.Get(name)
	if v == "" {
		return def, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, paramError(name, err)
	}
	return b, nil
}

// Time returns the time parameter name, or def if it is not given.
func (f Form) Time(name string, def time.Time) (time.Time, error) {
	v := f.Get(name)
	if v == "" {
		return def, nil
	}
	return f.RequiredTime(name)
}

// RequiredTime returns the time parameter name, which has to be given.
func (f Form) RequiredTime(name string) (time.Time, error) {
	t, err := ParseTime(f.Get(name))
	if err != nil {
		return time.Time{}, BadData("invalid time value for '%s': %w", name, err)
	}
	return t, nil
}

// Duration returns the duration parameter name, or def if it is not given.
func (f Form) Duration(name string, def time.Duration) (time.Duration, error) {
	v := f.Get(name)
	if v == "" {
		return def, nil
	}
	d, err := ParseDuration(v)
	if err != nil {
		return 0, paramError(name, err)
	}
	return d, nil
}

// Limit returns the parameter "limit", which must not be negative; 0, also if it is not given, means no limit.
func (f Form) Limit() (int, error) {
	v := f.Get("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, paramError("limit", err)
	}
	if n < 0 {
		return 0, paramError("limit", errors.New("limit must be non-negative"))
	}
	return n, nil
}

// Selectors returns the series selectors of the repeated parameter name. A selector that would select
// everything is an error, none at all is not.
func (f Form) Selectors(name string) ([][]*labels.Matcher, error) {
	sets, err := f.matcherSets(name)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		if !selective(set) {
			return nil, BadData("%s must contain at least one non-empty matcher", name)
		}
	}
	return sets, nil
}

func (f Form) matcherSets(name string) ([][]*labels.Matcher, error) {
	var sets [][]*labels.Matcher
	for _, s := range f.Values[name] {
		set, err := parser.ParseMetricSelector(s)
		if err != nil {
			return nil, paramError(name, err)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

func selective(set []*labels.Matcher) bool {
	for _, m := range set {
		if !m.Matches("") {
			return true
		}
	}
	return false
}

// TimeRange returns start and end, each with its default; end before start is an error.
func (f Form) TimeRange(defStart, defEnd time.Time) (start, end time.Time, err error) {
	if start, err = f.Time("start", defStart); err != nil {
		return start, end, err
	}
	if end, err = f.Time("end", defEnd); err != nil {
		return start, end, err
	}
	if end.Before(start) {
		return start, end, NewError(ErrorBadData, errTimeOrder)
	}
	return start, end, nil
}

// ParseTime reads a time: Unix seconds with or without a fraction, of which milliseconds count, or RFC 3339.
func ParseTime(s string) (time.Time, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		sec, frac := math.Modf(f)
		if math.IsNaN(f) || sec < float64(MinTime.Unix()) || sec > float64(MaxTime.Unix()) {
			return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
		}
		frac = math.Round(frac*1000) / 1000
		return time.Unix(int64(sec), int64(frac*float64(time.Second))).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	switch s {
	case minTimeText:
		return MinTime, nil
	case maxTimeText:
		return MaxTime, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
}

// ParseDuration reads a duration: a number of seconds or a Prometheus duration such as 1h30m.
func ParseDuration(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) {
		ns := f * float64(time.Second)
		// The float next to the largest int64 is one above it, hence the equality.
		if ns >= float64(math.MaxInt64) || ns < float64(math.MinInt64) {
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", s)
		}
		return time.Duration(ns), nil
	}
	if d, err := model.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", s)
}

// Millis returns t in Unix milliseconds.
func Millis(t time.Time) int64 { return t.UnixMilli() }
