package forward

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// PeerHeader is set by our servers in the header of their answers: what they are, [PeerIngester] or
// [PeerRouter]. Others do not set it.
const (
	PeerHeader   = "promontory-receiver"
	PeerIngester = "ingester"
	PeerRouter   = "router"
)

const writeMethod = "/thanos.WriteableStore/RemoteWrite"

// errBusy says that as much waits for a peer as may.
var errBusy = errors.New("too much waits for this node")

// errBackoff says that a peer refused a moment ago.
var errBackoff = errors.New("node is left alone for a moment after it failed")

// Conn is a connection to a peer.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// peer is one node as seen from here. It is safe for concurrent use.
type peer struct {
	addr    string
	conn    Conn
	cfg     *Config
	pending atomic.Int64 // bytes under way
	// ours is set once the peer has said that it is one of ours, ingester that it keeps what it gets
	// whatever number the copy has.
	ours, ingester atomic.Bool

	mu       sync.Mutex
	failures int       // in a row; guarded by mu
	until    time.Time // of backing off; guarded by mu
	gone     bool      // the connection was down when the last call failed; guarded by mu
}

// link is what a connection of gRPC tells of itself.
type link interface {
	GetState() connectivity.State
	Connect()
}

// blocked reports whether the peer is to be left alone.
func (p *peer) blocked(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l, ok := p.conn.(link); ok && p.gone && l.GetState() == connectivity.Ready {
		// It was gone and is back: there is nothing to wait for.
		p.failures, p.until, p.gone = 0, time.Time{}, false
	}
	return now.Before(p.until)
}

// note keeps the outcome of a call for backing off.
func (p *peer) note(now time.Time, available bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if available {
		p.failures, p.until = 0, time.Time{}
		return
	}
	if now.Before(p.until) {
		return // calls that were under way when the first failed say nothing new
	}
	if l, ok := p.conn.(link); ok {
		if p.gone = l.GetState() != connectivity.Ready; p.gone {
			l.Connect() // so that its return is seen
		}
	}
	p.failures++
	p.until = now.Add(backoff(p.failures, p.cfg.MaxBackoff))
}

// backoff is 100ms doubled for each failure after the first, at most limit, with a jitter of a fifth.
func backoff(failures int, limit time.Duration) time.Duration {
	d := 100 * time.Millisecond << min(failures-1, 20)
	d = min(d, limit)
	return d - time.Duration(rand.Int64N(int64(d)/5+1)) //nolint:gosec // no secret
}

// send writes o to the peer. It returns the failures among its series, with places counted through all
// parts. The error has the kind of all of them.
func (p *peer) send(ctx context.Context, o *outgoing) ([]verdict.Failure, verdict.Kind, error) {
	if p.blocked(time.Now()) {
		return nil, verdict.Unavailable, fmt.Errorf("%s: %w", p.addr, errBackoff)
	}
	size := int64(o.size())
	if n := p.pending.Add(size); n > p.cfg.PendingBytes && n != size {
		p.pending.Add(-size)
		return nil, verdict.Unavailable, fmt.Errorf("%s: %w: %d bytes", p.addr, errBusy, n-size)
	}
	defer p.pending.Add(-size)
	var header metadata.MD
	err := p.conn.Invoke(ctx, writeMethod, o, new(thanos.WriteResponse), grpc.ForceCodecV2(newCodec()), grpc.Header(&header))
	if v := header.Get(PeerHeader); len(v) > 0 {
		p.ours.Store(true)
		p.ingester.Store(v[0] == PeerIngester)
	}
	st := status.Convert(err)
	kind := kindOf(st.Code())
	p.note(time.Now(), kind != verdict.Unavailable || st.Code() == codes.Internal)
	if err == nil {
		return nil, verdict.OK, nil
	}
	total := 0
	for i := range o.parts {
		total += o.parts[i].count()
	}
	for _, d := range st.Proto().GetDetails() {
		if fs, ok, derr := verdict.FromDetails(d, total); derr == nil && ok {
			return fs, verdict.OK, nil
		}
	}
	return nil, kind, fmt.Errorf("%s: %w", p.addr, err)
}

// kindOf is what a status of a peer means for the series sent.
func kindOf(c codes.Code) verdict.Kind {
	switch c {
	case codes.OK:
		return verdict.OK
	case codes.AlreadyExists:
		return verdict.Conflict
	case codes.InvalidArgument:
		return verdict.Invalid
	case codes.ResourceExhausted:
		return verdict.Limit
	}
	return verdict.Unavailable
}

// CodeOf is the status code that stands for a kind.
func CodeOf(k verdict.Kind) codes.Code {
	switch k {
	case verdict.OK:
		return codes.OK
	case verdict.Conflict:
		return codes.AlreadyExists
	case verdict.Invalid:
		return codes.InvalidArgument
	case verdict.Limit:
		return codes.ResourceExhausted
	}
	return codes.Unavailable
}
