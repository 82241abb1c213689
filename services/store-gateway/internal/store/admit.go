package store

import (
	"context"
	"regexp/syntax"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"

	"github.com/promontory-io/promontory/libs/budget"
	"github.com/promontory-io/promontory/libs/service/requestctx"
	"github.com/promontory-io/promontory/libs/storeapi"
	"github.com/promontory-io/promontory/proto/gen/thanos"
	"github.com/promontory-io/promontory/services/store-gateway/internal/blockread"
)

// What a character of a regular expression takes, in bytes, compiled and at work; measured with expressions of some ten thousand
// characters.
const (
	// plainBytes: literals and alternatives of them. They become a set of strings.
	plainBytes = 64
	// escapedBytes: the same with escaped characters in them. They are compiled before they become that.
	escapedBytes = 256
	// wildcardBytes: literals with wildcards between them. They are compiled, but mostly not run.
	wildcardBytes = 700
	// generalBytes: everything else. Each state of a running automaton is many times the size of its instruction.
	generalBytes = 5000
	// classBytes is what a class of Unicode characters takes.
	classBytes = 64 << 10
)

// matcherBytes is how much memory a matcher takes, about, and roughly at most. counted says that the repetitions in it have yet to be
// looked at with expandedBytes, which takes the memory that was returned.
func matcherBytes(m *thanos.LabelMatcher) (n int64, counted bool) {
	if m.GetType() != thanos.LabelMatcher_RE && m.GetType() != thanos.LabelMatcher_NRE {
		return 0, false
	}
	expr, rate, classes := m.GetValue(), int64(plainBytes), int64(0)
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; {
		case c == '\\' && i+1 < len(expr):
			i++
			if next := expr[i]; next == 'p' || next == 'P' {
				classes++
			} else if next < 0x80 && (next >= '0' && next <= '9' || next >= 'a' && next <= 'z' || next >= 'A' && next <= 'Z') {
				rate = generalBytes
			}
			rate = max(rate, escapedBytes)
		case c == '.':
			rate = max(rate, wildcardBytes)
		case c == '*' || c == '+':
			if i == 0 || expr[i-1] != '.' {
				rate = generalBytes
			}
		case c == '[' || c == '?' || c == '^' || c == '$':
			rate = generalBytes
		case c == '{':
			rate, counted = generalBytes, true
		}
	}
	return rate*int64(len(expr)) + classes*classBytes, counted
}

// expandedBytes is what an expression with counted repetitions takes when they are written out.
func expandedBytes(expr string) int64 {
	re, err := syntax.Parse(expr, syntax.Perl|syntax.DotNL)
	if err != nil {
		return 0 // it is refused anyway
	}
	return generalBytes * instructions(re)
}

func instructions(re *syntax.Regexp) int64 {
	n := int64(1 + len(re.Rune))
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= int64(max(re.Min, re.Max, 1))
	}
	return n
}

// admit reserves what the matchers of a request take, before they are made of it.
func (s *Store) admit(ctx context.Context, ms []*thanos.LabelMatcher) (*budget.Reservation, error) {
	res, err := s.budget.Acquire(ctx, 0, selector(ms))
	if err != nil {
		return nil, err
	}
	for _, m := range ms {
		bytes, counted := matcherBytes(m)
		err := res.Grow(ctx, bytes)
		if err == nil && counted {
			if more := expandedBytes(m.GetValue()) - bytes; more > 0 {
				err = res.Grow(ctx, more)
			}
		}
		if err != nil {
			res.Release()
			err = blockread.Blame(err, "the expression of "+text(m), res.Who())
			s.refused(err, requestctx.TenantOrDefault(ctx))
			return nil, err
		}
	}
	return res, nil
}

// selector is how messages name a request.
func selector(ms []*thanos.LabelMatcher) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range ms {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == 20 {
			b.WriteString("…")
			break
		}
		b.WriteString(text(m))
	}
	b.WriteByte('}')
	return b.String()
}

// text is a matcher as PromQL has it, cut where it is long.
func text(m *thanos.LabelMatcher) string {
	op := map[thanos.LabelMatcher_Type]labels.MatchType{
		thanos.LabelMatcher_NEQ: labels.MatchNotEqual, thanos.LabelMatcher_RE: labels.MatchRegexp, thanos.LabelMatcher_NRE: labels.MatchNotRegexp,
	}[m.GetType()]
	return blockread.Brief(m.GetName(), op.String(), m.GetValue())
}

// UnaryInterceptor admits label requests by the cost of their expressions.
func (s *Store) UnaryInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		var ms []*thanos.LabelMatcher
		switch r := req.(type) {
		case *thanos.LabelNamesRequest:
			ms = r.GetMatchers()
		case *thanos.LabelValuesRequest:
			ms = r.GetMatchers()
		default:
			return handler(ctx, req)
		}
		res, err := s.admit(ctx, ms)
		if err != nil {
			return nil, storeapi.ToStatus(err)
		}
		defer res.Release()
		return handler(context.WithValue(ctx, turnKey{}, &turn{res: res}), req)
	}
}
