package api

import (
	"fmt"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/promontory-io/promontory/libs/tenancy"
	"github.com/promontory-io/promontory/services/receiver/internal/forward"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
	"github.com/promontory-io/promontory/services/receiver/internal/verdict"
)

// prepare relabels the series and sorts them by tenant. It returns those that are refused already.
func (a *API) prepare(req *request) (parts []forward.TenantSeries, failures []verdict.Failure) {
	dec := &req.scratch.req
	for _, b := range dec.Bad {
		failures = append(failures, refusal(len(failures), b.Labels, b.Floats, b.Histograms, b.Exemplars, b.Err))
	}
	series := dec.Series
	if len(a.cfg.Relabel) > 0 {
		series, failures = a.relabel(series, failures)
	}
	whole := forward.TenantSeries{Tenant: req.tenant, Series: series, Metadata: dec.Metadata}
	if a.cfg.SplitLabel == "" {
		if len(series) == 0 && len(dec.Metadata) == 0 {
			return nil, failures
		}
		return []forward.TenantSeries{whole}, failures
	}
	return a.split(whole, failures)
}

// refusal is a series that goes nowhere. Its place does not matter any more.
func refusal(told int, raw []byte, floats, histograms, exemplars uint32, err error) verdict.Failure {
	f := verdict.Failure{Kind: verdict.Invalid, Floats: floats, Histograms: histograms, Exemplars: exemplars}
	if told < verdict.MaxReasons {
		f.Reason = remotewrite.Describe(raw) + ": " + err.Error()
	}
	return f
}

func refusalOf(told int, s *remotewrite.Series, err error) verdict.Failure {
	return refusal(told, s.Labels, s.Floats, s.Histograms, s.Exemplars, err)
}

// relabel applies the rules. Series that they drop vanish: nobody is told.
func (a *API) relabel(series []remotewrite.Series, failures []verdict.Failure) ([]remotewrite.Series, []verdict.Failure) {
	kept := series[:0]
	for i := range series {
		s := series[i]
		lset, err := remotewrite.ParseLabels(s.Labels)
		if err != nil {
			failures = append(failures, refusalOf(len(failures), &s, err))
			continue
		}
		out, keep := relabel.Process(lset, a.cfg.Relabel...)
		if !keep || out.IsEmpty() {
			continue
		}
		s.Labels = remotewrite.AppendLabels(nil, out)
		kept = append(kept, s)
	}
	return kept, failures
}

// split gives each series to the tenant that its label names, and takes the label away. Series without
// it stay with the request's tenant, and so does metadata.
func (a *API) split(whole forward.TenantSeries, failures []verdict.Failure) ([]forward.TenantSeries, []verdict.Failure) {
	parts := []forward.TenantSeries{{Tenant: whole.Tenant, Metadata: whole.Metadata}}
	index := map[string]int{whole.Tenant: 0}
	for i := range whole.Series {
		s := whole.Series[i]
		value := remotewrite.Value(s.Labels, a.cfg.SplitLabel)
		if len(value) == 0 {
			parts[0].Series = append(parts[0].Series, s)
			continue
		}
		at, ok := index[string(value)]
		if !ok {
			tenant := string(value)
			if err := tenancy.Validate(tenant); err != nil {
				failures = append(failures, refusalOf(len(failures), &s, fmt.Errorf("label %s: %w", a.cfg.SplitLabel, err)))
				continue
			}
			at = len(parts)
			index[tenant] = at
			parts = append(parts, forward.TenantSeries{Tenant: tenant})
		}
		s.Labels = remotewrite.Without(s.Labels, a.cfg.SplitLabel)
		parts[at].Series = append(parts[at].Series, s)
	}
	if len(parts[0].Series) == 0 && len(parts[0].Metadata) == 0 {
		parts = parts[1:]
	}
	return parts, failures
}
