package logging

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// journalSocket is where journald takes entries in its native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
const journalSocket = "/run/systemd/journal/socket"

// maxJournalMessage bounds one datagram: larger ones would have to be handed over as sealed memory
// files, which a log line is not worth.
const maxJournalMessage = 64 << 10

// journalCore sends entries to journald: the message in logfmt for people, and level, logger and
// code position as fields to filter by.
type journalCore struct {
	zapcore.LevelEnabler
	enc  zapcore.Encoder
	conn *net.UnixConn
}

func newJournalCore(socket string, level zapcore.LevelEnabler) (zapcore.Core, error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("connect to journald: %w", err)
	}
	return &journalCore{LevelEnabler: level, enc: newLogfmtEncoder(), conn: conn}, nil
}

func (c *journalCore) With(fields []zapcore.Field) zapcore.Core {
	enc := c.enc.Clone()
	for _, f := range fields {
		f.AddTo(enc)
	}
	return &journalCore{LevelEnabler: c.LevelEnabler, enc: enc, conn: c.conn}
}

func (c *journalCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	line, err := c.enc.EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	defer line.Free()
	text := strings.TrimSuffix(line.String(), "\n")
	text = text[:min(len(text), maxJournalMessage)]

	out := buffer.NewPool().Get()
	journalField(out, "MESSAGE", text)
	journalField(out, "PRIORITY", strconv.Itoa(priority(e.Level)))
	if e.LoggerName != "" {
		journalField(out, "LOGGER", e.LoggerName)
	}
	if e.Caller.Defined {
		journalField(out, "CODE_FILE", e.Caller.File)
		journalField(out, "CODE_LINE", strconv.Itoa(e.Caller.Line))
	}
	_, err = c.conn.Write(out.Bytes())
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTCONN) {
		return fmt.Errorf("journald is gone: %w", err)
	}
	return err
}

func (c *journalCore) Sync() error { return nil }

// journalField appends one field. A value with a line break is sent with its length before it.
func journalField(out *buffer.Buffer, name, val string) {
	out.AppendString(name)
	if !strings.Contains(val, "\n") {
		out.AppendByte('=')
	} else {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(val)))
		out.AppendByte('\n')
		_, _ = out.Write(size[:]) // never fails
	}
	out.AppendString(val)
	out.AppendByte('\n')
}

// priority is syslog's.
func priority(l zapcore.Level) int {
	switch {
	case l >= zapcore.DPanicLevel:
		return 2
	case l == zapcore.ErrorLevel:
		return 3
	case l == zapcore.WarnLevel:
		return 4
	case l == zapcore.InfoLevel:
		return 6
	default:
		return 7
	}
}
