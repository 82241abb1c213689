package objstore

import (
	"fmt"

	kitlog "github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newKitLogger lets upstream clients, which speak go-kit, log through zap. Lines without a level are Info.
func newKitLogger(logger *zap.Logger) kitlog.Logger {
	// The caller is of no use: it would always be the adapter.
	return kitlog.LoggerFunc(kitAdapter{logger.WithOptions(zap.WithCaller(false))}.log)
}

type kitAdapter struct{ logger *zap.Logger }

func (a kitAdapter) log(keyvals ...any) error {
	lvl, msg := zapcore.InfoLevel, ""
	fields := make([]zap.Field, 0, len(keyvals)/2)
	for i := 0; i < len(keyvals); i += 2 {
		key := fmt.Sprint(keyvals[i])
		var value any = kitlog.ErrMissingValue
		if i+1 < len(keyvals) {
			value = keyvals[i+1]
		}
		if valuer, ok := value.(kitlog.Valuer); ok {
			value = valuer()
		}
		switch key {
		case "level":
			lvl = zapLevel(value)
		case "msg":
			msg = fmt.Sprint(value)
		case "ts", "caller":
			// zap has its own
		case "err":
			if err, ok := value.(error); ok {
				fields = append(fields, zap.Error(err))
				continue
			}
			fields = append(fields, zap.Any("error", value))
		default:
			fields = append(fields, zap.Any(key, value))
		}
	}
	if entry := a.logger.Check(lvl, msg); entry != nil {
		entry.Write(fields...)
	}
	return nil
}

func zapLevel(value any) zapcore.Level {
	switch value {
	case level.DebugValue():
		return zapcore.DebugLevel
	case level.WarnValue():
		return zapcore.WarnLevel
	case level.ErrorValue():
		return zapcore.ErrorLevel
	}
	return zapcore.InfoLevel
}
