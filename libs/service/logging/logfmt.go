package logging

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// logfmtEncoder writes one line of key=value pairs per entry: ts, caller, level, logger, msg, then
// the fields. Objects and namespaces become keys with dots, arrays become JSON in a string.
type logfmtEncoder struct {
	pool   buffer.Pool
	buf    *buffer.Buffer // pairs of With, each followed by a blank
	prefix string         // of keys, from namespaces and objects
}

var _ zapcore.Encoder = (*logfmtEncoder)(nil)

func newLogfmtEncoder() *logfmtEncoder {
	pool := buffer.NewPool()
	return &logfmtEncoder{pool: pool, buf: pool.Get()}
}

// timeLayout is RFC 3339 in UTC with milliseconds always written, so that lines align.
const timeLayout = "2006-01-02T15:04:05.000Z"

func encodeTime(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString(t.UTC().Format(timeLayout))
}

func (e *logfmtEncoder) clone() *logfmtEncoder {
	c := &logfmtEncoder{pool: e.pool, buf: e.pool.Get(), prefix: e.prefix}
	_, _ = c.buf.Write(e.buf.Bytes()) // never fails
	return c
}

// Clone implements zapcore.Encoder.
func (e *logfmtEncoder) Clone() zapcore.Encoder { return e.clone() }

// EncodeEntry implements zapcore.Encoder.
func (e *logfmtEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line := &logfmtEncoder{pool: e.pool, buf: e.pool.Get()}
	line.key("ts")
	line.buf.AppendTime(entry.Time.UTC(), timeLayout)
	line.end()
	if entry.Caller.Defined {
		line.AddString("caller", shortCaller(entry.Caller))
	}
	line.key("level")
	line.buf.AppendString(entry.Level.String())
	line.end()
	if entry.LoggerName != "" {
		line.AddString("logger", entry.LoggerName)
	}
	line.AddString("msg", entry.Message)
	_, _ = line.buf.Write(e.buf.Bytes()) // never fails
	line.prefix = e.prefix
	for _, f := range fields {
		f.AddTo(line)
	}
	line.prefix = ""
	if entry.Stack != "" {
		line.AddString("stacktrace", entry.Stack)
	}
	// Every pair ends with a blank; that of the last one becomes the end of the line.
	b := line.buf.Bytes()
	b[len(b)-1] = '\n'
	return line.buf, nil
}

// shortCaller is file:line without any folder: package and line are enough to find it, and columns align.
func shortCaller(c zapcore.EntryCaller) string {
	return c.File[strings.LastIndexByte(c.File, '/')+1:] + ":" + strconv.Itoa(c.Line)
}

func (e *logfmtEncoder) key(k string) {
	full := e.prefix + k
	if full == "" {
		full = "_"
	}
	for _, r := range full {
		if r <= ' ' || r == '=' || r == '"' || r == 0x7f || r == utf8.RuneError {
			r = '_'
		}
		e.buf.AppendString(string(r))
	}
	e.buf.AppendByte('=')
}

func (e *logfmtEncoder) end() { e.buf.AppendByte(' ') }

// text writes s, in quotes where a reader would otherwise not find its end.
func (e *logfmtEncoder) text(s string) {
	if !needsQuotes(s) {
		e.buf.AppendString(s)
		return
	}
	e.buf.AppendByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			e.buf.AppendByte('\\')
			e.buf.AppendByte(byte(r))
		case r == '\n':
			e.buf.AppendString(`\n`)
		case r == '\r':
			e.buf.AppendString(`\r`)
		case r == '\t':
			e.buf.AppendString(`\t`)
		case r < ' ' || r == 0x7f:
			const hex = "0123456789abcdef"
			e.buf.AppendString(`\u00`)
			e.buf.AppendByte(hex[r>>4])
			e.buf.AppendByte(hex[r&0xf])
		default:
			// Ranging over a string yields U+FFFD for bytes that are no UTF-8.
			e.buf.AppendString(string(r))
		}
	}
	e.buf.AppendByte('"')
}

func needsQuotes(s string) bool {
	if s == "" {
		return true
	}
	for _, r := range s {
		if r <= ' ' || r == '=' || r == '"' || r == '\\' || r == 0x7f || r == utf8.RuneError {
			return true
		}
	}
	return false
}

