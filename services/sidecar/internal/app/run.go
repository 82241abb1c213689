package app

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/common/version"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/block"
	"github.com/promontory-io/promontory/libs/block/ship"
	"github.com/promontory-io/promontory/libs/objstore"
	"github.com/promontory-io/promontory/libs/promapi/httpclient"
	"github.com/promontory-io/promontory/libs/promapi/procstatus"
	"github.com/promontory-io/promontory/libs/promapi/promclient"
	"github.com/promontory-io/promontory/libs/service"
	"github.com/promontory-io/promontory/libs/service/grpcserver"
	"github.com/promontory-io/promontory/libs/service/lifecycle"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/services/sidecar/internal/grpcapi"
	"github.com/promontory-io/promontory/services/sidecar/internal/reload"
	"github.com/promontory-io/promontory/services/sidecar/internal/remoteread"
	"github.com/promontory-io/promontory/services/sidecar/internal/store"
	"github.com/promontory-io/promontory/services/sidecar/internal/upload"
	"github.com/promontory-io/promontory/services/sidecar/internal/upstream"
)

// component names the sidecar in metrics and to buckets.
const component = "sidecar"

// Run wires a sidecar and serves until ctx ends.
func Run(ctx context.Context, cfg Config, p *service.Process) error {
	base, err := cfg.Prometheus.url()
	if err != nil {
		return err
	}
	httpClient, err := newHTTPClient(&cfg.Prometheus, p)
	if err != nil {
		return err
	}
	client := promclient.New(base, promclient.Options{HTTP: httpClient})
	reader := remoteread.NewClient(base, httpClient, userAgent())

	monitor := newMonitor(ctx, cfg, client, p)
	p.Group.AddPart(lifecycle.Part{Name: "prometheus", Run: monitor.Run, Ready: monitor.Started()})

	procstatus.Handle(p.HTTP, p.Flags, nil, p.Logger)
	if err := addReloader(cfg.Reloader, client, p); err != nil {
		return err
	}
	if cfg.Bucket.IsSet() {
		if err := addUploads(cfg, monitor, p); err != nil {
			return err
		}
	} else {
		p.Logger.Info("no bucket configured, blocks are not uploaded")
	}

	server := grpcapi.New(storeapi.Limits{Series: cfg.SeriesLimit, Samples: cfg.SamplesLimit}, grpcapi.Deps{
		Store:  store.New(store.Config{}, monitor, client, reader, p.Logger, p.Registry),
		Source: monitor, Client: client, Ready: p.Status.Ready, Logger: p.Logger, Registerer: p.Registry,
	})
	_, err = p.GRPC(grpcserver.Options{
		Register:      []func(grpc.ServiceRegistrar){server.Register},
		ServerOptions: []grpc.ServerOption{storeapi.ServerOption()},
	})
	if err != nil {
		return err
	}
	return p.Serve(ctx)
}

func userAgent() string { return "promontory-sidecar/" + version.Version }

func newHTTPClient(cfg *PrometheusConfig, p *service.Process) (*http.Client, error) {
	content, err := cfg.Client.Bytes()
	if err != nil {
		return nil, err
	}
	settings, err := httpclient.Parse(cfg.Client.Source(), content)
	if err != nil {
		return nil, err
	}
	client, err := httpclient.New(settings, userAgent())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Client.Source(), err)
	}
	client.Transport = p.Tracing.RoundTripper("prometheus", client.Transport)
	return client, nil
}

func newMonitor(ctx context.Context, cfg Config, client *promclient.Client, p *service.Process) *upstream.Monitor {
	watch := upstream.Config{
		Interval: cfg.Prometheus.ConfigInterval, Timeout: cfg.Prometheus.ConfigTimeout, ReadyTimeout: cfg.Prometheus.ReadyTimeout,
		MinTime: func() int64 { return cfg.MinTime.Millis(time.Now()) },
		SetReady: func(ready bool) {
			// A process that was asked to stop is not ready any more, whatever Prometheus does.
			p.Status.SetReady(ready && ctx.Err() == nil)
		},
	}
	if cfg.Bucket.IsSet() {
		guard := upload.Guard{Dir: cfg.TSDBPath, MetaFileName: cfg.Shipper.MetaFileName, IgnoreUnequal: cfg.Shipper.IgnoreUnequal}
		watch.CheckFlags = func(flags promclient.Flags) error {
			notes, err := guard.Check(flags)
			for _, note := range notes {
				p.Logger.Warn(note)
			}
			return err
		}
	}
	return upstream.New(watch, client, p.Logger, p.Registry)
}

func addReloader(cfg ReloaderConfig, client *promclient.Client, p *service.Process) error {
	var trigger reload.Trigger = reload.ByHTTP{Client: client}
	if cfg.Method == reload.MethodSignal {
		trigger = reload.BySignal{Client: client, ProcessName: cfg.ProcessName}
	}
	reloader := reload.New(cfg.Files, trigger, p.Logger, p.Registry)
	p.Group.OnReload("reloader", func(context.Context) error {
		reloader.Kick()
		return nil
	})
	p.Group.Add("reloader", reloader.Run)
	return nil
}

// addUploads opens the bucket and adds the loop that ships blocks. A bucket that cannot be reached
// delays uploads and nothing else.
func addUploads(cfg Config, monitor *upstream.Monitor, p *service.Process) error {
	content, err := cfg.Bucket.Bytes()
	if err != nil {
		return err
	}
	bkt, err := objstore.New(content, component, p.Logger, p.Registry, objstore.WithSource(cfg.Bucket.Source()))
	if err != nil {
		return err
	}
	shipper, err := ship.New(p.Logger, bkt, ship.Config{
		Dir: cfg.TSDBPath,
		Labels: func() labels.Labels {
			lset, _ := monitor.Labels()
			return lset
		},
		Source:            block.SourceSidecar,
		MetaFileName:      cfg.Shipper.MetaFileName,
		HashFunc:          block.HashFunc(cfg.HashFunc),
		UploadConcurrency: cfg.Shipper.Concurrency,
		UploadCompacted:   cfg.Shipper.UploadCompacted,
		AllowOutOfOrder:   cfg.Shipper.AllowOutOfOrder,
		SkipCorrupted:     cfg.Shipper.SkipCorrupted,
	}, p.Registry)
	if err != nil {
		return err
	}
	loop := &upload.Loop{
		Shipper: shipper, Started: monitor.Started(), Labels: monitor.Labels, Interval: upload.Interval,
		Logger: p.Logger.Named("uploads").With(zap.String("bucket", bkt.Name())),
	}
	p.Group.AddPart(lifecycle.Part{Name: "uploads", Run: func(ctx context.Context) error {
		defer func() {
			if err := bkt.Close(); err != nil {
				p.Logger.Warn("close bucket", zap.Error(err))
			}
		}()
		return loop.Run(ctx)
	}})
	return nil
}
