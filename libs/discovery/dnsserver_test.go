package discovery

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dnsServer is a real name server on loopback, by UDP and TCP, whose records tests change as they go.
type dnsServer struct {
	port string

	mu      sync.Mutex // guards what follows
	records map[string][]dns.RR
	// rcodes answers questions for a name and type ("name TYPE") with an error code.
	rcodes map[string]int
	// silent names are not answered.
	silent map[string]bool
	// noEDNS refuses questions with EDNS0, as old servers do.
	noEDNS bool
	asked  []string
}

func newDNSServer(t testing.TB) *dnsServer {
	t.Helper()
	s := &dnsServer{records: map[string][]dns.RR{}, rcodes: map[string]int{}, silent: map[string]bool{}}
	tcp, udp := samePort(t)
	_, port, err := net.SplitHostPort(tcp.Addr().String())
	require.NoError(t, err)
	s.port = port
	for _, srv := range []*dns.Server{{Listener: tcp, Handler: s}, {PacketConn: udp, Handler: s}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		done := make(chan error, 1)
		go func() { done <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = srv.Shutdown()
			<-done
		})
	}
	return s
}

// samePort listens by TCP and UDP on a port that is free for both.
func samePort(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 50 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp
		}
		require.NoError(t, tcp.Close())
	}
	require.Fail(t, "no port is free for both TCP and UDP")
	return nil, nil
}

// ServeDNS implements [dns.Handler].
func (s *dnsServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	question := q.Question[0]
	name := strings.ToLower(question.Name)
	key := name + " " + dns.TypeToString[question.Qtype]
	s.asked = append(s.asked, key)
	if s.silent[name] {
		return
	}
	answer := new(dns.Msg).SetReply(q)
	answer.RecursionAvailable = true
	switch rcode, failing := s.rcodes[key]; {
	case s.noEDNS && q.IsEdns0() != nil:
		answer.Rcode = dns.RcodeFormatError
	case failing:
		answer.Rcode = rcode
	case s.records[name] == nil:
		answer.Rcode = dns.RcodeNameError
	default:
		for _, rr := range s.records[name] {
			if rr.Header().Rrtype == question.Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				answer.Answer = append(answer.Answer, rr)
			}
		}
	}
	if _, overUDP := w.RemoteAddr().(*net.UDPAddr); overUDP {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		answer.Truncate(size)
	}
	_ = w.WriteMsg(answer)
}

// set replaces the records of a name; lines are records without their name, as in "A 10.0.0.1".
func (s *dnsServer) set(t testing.TB, name string, lines ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	rrs := []dns.RR{}
	for _, line := range lines {
		rr, err := dns.NewRR(name + " 30 IN " + line)
		require.NoError(t, err)
		rrs = append(rrs, rr)
	}
	s.records[name] = rrs
}

func (s *dnsServer) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, name)
}

// fail lets questions for "name TYPE" be answered with rcode, or normally again if it is 0.
func (s *dnsServer) fail(key string, rcode int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rcode == 0 {
		delete(s.rcodes, key)
		return
	}
	s.rcodes[key] = rcode
}

func (s *dnsServer) silence(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent[name] = true
}

func (s *dnsServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// miekg returns the miekgdns resolver over this server, with further lines of resolv.conf.
func (s *dnsServer) miekg(t testing.TB, extra ...string) *MiekgResolver {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	conf := "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n" + strings.Join(extra, "\n") + "\n"
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o600))
	r := NewMiekgResolver(path)
	r.port = s.port
	return r
}

// golang returns Go's resolver over this server.
func (s *dnsServer) golang() *GoResolver {
	return NewGoResolver(&net.Resolver{PreferGo: true, StrictErrors: true, Dial: goDialer(s.port)})
}

// resolvers are both resolvers over this server.
func (s *dnsServer) resolvers(t testing.TB) map[string]Resolver {
	return map[string]Resolver{"miekgdns": s.miekg(t), "golang": s.golang()}
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

func manyAddresses(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("A 10.1.%d.%d", i/200, i%200)
	}
	return lines
}
