// Package dashboards makes Grafana's JSON of one readable source.
//
// The source says what a panel shows; sizes, positions, variables and everything else that Grafana wants in a file is the
// same for all and made here.
package dashboards

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Dashboard is one page.
type Dashboard struct {
	// UID is its address and the name of its file.
	UID string
	// Title is its name.
	Title string
	// Job is the regular expression that the variable job starts with.
	Job  string
	Rows []Row
}

// Row is a titled group of panels.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is one graph, number or table.
type Panel struct {
	Title string
	// Type is timeseries where it is empty, else stat or table.
	Type string
	// Unit is Grafana's name of a unit.
	Unit    string
	Queries []Query
}

// Query is a PromQL expression in which $sel stands for the selection by the page's variables and $range for Grafana's
// rate interval, and how its series are called.
type Query struct{ Expr, Legend string }

// Read reads the source. An unknown field, a page without an address and a panel without a query are errors.
func Read(r io.Reader) ([]Dashboard, error) {
	dec := yaml.NewDecoder(r)
	dec.KnownFields(true)
	var all []Dashboard
	if err := dec.Decode(&all); err != nil {
		return nil, err
	}
	var errs []error
	seen := map[string]bool{}
	for _, d := range all {
		if d.UID == "" || d.Title == "" || d.Job == "" || seen[d.UID] {
			errs = append(errs, fmt.Errorf("dashboard %q: needs a uid of its own, a title and a job", d.UID))
		}
		seen[d.UID] = true
		for _, row := range d.Rows {
			for _, p := range row.Panels {
				if p.Title == "" || len(p.Queries) == 0 {
					errs = append(errs, fmt.Errorf("dashboard %s: row %q: panel %q needs a title and a query", d.UID, row.Title, p.Title))
				}
			}
		}
	}
	return all, errors.Join(errs...)
}

// Exprs are all expressions of d with its placeholders filled by values, for somebody who runs them: selection replaces
// $sel and interval replaces $range.
func (d Dashboard) Exprs(selection, interval string) []string {
	var out []string
	for _, row := range d.Rows {
		for _, p := range row.Panels {
			for _, q := range p.Queries {
				out = append(out, fill(q.Expr, selection, interval))
			}
		}
	}
	return out
}

func fill(expr, selection, interval string) string {
	return strings.NewReplacer("$sel", selection, "$range", interval).Replace(expr)
}

// The grid is 24 wide; three panels stand in a row.
const (
	panelWidth  = 8
	panelHeight = 8
	perLine     = 24 / panelWidth
)

type object = map[string]any

// JSON is the dashboard as Grafana reads it, the same for the same source.
func (d Dashboard) JSON() ([]byte, error) {
	var panels []object
	var y, id int
	next := func() int { id++; return id }
	for _, row := range d.Rows {
		panels = append(panels, object{
			"id": next(), "type": "row", "title": row.Title, "collapsed": false, "panels": []any{},
			"gridPos": object{"x": 0, "y": y, "w": 24, "h": 1},
		})
		y++
		for i, p := range row.Panels {
			panels = append(panels, p.json(next(), object{
				"x": i % perLine * panelWidth, "y": y + i/perLine*panelHeight, "w": panelWidth, "h": panelHeight,
			}))
		}
		y += (len(row.Panels) + perLine - 1) / perLine * panelHeight
	}
	text, err := json.MarshalIndent(object{
		"uid": d.UID, "title": d.Title, "tags": []string{"promontory"}, "schemaVersion": 39, "version": 1, "editable": true,
		"time": object{"from": "now-3h", "to": "now"}, "refresh": "30s", "timezone": "browser", "graphTooltip": 1,
		"templating": object{"list": d.variables()}, "annotations": object{"list": []any{}},
		"links": []object{{
			"type": "dashboards", "tags": []string{"promontory"}, "title": "Promontory", "asDropdown": true, "keepTime": true, "includeVars": true,
		}},
		"panels": panels,
	}, "", "  ")
	return append(text, '\n'), err
}

func (d Dashboard) variables() []object {
	choice := func(name, query, regex string) object {
		return object{
			"name": name, "type": "query", "datasource": datasource(), "query": object{"query": query, "refId": name}, "regex": regex,
			"refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"},
		}
	}
	return []object{
		{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
		choice("namespace", "label_values(thanos_status, namespace)", ""),
		choice("job", `label_values(thanos_status{namespace=~"$namespace"}, job)`, "/^"+d.Job+"$/"),
	}
}

func datasource() object { return object{"type": "prometheus", "uid": "${datasource}"} }

func (p Panel) json(id int, pos object) object {
	kind := p.Type
	if kind == "" {
		kind = "timeseries"
	}
	var targets []object
	for i, q := range p.Queries {
		target := object{
			"refId": string(rune('A' + i)), "datasource": datasource(), "legendFormat": q.Legend,
			"expr": fill(q.Expr, `namespace=~"$namespace",job=~"$job"`, "$__rate_interval"),
		}
		if kind != "timeseries" {
			target["instant"] = true
		}
		if kind == "table" {
			target["format"] = "table"
		}
		targets = append(targets, target)
	}
	defaults := object{"unit": p.Unit}
	options := object{}
	if kind == "timeseries" {
		defaults["min"] = 0
		defaults["custom"] = object{"fillOpacity": 10, "showPoints": "never", "lineWidth": 1}
		options = object{"tooltip": object{"mode": "multi", "sort": "desc"}, "legend": object{"displayMode": "list", "placement": "bottom"}}
	}
	return object{
		"id": id, "type": kind, "title": p.Title, "datasource": datasource(), "gridPos": pos, "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []any{}}, "options": options,
	}
}
