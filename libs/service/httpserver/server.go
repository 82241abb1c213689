// Package httpserver answers HTTP for a process: its API, and beside it what every process
// has: probes, metrics and profiles.
//
// Metrics, probes and profiles stand at the root. An API is mounted by Handle, or under a
// prefix by Mount, with each of its handlers wrapped by Middleware, which traces,
// measures and logs requests.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/logging"
)

// Options is what a server needs of its process.
type Options struct {
	Logger *zap.Logger
	// Gatherer is what /metrics shows; nil means that there is no /metrics.
	Gatherer prometheus.Gatherer
	// Registerer takes the metrics of /metrics itself; nil works.
	Registerer prometheus.Registerer
	// Status is what the probes answer by; nil means that there are none.
	Status *lifecycle.Status
	// AddressFlag is the flag to blame when the address cannot be used; http-address unless set.
	AddressFlag string
}

// Server is an HTTP server. Handlers are added before Serve is called; all else may be called
// from anywhere.
type Server struct {
	cfg      Config
	logger   *zap.Logger
	flag     string
	mux      *http.ServeMux
	srv      *http.Server
	listener net.Listener
}

// New returns a server with the common endpoints in place. It does not listen yet.
func New(cfg Config, opts Options) *Server {
	flag := opts.AddressFlag
	if flag == "" {
		flag = "http-address"
	}
	s := &Server{
		cfg:    cfg,
		logger: opts.Logger.Named("http"),
		flag:   flag,
		mux:    http.NewServeMux(),
	}
	s.srv = &http.Server{
		Handler:           s.mux,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(logging.Slog(s.logger).Handler(), slog.LevelWarn),
	}
	registerCommon(s.mux, opts)
	return s
}

// Handle adds a handler for a pattern of http.ServeMux, at the root.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Listen takes the address. After it Addr and URL are valid, and connections wait in the
// backlog until Serve. The error names the flag and the address.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("--%s=%s: %w", s.flag, s.cfg.Address, err)
	}
	s.listener = l
	s.logger.Info("listening", zap.String("address", l.Addr().String()),
		zap.Bool("web_config", s.cfg.WebConfigFile != ""))
	return nil
}

// Addr returns the address listened on with the port really taken; nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Serve answers requests until Shutdown is called or ctx is cancelled; the latter cuts off
// what is in flight. It listens first if Listen was not called.
func (s *Server) Serve(ctx context.Context) error {
	if s.listener == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = s.srv.Close() })
	defer stop()
	none, systemd := []string{}, false
	// That it listens is said already, with the port that was really taken.
	quiet := s.logger
	if quiet.Level() < zap.WarnLevel { // a level cannot be raised to what lies below it
		quiet = quiet.WithOptions(zap.IncreaseLevel(zap.WarnLevel))
	}
	err := web.Serve(s.listener, s.srv, &web.FlagConfig{
		WebListenAddresses: &none,
		WebSystemdSocket:   &systemd,
		WebConfigFile:      &s.cfg.WebConfigFile,
	}, logging.Slog(quiet))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops taking requests and waits for those in flight, for as long as the grace
// period and ctx allow. What is left then is cut off, and an error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.GracePeriod)
	defer cancel()
	err := s.srv.Shutdown(ctx)
	if err == nil {
		return nil
	}
	// The deadline passed: nothing waits any more.
	return errors.Join(fmt.Errorf("wait for HTTP requests: %w", err), s.srv.Close())
}

// Close cuts off everything and frees the address, whether Serve was called or not. It may be
// called more than once.
func (s *Server) Close() error {
	err := s.srv.Close()
	if s.listener != nil {
		// Serve closes it too; only a listener that was never served on is still open.
		if cerr := s.listener.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}

// Part returns the server as a part of a run group.
func (s *Server) Part(name string) lifecycle.Part {
	return lifecycle.Part{Name: name, Run: s.Serve, Stop: s.Shutdown}
}