// AddString implements zapcore.ObjectEncoder, as all below.
func (e *logfmtEncoder) AddString(k, v string) {
	// zap adds a second form of some errors with their stack trace; a line of logs is no place for it.
	if k == "errorVerbose" {
		return
	}
	e.key(k)
	e.text(v)
	e.end()
}

func (e *logfmtEncoder) AddByteString(k string, v []byte) { e.AddString(k, string(v)) }
func (e *logfmtEncoder) AddBinary(k string, v []byte) {
	e.AddString(k, base64.StdEncoding.EncodeToString(v))
}
func (e *logfmtEncoder) AddDuration(k string, v time.Duration) { e.AddString(k, v.String()) }
func (e *logfmtEncoder) AddTime(k string, v time.Time)         { e.AddString(k, v.UTC().Format(timeLayout)) }

func (e *logfmtEncoder) AddBool(k string, v bool) { e.AddString(k, strconv.FormatBool(v)) }

func (e *logfmtEncoder) AddInt64(k string, v int64) { e.AddString(k, strconv.FormatInt(v, 10)) }

func (e *logfmtEncoder) AddUint64(k string, v uint64)   { e.AddString(k, strconv.FormatUint(v, 10)) }
func (e *logfmtEncoder) AddInt(k string, v int)         { e.AddInt64(k, int64(v)) }
func (e *logfmtEncoder) AddInt32(k string, v int32)     { e.AddInt64(k, int64(v)) }
func (e *logfmtEncoder) AddInt16(k string, v int16)     { e.AddInt64(k, int64(v)) }
func (e *logfmtEncoder) AddInt8(k string, v int8)       { e.AddInt64(k, int64(v)) }
func (e *logfmtEncoder) AddUint(k string, v uint)       { e.AddUint64(k, uint64(v)) }
func (e *logfmtEncoder) AddUint32(k string, v uint32)   { e.AddUint64(k, uint64(v)) }
func (e *logfmtEncoder) AddUint16(k string, v uint16)   { e.AddUint64(k, uint64(v)) }
func (e *logfmtEncoder) AddUint8(k string, v uint8)     { e.AddUint64(k, uint64(v)) }
func (e *logfmtEncoder) AddUintptr(k string, v uintptr) { e.AddUint64(k, uint64(v)) }
func (e *logfmtEncoder) AddFloat64(k string, v float64) {
	e.AddString(k, strconv.FormatFloat(v, 'g', -1, 64))
}

func (e *logfmtEncoder) AddFloat32(k string, v float32) {
	e.AddString(k, strconv.FormatFloat(float64(v), 'g', -1, 32))
}

func (e *logfmtEncoder) AddComplex128(k string, v complex128) {
	e.AddString(k, strconv.FormatComplex(v, 'g', -1, 128))
}

func (e *logfmtEncoder) AddComplex64(k string, v complex64) {
	e.AddString(k, strconv.FormatComplex(complex128(v), 'g', -1, 64))
}

func (e *logfmtEncoder) OpenNamespace(k string) { e.prefix += k + "." }

func (e *logfmtEncoder) AddObject(k string, m zapcore.ObjectMarshaler) error {
	before := e.prefix
	e.prefix += k + "."
	defer func() { e.prefix = before }()
	return m.MarshalLogObject(e)
}

func (e *logfmtEncoder) AddArray(k string, m zapcore.ArrayMarshaler) error {
	values := zapcore.NewMapObjectEncoder()
	err := values.AddArray(k, m)
	// What could be encoded is written even when some could not.
	if rerr := e.AddReflected(k, readable(values.Fields[k])); err == nil {
		err = rerr
	}
	return err
}

func (e *logfmtEncoder) AddReflected(k string, v any) error {
	// A plain string needs no JSON quotes inside of ours.
	if s, ok := v.(string); ok {
		e.AddString(k, s)
		return nil
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	e.AddString(k, strings.TrimSuffix(out.String(), "\n"))
	return nil
}

// readable makes of decoded array elements what JSON can hold and people can read.
func readable(v any) any {
	switch v := v.(type) {
	case []any:
		v = slices.Clone(v)
		for i := range v {
			v[i] = readable(v[i])
		}
		return v
	case time.Duration:
		return v.String()
	case time.Time:
		return v.UTC().Format(timeLayout)
	case complex64, complex128:
		return "complex"
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
		return v
	default:
		return v
	}
}
