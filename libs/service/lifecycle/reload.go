package lifecycle

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"
)

type reloadHook struct {
	name string
	f    func(context.Context) error
}

// OnReload has f called whenever the process is asked to read its configuration again.
// Hooks run one after the other; an error is logged and the others still run.
func (g *Group) OnReload(name string, f func(ctx context.Context) error) {
	g.reload = append(g.reload, reloadHook{name: name, f: f})
}

// AddReloadSignal adds the part that turns SIGHUP into a call of all reload hooks. Without
// it SIGHUP ends the process.
func (g *Group) AddReloadSignal() {
	// Registered here, not in Run, so that no signal is fatal once wiring has passed this point.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	g.Add("reload", func(ctx context.Context) error {
		defer signal.Stop(hup)
		for {
			select {
			case <-hup:
				g.Reload(ctx)
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// Reload calls all hooks, as SIGHUP does.
func (g *Group) Reload(ctx context.Context) {
	for _, h := range g.reload {
		if err := h.f(ctx); err != nil {
			g.logger.Error("reload", zap.String("hook", h.name), zap.Error(err))
			continue
		}
		g.logger.Info("reloaded", zap.String("hook", h.name))
	}
}
