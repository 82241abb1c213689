package logging

import (
	"fmt"

	gokit "github.com/go-kit/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// GoKit returns a logger for code written against github.com/go-kit/log. Its level and msg
// keys become the level and the message; lines without a level are logged at info.
func GoKit(l *zap.Logger) gokit.Logger {
	return goKit{l.WithOptions(zap.WithCaller(false))}
}

type goKit struct{ l *zap.Logger }

func (g goKit) Log(keyvals ...any) error {
	level, msg := zapcore.InfoLevel, ""
	fields := make([]zap.Field, 0, len(keyvals)/2)
	for i := 0; i < len(keyvals); i += 2 {
		key := fmt.Sprint(keyvals[i])
		var val any = gokit.ErrMissingValue
		if i+1 < len(keyvals) {
			val = keyvals[i+1]
		}
		switch key {
		case "level":
			if parsed, err := zapcore.ParseLevel(fmt.Sprint(val)); err == nil {
				level = parsed
			}
		case "msg":
			msg = fmt.Sprint(val)
		case "ts", "caller":
			// Ours is written by the logger itself.
		default:
			if v, ok := val.(gokit.Valuer); ok {
				val = v()
			}
			fields = append(fields, zap.Any(key, val))
		}
	}
	if ce := g.l.Check(level, msg); ce != nil {
		ce.Write(fields...)
	}
	return nil
}
