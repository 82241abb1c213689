package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/service/logging"
)

// writeServer is the HTTP server that senders write to.
type writeServer struct {
	srv      *http.Server
	listener net.Listener
	grace    time.Duration
}

// listen takes the address. Connections wait until the server runs.
func listen(cfg WriteConfig, grace time.Duration, h http.Handler, logger *zap.Logger) (*writeServer, error) {
	tlsCfg, err := cfg.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("--remote-write.server-tls-*: %w", err)
	}
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("--remote-write.address=%s: %w", cfg.Address, err)
	}
	logger = logger.Named("remote_write")
	logger.Info("listening", zap.String("address", l.Addr().String()), zap.Bool("tls", tlsCfg != nil))
	if tlsCfg != nil {
		l = tls.NewListener(l, tlsCfg)
	}
	return &writeServer{
		srv: &http.Server{
			Handler: h, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute,
			ErrorLog: slog.NewLogLogger(logging.Slog(logger).Handler(), slog.LevelWarn),
		},
		listener: l, grace: grace,
	}, nil
}

func (s *writeServer) part() lifecycle.Part {
	return lifecycle.Part{
		Name: "remote_write",
		Run: func(ctx context.Context) error {
			stop := context.AfterFunc(ctx, func() { _ = s.srv.Close() })
			defer stop()
			if err := s.srv.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		Stop: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, s.grace)
			defer cancel()
			if err := s.srv.Shutdown(ctx); err != nil {
				return errors.Join(fmt.Errorf("wait for writes: %w", err), s.srv.Close())
			}
			return nil
		},
	}
}
