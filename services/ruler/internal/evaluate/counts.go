package evaluate

import "github.com/prometheus/prometheus/rules"

// Counts is how many rules there are and how they are doing.
type Counts struct {
	Groups, Rules int
	// Failing are rules without result in their last evaluation.
	Failing int
	// Firing and Pending are alerts.
	Firing, Pending int
}

// Counts returns what there is now.
func (e *Evaluator) Counts() (c Counts) {
	for _, g := range e.Groups() {
		c.Groups++
		for _, r := range g.Rules() {
			c.Rules++
			if r.Health() == rules.HealthBad {
				c.Failing++
			}
			alerting, ok := r.(*rules.AlertingRule)
			if !ok {
				continue
			}
			for _, a := range alerting.ActiveAlerts() {
				switch a.State {
				case rules.StateFiring:
					c.Firing++
				case rules.StatePending:
					c.Pending++
				default: // it is over, and still being told
				}
			}
		}
	}
	return c
}
