package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// Kinds of services.
const (
	kindQuerier    = "querier"
	kindStore      = "store-gateway"
	kindCompactor  = "compactor"
	kindRuler      = "ruler"
	kindReceiver   = "receiver"
	kindSidecar    = "sidecar"
	kindPrometheus = "prometheus"
)

// service is what is known of one process.
type service struct {
	// name is its URL, or its argument list for one that is not asked.
	name, kind string
	// host is that of the URL, without a port; empty for an argument list.
	host string
	// flags are those it runs with; nil where it does not tell.
	flags map[string]string
	// stores are those a querier knows.
	stores []store
	// ahead is how far its clock is ahead of ours, known to the second and to half of what the answer took.
	ahead    time.Duration
	hasClock bool
	// failed says why it could not be asked.
	failed error
}

// store is an endpoint as a querier lists it.
type store struct {
	Name      string              `json:"name"`
	LastError json.RawMessage     `json:"lastError"`
	LabelSets []map[string]string `json:"labelSets"`
	MinTime   int64               `json:"minTime"`
	MaxTime   int64               `json:"maxTime"`

	kind string
}

func (s *store) failure() string {
	var text string
	if err := json.Unmarshal(s.LastError, &text); err != nil && string(s.LastError) != "null" {
		return string(s.LastError)
	}
	return text
}

// facts is all that is known of a set-up.
type facts struct {
	services []*service
	// blocks are the external labels of the bucket's blocks; nil where no bucket was given.
	blocks []blockGroup
	// bucketRead tells that blocks are known.
	bucketRead bool
}

// blockGroup is a set of external labels, and how many blocks have it.
type blockGroup struct {
	labels map[string]string
	blocks int
	// example is one of them.
	example string
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// ask learns what a running service tells.
func ask(ctx context.Context, client *http.Client, base *url.URL, now func() time.Time) *service {
	s := &service{name: base.Redacted(), host: base.Hostname()}
	begin := now()
	status, at, err := get(ctx, client, base.JoinPath("/api/v1/status/flags"), &s.flags)
	took := now().Sub(begin)
	if !at.IsZero() {
		// The header has whole seconds, cut off: half of one is added.
		s.hasClock, s.ahead = true, at.Add(500*time.Millisecond).Sub(begin.Add(took/2))
	}
	// A service without flags to show is no fault.
	if err != nil && status != http.StatusNotFound {
		s.failed = err
		return s
	}
	s.kind = kindOf(s.flags)
	if s.kind != kindQuerier {
		return s
	}
	byKind := map[string][]store{}
	if _, _, err := get(ctx, client, base.JoinPath("/api/v1/stores"), &byKind); err != nil {
		s.failed = err
	}
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		for _, st := range byKind[kind] {
			st.kind = kind
			s.stores = append(s.stores, st)
		}
	}
	return s
}

// get reads the data of an API answer into v. status is 0 where there was no answer; at is the server's clock.
func get(ctx context.Context, client *http.Client, u *url.URL, v any) (status int, at time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, at, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, at, err
	}
	defer resp.Body.Close()
	at, _ = http.ParseTime(resp.Header.Get("Date")) // without the header nothing is known of its clock
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, at, fmt.Errorf("ask %s: %s", u.Redacted(), resp.Status)
	}
	answer := struct {
		Data any `json:"data"`
	}{v}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return resp.StatusCode, at, fmt.Errorf("read the answer of %s: %w", u.Redacted(), err)
	}
	return resp.StatusCode, at, nil
}

// kindOf tells a service by a flag that only it has; empty where none is known.
func kindOf(flags map[string]string) string {
	for _, k := range []struct{ flag, kind string }{
		{"storage.tsdb.path", kindPrometheus},
		{"retention.resolution-raw", kindCompactor},
		{"receive.replication-factor", kindReceiver},
		{"rule-file", kindRuler},
		{"prometheus.url", kindSidecar},
		{"sync-block-duration", kindStore},
		{"query.replica-label", kindQuerier},
	} {
		if _, has := flags[k.flag]; has {
			return k.kind
		}
	}
	return ""
}

// kindWords are the words argument lists begin with.
func kindWords() map[string]string {
	return map[string]string{
		kindQuerier: kindQuerier, "query": kindQuerier, kindStore: kindStore, "store": kindStore, kindCompactor: kindCompactor, "compact": kindCompactor,
		kindRuler: kindRuler, "rule": kindRuler, kindReceiver: kindReceiver, "receive": kindReceiver, kindSidecar: kindSidecar, kindPrometheus: kindPrometheus,
	}
}

// configured reads an argument list, such as `compactor --wait --retention.resolution-raw=30d`, as a service that is not asked.
func configured(line string) (*service, error) {
	args, err := words(line)
	if err != nil {
		return nil, err
	}
	s := &service{flags: map[string]string{}}
	var shown []string
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if !isFlag {
			if kind := kindWords()[path.Base(args[i])]; kind != "" {
				s.kind = kind
			}
			shown = append(shown, args[i])
			continue
		}
		name, value, has := strings.Cut(name, "=")
		switch {
		case has:
		case i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
			i++
			value = args[i]
		default:
			value = "true"
		}
		if old := s.flags[name]; old != "" {
			value = old + "," + value
		}
		s.flags[name] = value
		if strings.HasSuffix(name, "config") {
			value = "…" // may hold secrets
		}
		shown = append(shown, "--"+name+"="+value)
	}
	s.name = strings.Join(shown, " ")
	if s.kind == "" {
		return nil, fmt.Errorf("%q: which service is it? Begin with one of %s", s.name, strings.Join(slices.Sorted(maps.Keys(kindWords())), ", "))
	}
	return s, nil
}

// words splits as a shell does, with both kinds of quotes.
func words(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote rune
	inside := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, inside = r, true
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n'):
			if inside {
				out = append(out, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if quote != 0 {
		return nil, errors.New("an argument list with a quote that is not closed")
	}
	if inside {
		out = append(out, word.String())
	}
	return out, nil
}

// grpcAddress is under what others know the service, empty if that cannot be told.
func (s *service) grpcAddress() string {
	_, port, err := net.SplitHostPort(s.flags["grpc-address"])
	if err != nil || s.host == "" {
		return ""
	}
	return net.JoinHostPort(s.host, port)
}
