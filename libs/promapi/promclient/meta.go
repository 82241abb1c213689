package promclient

import (
	"context"
	"strconv"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
)

// RulesFilter restricts a request for rules; the zero value asks for all.
type RulesFilter struct {
	// Type is "alert", "record" or empty for both.
	Type string
	// Names, Groups, Files and Match each restrict to what is listed, if anything is.
	Names, Groups, Files, Match []string
}

// Rules asks for the rule groups.
func (c *Client) Rules(ctx context.Context, f RulesFilter) ([]promtypes.RuleGroup, error) {
	p := values{}
	if f.Type != "" {
		p.set("type", f.Type)
	}
	p.add("rule_name[]", f.Names...)
	p.add("rule_group[]", f.Groups...)
	p.add("file[]", f.Files...)
	p.add("match[]", f.Match...)
	resp, err := apiGet[promtypes.RuleGroups](ctx, c, "/rules", p.Values())
	return resp.Data.Groups, err
}

// Targets asks for the targets in state "active", "dropped" or "any"; empty leaves it to the server, which means any.
func (c *Client) Targets(ctx context.Context, state string) (promtypes.Targets, error) {
	p := values{}
	if state != "" {
		p.set("state", state)
	}
	resp, err := apiGet[promtypes.Targets](ctx, c, "/targets", p.Values())
	return resp.Data, err
}

// Metadata asks for the descriptions of metrics: of one if metric is not empty, and of at most limit if that is not negative.
func (c *Client) Metadata(ctx context.Context, metric string, limit int) (promtypes.Metadata, error) {
	p := values{}
	if metric != "" {
		p.set("metric", metric)
	}
	if limit >= 0 {
		p.set("limit", strconv.Itoa(limit))
	}
	resp, err := apiGet[promtypes.Metadata](ctx, c, "/metadata", p.Values())
	return resp.Data, err
}

// Exemplars asks for the exemplars of the series that the selectors in a PromQL expression select.
func (c *Client) Exemplars(ctx context.Context, expr string, span Span) ([]promtypes.SeriesExemplars, error) {
	p := values{}
	p.set("query", expr)
	p.time("start", span.Start)
	p.time("end", span.End)
	resp, err := apiPost[[]promtypes.SeriesExemplars](ctx, c, "/query_exemplars", p.Values())
	return resp.Data, err
}
