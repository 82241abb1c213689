// Package requestlog decides which HTTP and gRPC requests are logged, from the YAML of
// --request.logging-config.
//
// A request is logged by the options of its protocol, which stand before the global ones. Where the
// configuration lists paths or methods, only those are logged. A request that went well
// is a debug line, one that failed on our side an error line; options.level says from
// which of these on there is a line at all, on top of --log.level.
package requestlog

import (
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"

	"github.com/promontory-io/promontory/libs/service/flags"
)

// Policy is a parsed configuration. A nil Policy logs nothing. It is immutable.
type Policy struct {
	http     Decision
	httpOnly map[httpKey]struct{} // empty means every request
	grpc     Decision
	grpcOnly map[string]struct{} // full methods; empty means every call
}

// httpKey names a handler; port 0 stands for every port.
type httpKey struct {
	path string
	port int
}

// Decision says how one request is logged. The zero value logs nothing.
type Decision struct {
	start, end bool
	level      zapcore.Level // least important level that is written
}

// Off reports whether there is nothing to log.
func (d Decision) Off() bool { return !d.end }

// StartLevel returns the level of the line at the begin of a request, and false for none.
func (d Decision) StartLevel() (zapcore.Level, bool) {
	return zapcore.DebugLevel, d.start && d.level <= zapcore.DebugLevel
}

// EndLevel returns the level of the line at the end of a request, and false for none.
func (d Decision) EndLevel(failed bool) (zapcore.Level, bool) {
	level := zapcore.DebugLevel
	if failed {
		level = zapcore.ErrorLevel
	}
	return level, d.end && d.level <= level
}

// HTTPFailed reports whether an answer with this status is an error line.
func HTTPFailed(status int) bool { return status < 200 || status >= 500 }

// GRPCFailed reports whether a call that ended so is an error line: those for which the server, not
// the caller, has to answer.
func GRPCFailed(code codes.Code) bool {
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable, codes.DataLoss, codes.Unimplemented:
		return true
	default:
		return false
	}
}

// HTTP decides on a request by the path it was made to, without prefix, and the port of the server.
func (p *Policy) HTTP(path string, port int) Decision {
	if p == nil {
		return Decision{}
	}
	if len(p.httpOnly) > 0 {
		_, here := p.httpOnly[httpKey{path, port}]
		_, anywhere := p.httpOnly[httpKey{path, 0}]
		if !here && !anywhere {
			return Decision{}
		}
	}
	return p.http
}

// GRPC decides on a call by its full method, /package.Service/Method.
func (p *Policy) GRPC(fullMethod string) Decision {
	if p == nil {
		return Decision{}
	}
	if len(p.grpcOnly) > 0 {
		if _, ok := p.grpcOnly[fullMethod]; !ok {
			return Decision{}
		}
	}
	return p.grpc
}

type document struct {
	Options options `yaml:"options"`
	HTTP    struct {
		Options options `yaml:"options"`
		Config  []struct {
			Path string `yaml:"path"`
			Port int    `yaml:"port"`
		} `yaml:"config"`
	} `yaml:"http"`
	GRPC struct {
		Options options `yaml:"options"`
		Config  []struct {
			Service string `yaml:"service"`
			Method  string `yaml:"method"`
		} `yaml:"config"`
	} `yaml:"grpc"`
}

type options struct {
	Level    string `yaml:"level"`
	Decision *struct {
		LogStart bool `yaml:"log_start"`
		LogEnd   bool `yaml:"log_end"`
	} `yaml:"decision"`
}

// Load reads and checks the content of --request.logging-config; an unset pair gives nil. The
// error holds all problems and names their source.
func Load(c *flags.Content) (*Policy, error) {
	if !c.IsSet() {
		return nil, nil
	}
	var doc document
	if err := c.Decode(&doc); err != nil {
		return nil, err
	}
	p, err := newPolicy(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Source(), err)
	}
	return p, nil
}

func newPolicy(doc document) (*Policy, error) {
	p := &Policy{httpOnly: map[httpKey]struct{}{}, grpcOnly: map[string]struct{}{}}
	var errs []error
	var err error
	if p.http, err = decide("http.options", doc.HTTP.Options, doc.Options); err != nil {
		errs = append(errs, err)
	}
	if p.grpc, err = decide("grpc.options", doc.GRPC.Options, doc.Options); err != nil {
		errs = append(errs, err)
	}
	for i, e := range doc.HTTP.Config {
		if e.Path == "" || e.Port < 0 || e.Port > 65535 {
			errs = append(errs, fmt.Errorf("http.config[%d]: want a path and a port, have %q and %d", i, e.Path, e.Port))
		}
		p.httpOnly[httpKey{e.Path, e.Port}] = struct{}{}
	}
	for i, e := range doc.GRPC.Config {
		if e.Service == "" || e.Method == "" {
			errs = append(errs, fmt.Errorf("grpc.config[%d]: want a service and a method, have %q and %q", i, e.Service, e.Method))
		}
		p.grpcOnly["/"+e.Service+"/"+e.Method] = struct{}{}
	}
	return p, errors.Join(errs...)
}

// decide makes one decision of the options of a protocol and, where those say nothing, the global ones.
func decide(where string, own, global options) (Decision, error) {
	if own.Level == "" {
		own.Level = global.Level
	}
	if own.Decision == nil {
		own.Decision = global.Decision
	}
	var d Decision
	switch strings.ToUpper(own.Level) {
	case "", "DEBUG":
		d.level = zapcore.DebugLevel
	case "INFO":
		d.level = zapcore.InfoLevel
	case "WARN", "WARNING":
		d.level = zapcore.WarnLevel
	case "ERROR":
		d.level = zapcore.ErrorLevel
	default:
		return d, fmt.Errorf("%s.level: unknown level %q, want DEBUG, INFO, WARN or ERROR", where, own.Level)
	}
	if own.Decision == nil {
		return d, nil
	}
	d.start, d.end = own.Decision.LogStart, own.Decision.LogEnd
	if d.start && !d.end {
		return d, fmt.Errorf("%s.decision: log_start needs log_end too", where)
	}
	return d, nil
}
