package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	gone     bool      // the connection was down when a call failed; guarded by mu
	last     error     // of the call that failed last; guarded by mu
}

// link is what a connection of gRPC tells of itself.
type link interface {
	GetState() connectivity.State
	Connect()
	ResetConnectBackoff()
}

// ready reports whether the connection stands, as far as it tells.
func (p *peer) ready() bool {
	l, ok := p.conn.(link)
	return !ok || l.GetState() == connectivity.Ready
}

// blocked reports why the peer is to be left alone, nil where it is not.
func (p *peer) blocked(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone && p.ready() {
		// It was gone and is back: there is nothing to wait for.
		p.failures, p.until, p.gone = 0, time.Time{}, false
	}
	if !now.Before(p.until) {
		return nil
	}
	return fmt.Errorf("%w: %w", errBackoff, p.last)
}

// note keeps the outcome of a call for backing off. wasReady tells whether the connection stood when the call
// began.
func (p *peer) note(now time.Time, wasReady bool, failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if failure == nil {
		p.failures, p.until, p.gone, p.last = 0, time.Time{}, false, nil
		return
	}
	if now.Before(p.until) {
		return // calls that were under way when the first failed say nothing new
	}
	// The connection may be back already by the time that the call it failed is over.
	if p.gone = !wasReady || !p.ready(); p.gone {
		if l, ok := p.conn.(link); ok {
			l.Connect() // so that its return is seen
		}
	}
	p.failures++
	p.last = failure
	p.until = now.Add(backoff(p.failures, p.cfg.MaxBackoff))
}

// backoff is 100ms doubled for each failure after the first, at most limit, with a jitter of a fifth.
func backoff(failures int, limit time.Duration) time.Duration {
	d := 100 * time.Millisecond << min(failures-1, 20)
	d = min(d, limit)
	return d - time.Duration(rand.Int64N(int64(d)/5+1)) //nolint:gosec // no secret
}

// patience is how long a node that the quorum hangs on is asked again and again.
const patience = 2 * time.Second

// sent is what became of a message.
type sent struct {
	// failures are those among its series, with places counted through all parts. With err all of them
	// are of one kind.
	failures []verdict.Failure
	kind     verdict.Kind
	err      error
	// again says that the same message may be taken when it is sent once more.
	again bool
}

// send writes o to the peer, unless that was left alone for a failure.
func (p *peer) send(ctx context.Context, o *outgoing) sent {
	if err := p.blocked(time.Now()); err != nil {
		return sent{kind: verdict.Unavailable, err: fmt.Errorf("%s: %w", p.addr, err), again: true}
	}
	return p.call(ctx, o)
}

// invoke is the call itself. What several nodes get is encoded and compressed once for all of them, which gRPC has
// for streams only; on the wire a stream of one message is the same.
func (p *peer) invoke(ctx context.Context, o *outgoing, opts []grpc.CallOption) error {
	conn, ok := p.conn.(*grpc.ClientConn)
	if o.shared == nil || !ok {
		return p.conn.Invoke(ctx, writeMethod, o, new(thanos.WriteResponse), opts...)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "RemoteWrite"}, writeMethod, opts...)
	if err != nil {
		return err
	}
	if err := o.shared.prepare(stream, o); err != nil {
		return err
	}
	// The error of an ended stream is told by receiving.
	if err := stream.SendMsg(&o.shared.msg); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return stream.RecvMsg(new(thanos.WriteResponse))
}

// shared is the encoded form of a message that goes to several nodes.
type shared struct {
	once sync.Once
	msg  grpc.PreparedMsg
	err  error
}

// prepare encodes o as stream, and all others like it, wants it.
func (s *shared) prepare(stream grpc.ClientStream, o *outgoing) error {
	s.once.Do(func() { s.err = s.msg.Encode(stream, o) })
	return s.err
}

// insist writes o to the peer whatever it failed before, and waits for it to come back for a while:
// without it the quorum is missed.
func (p *peer) insist(ctx context.Context, o *outgoing) sent {
	ctx, cancel := context.WithTimeout(ctx, min(patience, p.cfg.Timeout))
	defer cancel()
	wait := 20 * time.Millisecond
	for {
		if l, ok := p.conn.(link); ok && !p.ready() {
			// gRPC waits longer and longer between two dials, and fails all calls meanwhile.
			l.ResetConnectBackoff()
			l.Connect()
		}
		s := p.call(ctx, o, grpc.WaitForReady(true))
		if !s.again {
			return s
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return s
		}
		wait = min(2*wait, 200*time.Millisecond)
	}
}

// call is one attempt.
func (p *peer) call(ctx context.Context, o *outgoing, opts ...grpc.CallOption) sent {
	size := int64(o.size())
	if n := p.pending.Add(size); n > p.cfg.PendingBytes && n != size {
		p.pending.Add(-size)
		return sent{kind: verdict.Unavailable, err: fmt.Errorf("%s: %w: %d bytes", p.addr, errBusy, n-size)}
	}
	defer p.pending.Add(-size)
	var header metadata.MD
	wasReady := p.ready()
	opts = append(opts, grpc.ForceCodecV2(newCodec()), grpc.Header(&header))
	err := p.invoke(ctx, o, opts)
	if v := header.Get(PeerHeader); len(v) > 0 {
		p.ours.Store(true)
		p.ingester.Store(v[0] == PeerIngester)
	}
	st := status.Convert(err)
	out := sent{kind: kindOf(st.Code())}
	if out.kind == verdict.Unavailable && st.Code() != codes.Internal {
		p.note(time.Now(), wasReady, err)
	} else {
		p.note(time.Now(), wasReady, nil)
	}
	if err == nil {
		return out
	}
	total := 0
	for i := range o.parts {
		total += o.parts[i].count()
	}
	for _, d := range st.Proto().GetDetails() {
		if fs, ok, derr := verdict.FromDetails(d, total); derr == nil && ok {
			return sent{failures: fs}
		}
	}
	out.err, out.again = fmt.Errorf("%s: %w", p.addr, err), st.Code() == codes.Unavailable
	return out
}

// kindOf is what a status of a peer means for the series sent: the kind that it stands for, or that the peer cannot be reached.
func kindOf(c codes.Code) verdict.Kind {
	for k := range verdict.Kind(verdict.Kinds) {
		if CodeOf(k) == c {
			return k
		}
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
