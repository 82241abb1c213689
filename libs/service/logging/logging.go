// Package logging makes the logger of a process and adapts it for code that was written
// against another logging library.
package logging

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Config says what is logged and how.
type Config struct {
	// Level is error, warn, info or debug.
	Level string
	// Format is logfmt, json or journald.
	Format string
	// DebugName, where set, is added to every line as name.
	DebugName string
}

// DefaultConfig returns level info in logfmt.
func DefaultConfig() Config { return Config{Level: "info", Format: "logfmt"} }

// BindFlags binds --log.level, --log.format and the hidden --debug.name.
func (c *Config) BindFlags(fs *pflag.FlagSet) {
	flags.Enum(fs, &c.Level, "log.level", "Least important messages to log.", "error", "warn", "info", "debug")
	flags.Enum(fs, &c.Format, "log.format", "Format of log messages.", "logfmt", "json", "journald")
	flags.String(fs, &c.DebugName, "debug.name", "Name that is added to every log line as name.")
	flags.Hide(fs, "debug.name")
}

// Slog returns a logger for code written against log/slog. Errors carry no stack trace.
func Slog(l *zap.Logger) *slog.Logger {
	return slog.New(zapslog.NewHandler(l.Core(),
		zapslog.WithName(l.Name()),
		zapslog.WithCaller(true),
		// One above everything in use: a stack trace in each slog error says nothing.
		zapslog.AddStacktraceAt(slog.LevelError+100),
	))
}

// New returns a logger that writes to w, or to the journal when Format is journald.
func New(cfg Config, w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("--log.level: %w", err)
	}
	core, err := newCore(cfg.Format, level, w)
	if err != nil {
		return nil, fmt.Errorf("--log.format=%s: %w", cfg.Format, err)
	}
	l := zap.New(core, zap.AddCaller(), zap.ErrorOutput(zapcore.Lock(zapcore.AddSync(w))))
	if cfg.DebugName != "" {
		l = l.With(zap.String("name", cfg.DebugName))
	}
	return l, nil
}

func newCore(format string, level zapcore.Level, w io.Writer) (zapcore.Core, error) {
	switch format {
	case "logfmt":
		return zapcore.NewCore(newLogfmtEncoder(), zapcore.Lock(zapcore.AddSync(w)), level), nil
	case "json":
		return zapcore.NewCore(zapcore.NewJSONEncoder(jsonConfig()), zapcore.Lock(zapcore.AddSync(w)), level), nil
	case "journald":
		return newJournalCore(journalSocket, level)
	default:
		return nil, fmt.Errorf("unknown format %q", format)
	}
}

// jsonConfig uses the keys that the logfmt encoder uses too.
func jsonConfig() zapcore.EncoderConfig {
	return zapcore.EncoderConfig{
		TimeKey:        "ts",
		CallerKey:      "caller",
		LevelKey:       "level",
		NameKey:        "logger",
		MessageKey:     "msg",
		StacktraceKey:  "stacktrace",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeTime:     encodeTime,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeCaller:   zapcore.ShortCallerEncoder,
	}
}
