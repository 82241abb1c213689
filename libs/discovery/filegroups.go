package discovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/promontory-io/promontory/libs/discovery/strictyaml"
)

// targetGroup is one entry of a file_sd file. Labels are checked but have no meaning here.
type targetGroup struct {
	Targets []string          `yaml:"targets" json:"targets"`
	Labels  map[string]string `yaml:"labels" json:"labels"`
}

// ParseTargets reads a file in Prometheus' file_sd format, JSON or YAML by the ending of its name, and returns
// the targets of all groups in the order of the file. Errors name the file and the line.
func ParseTargets(name string, content []byte) ([]string, error) {
	var (
		groups []*targetGroup
		err    error
	)
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".json":
		err = decodeJSON(name, content, &groups)
	case ".yml", ".yaml":
		err = strictyaml.Decode(name, content, &groups)
	default:
		err = fmt.Errorf("%s: unknown ending %q, want .json, .yml or .yaml", name, ext)
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for i, g := range groups {
		if g == nil {
			return nil, fmt.Errorf("%s: target group %d is empty", name, i)
		}
		for _, t := range g.Targets {
			if t == "" {
				return nil, fmt.Errorf("%s: target group %d has an empty target", name, i)
			}
			out = append(out, t)
		}
	}
	return out, nil
}

func decodeJSON(name string, content []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	err := dec.Decode(out)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one JSON value")
		}
	}
	offset := dec.InputOffset()
	var (
		syntax *json.SyntaxError
		typ    *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &typ):
		offset = typ.Offset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		offset, err = int64(len(content)), errors.New("unexpected end of JSON input")
	}
	offset = min(max(offset, 0), int64(len(content)))
	line := 1 + bytes.Count(content[:offset], []byte{'\n'})
	return fmt.Errorf("%s:%d: %s", name, line, strings.TrimPrefix(err.Error(), "json: "))
}
