package forward

import (
	"time"

	"google.golang.org/grpc/connectivity"
)

// PeerStatus is how another node is doing, as seen from here.
type PeerStatus struct {
	// State is "ready", "connecting", "unreachable" or, where nothing was sent yet, "idle".
	State string
	// Failures is how many calls in a row it did not take, LastError the last of them, and Until the time until which it is
	// left alone unless a quorum hangs on it; all zero where the last call went well.
	Failures  int
	LastError error
	Until     time.Time
	// PendingBytes is how much is under way to it.
	PendingBytes int64
	// Role is what it says it is, [PeerIngester] or [PeerRouter], "" where it says nothing.
	Role string
}

// Peer tells how the node at an address is doing; ok is false for one that was never called.
func (f *Forwarder) Peer(addr string) (s PeerStatus, ok bool) {
	f.mu.Lock()
	p := f.peers[addr]
	f.mu.Unlock()
	if p == nil {
		return s, false
	}
	return p.status(), true
}

// Local is our own address in the rings, "" where nothing is kept here.
func (f *Forwarder) Local() string { return f.cfg.Local }

func (p *peer) status() PeerStatus {
	s := PeerStatus{State: "idle", PendingBytes: p.pending.Load()}
	if l, ok := p.conn.(link); ok {
		switch l.GetState() {
		case connectivity.Ready:
			s.State = "ready"
		case connectivity.Connecting:
			s.State = "connecting"
		case connectivity.TransientFailure, connectivity.Shutdown:
			s.State = "unreachable"
		case connectivity.Idle:
		}
	}
	if p.ours.Load() {
		s.Role = PeerRouter
		if p.ingester.Load() {
			s.Role = PeerIngester
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures > 0 {
		s.Failures, s.LastError, s.Until = p.failures, p.last, p.until
	}
	return s
}
