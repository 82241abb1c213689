package flags

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// byteUnits goes from the largest to the smallest, so that FormatBytes finds the best fit first.
var byteUnits = [...]struct {
	prefix string
	shift  uint
}{{"E", 60}, {"P", 50}, {"T", 40}, {"G", 30}, {"M", 20}, {"K", 10}}

// ParseBytes reads a size such as 250MB, 2GiB, 1.5GB, 512B or 1024. KB and KiB, MB and MiB
// and so on mean the same: powers of 1024. Upper and lower case are the same too.
func ParseBytes(s string) (int64, error) {
	bad := errors.New("want a size such as 512KB, 250MB or 2GiB")
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.ToUpper(strings.TrimSpace(s[len(digits):]))
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || math.IsInf(n, 0) || math.IsNaN(n) || strings.ContainsAny(digits, "xXeEpP_+") {
		return 0, bad
	}
	shift, ok := unitShift(unit)
	if !ok {
		return 0, bad
	}
	// Whole numbers stay exact beyond 2^53.
	if whole, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if whole > math.MaxInt64>>shift {
			return 0, errors.New("the size is out of range")
		}
		return whole << shift, nil
	}
	n *= float64(uint64(1) << shift)
	if n >= math.MaxInt64 {
		return 0, errors.New("the size is out of range")
	}
	return int64(n), nil
}

func unitShift(unit string) (uint, bool) {
	if unit == "" || unit == "B" {
		return 0, true
	}
	for _, u := range byteUnits {
		if unit == u.prefix || unit == u.prefix+"B" || unit == u.prefix+"IB" {
			return u.shift, true
		}
	}
	return 0, false
}

// FormatBytes writes n in the largest unit that divides it.
func FormatBytes(n int64) string {
	for _, u := range byteUnits {
		if n != 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.prefix + "iB"
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
