// Package answer takes JSON answers of the query API apart, joins them and writes the join, without decoding a value.
//
// Points stay the text they came as. Cutting a range out of them finds where a point begins, joining puts pieces behind
// each other, writing copies them: an answer of many parts is in memory once, as the bodies it was received in.
package answer

import (
	"errors"
	"fmt"
)

// Result types of the API. TypeList is ours, for label names and series.
const (
	TypeMatrix = "matrix"
	TypeVector = "vector"
	TypeList   = "list"
)

// ErrMalformed is in the chain of every error of this package: the answer is not what the API answers.
var ErrMalformed = errors.New("malformed answer")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// Answer is a successful answer. All byte slices point into the body it was parsed from, or into those of the answers it
// was merged from, which must not change while it is used.
type Answer struct {
	// Type is matrix or vector with Series set, list with Items set, or what else the engine returns, with Value set.
	Type   string
	Series []Series
	// Items are the elements of a list, each a JSON value.
	Items [][]byte
	// Value is the result of the other types, as it came.
	Value []byte
	// Stats and Analysis are what the answer says of its cost; nil where it says nothing.
	Stats, Analysis []byte
	// Warnings and Infos are the notes, unquoted.
	Warnings, Infos []string
}

// Series is one series of a matrix or a vector.
type Series struct {
	// Metric is the label set, as the JSON object it came as.
	Metric []byte
	// Floats and Histograms are lists of points: in a matrix "[t,v],[t,v]", in pieces that follow each other in time; in
	// a vector one point.
	Floats, Histograms Points
}

// Points is a list of points in pieces. No piece is empty.
type Points [][]byte

// Bytes returns the length of all pieces.
func (p Points) Bytes() (n int) {
	for _, piece := range p {
		n += len(piece)
	}
	return n
}
