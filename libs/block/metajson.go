package block

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/prometheus/prometheus/tsdb"
)

// plainMeta is Meta for the decoder. Its ID shadows the embedded one because the
// ULID type accepts any 26 bytes of text, and a wrong letter must not pass.
type plainMeta struct {
	ID string `json:"ulid"`
	tsdb.BlockMeta
	Thanos Thanos `json:"thanos"`
}

// MarshalJSON encodes the known members in their fixed order and the unknown ones after.
func (m Meta) MarshalJSON() ([]byte, error) {
	if m.Thanos.Labels == nil {
		m.Thanos.Labels = map[string]string{}
	}
	known, err := json.Marshal(struct {
		tsdb.BlockMeta
		Thanos Thanos `json:"thanos"`
	}{m.BlockMeta, m.Thanos})
	if err != nil || len(m.Unknown) == 0 {
		return known, err
	}
	return addUnknown(known, "", m.Unknown)
}

// UnmarshalJSON decodes one meta.json, checks its versions and its ULID, and
// gathers members it does not know.
func (m *Meta) UnmarshalJSON(b []byte) error {
	var p plainMeta
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var unknown map[string]map[string]json.RawMessage
	if err := dec.Decode(&p); err != nil {
		// Nearly every meta.json has known members only and takes one pass. Where the
		// strict pass fails, the lenient one tells bad JSON from new members.
		p = plainMeta{}
		if err := json.Unmarshal(b, &p); err != nil {
			return err
		}
		if unknown, err = findUnknown(b); err != nil {
			return err
		}
	}
	id, ok := ParseID(p.ID)
	if !ok {
		return fmt.Errorf("ulid %q is not a ULID", p.ID)
	}
	if err := checkVersion("version", p.Version, MetaVersion); err != nil {
		return err
	}
	if p.Thanos.Version != 0 {
		if err := checkVersion("thanos.version", p.Thanos.Version, ThanosVersion); err != nil {
			return err
		}
	}
	p.ULID = id
	*m = Meta{BlockMeta: p.BlockMeta, Thanos: p.Thanos, Unknown: unknown}
	return nil
}

func checkVersion(key string, got, want int) error {
	switch {
	case got == want:
		return nil
	case got > want:
		return fmt.Errorf("%s %d is from the future: this program reads %d", key, got, want)
	default:
		return fmt.Errorf("%s is %d, want %d", key, got, want)
	}
}

// objectTypes tells the type of each object of meta.json whose unknown members are kept.
func objectTypes() map[string]reflect.Type {
	return map[string]reflect.Type{
		"":                   reflect.TypeFor[plainMeta](),
		"stats":              reflect.TypeFor[tsdb.BlockStats](),
		"compaction":         reflect.TypeFor[tsdb.BlockMetaCompaction](),
		"thanos":             reflect.TypeFor[Thanos](),
		"thanos.downsample":  reflect.TypeFor[Downsample](),
		"thanos.index_stats": reflect.TypeFor[IndexStats](),
	}
}

// memberNames returns the JSON names of a struct's fields, embedded ones included,
// in lower case because the decoder ignores case too.
func memberNames(t reflect.Type, into map[string]bool) map[string]bool {
	for f := range fields(t) {
		if f.Anonymous {
			memberNames(f.Type, into)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		into[strings.ToLower(name)] = true
	}
	return into
}

func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

func findUnknown(b []byte) (map[string]map[string]json.RawMessage, error) {
	out := map[string]map[string]json.RawMessage{}
	for path, typ := range objectTypes() {
		obj, err := objectAt(b, path)
		if err != nil {
			return nil, err
		}
		known := memberNames(typ, map[string]bool{})
		for name, raw := range obj {
			if known[strings.ToLower(name)] {
				continue
			}
			if out[path] == nil {
				out[path] = map[string]json.RawMessage{}
			}
			out[path][name] = raw
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// objectAt returns the members of the object at a dotted path, nil if there is none.
func objectAt(b []byte, path string) (map[string]json.RawMessage, error) {
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(b, &obj); err != nil {
		return nil, err
	}
	if path == "" {
		return obj, nil
	}
	head, rest, _ := strings.Cut(path, ".")
	raw, ok := obj[head]
	if !ok {
		return nil, nil
	}
	return objectAt(raw, rest)
}

// addUnknown returns the object b with the unknown members of it and of the
// objects inside. A member that is known wins over an unknown of its name.
func addUnknown(b []byte, path string, unknown map[string]map[string]json.RawMessage) ([]byte, error) {
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(b, &obj); err != nil {
		return nil, err
	}
	for name, raw := range unknown[path] {
		if _, ok := obj[name]; !ok {
			obj[name] = raw
		}
	}
	for _, name := range innerObjects(path) {
		sub := strings.TrimPrefix(path+"."+name, ".")
		if !hasUnknownBelow(unknown, sub) {
			continue
		}
		inner, err := addUnknown(obj[name], sub, unknown)
		if err != nil {
			return nil, err
		}
		obj[name] = inner
	}
	return json.Marshal(obj)
}

// innerObjects returns the names of the objects inside an object whose unknown
// members are kept, as in objectTypes. Names from a meta.json itself do not lead
// the way: one may be empty, or have dots.
func innerObjects(path string) []string {
	switch path {
	case "":
		return []string{"stats", "compaction", "thanos"}
	case "thanos":
		return []string{"downsample", "index_stats"}
	default:
		return nil
	}
}

func hasUnknownBelow(unknown map[string]map[string]json.RawMessage, path string) bool {
	for p := range unknown {
		if p == path || strings.HasPrefix(p, path+".") {
			return true
		}
	}
	return false
}

// ParseMeta decodes a meta.json. The error wraps ErrMetaCorrupt and gives the reason.
func ParseMeta(b []byte) (*Meta, error) {
	m := &Meta{}
	err := json.Unmarshal(b, m)
	if err == nil {
		return m, nil
	}
	var syntax *json.SyntaxError
	if len(bytes.TrimSpace(b)) == 0 {
		err = errors.New("empty")
	} else if errors.As(err, &syntax) && strings.HasPrefix(syntax.Error(), "unexpected end") {
		err = fmt.Errorf("truncated JSON after %d bytes", len(b))
	}
	return nil, fmt.Errorf("%w: %w", ErrMetaCorrupt, err)
}

// Encode returns meta.json as it is written: tab indented, with a final newline.
func (m *Meta) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("encode meta.json of block %s: %w", m.ULID, err)
	}
	return append(b, '\n'), nil
}

// readLimited reads r to its end, or fails once it is longer than maxBytes.
func readLimited(r io.Reader, maxBytes int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > maxBytes {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrMetaCorrupt, maxBytes)
	}
	return b, nil
}
