package httpapi

import (
	"fmt"
	"net/http"

	"github.com/promontory-io/promontory/libs/tenancy"
)

// Tenant returns the tenant under which a request is counted. A request without a valid one is refused, and
// counted under the default.
func (t Tenancy) Tenant(r *http.Request) string {
	tenant, err := t.Source.Tenant(r)
	if err != nil {
		return t.Source.Default
	}
	return tenant
}

func (t Tenancy) validate() error {
	if err := t.Source.Validate(); err != nil {
		return fmt.Errorf("tenancy: %w", err)
	}
	if !t.Enforce {
		return nil
	}
	// Any tenant will do: what may be wrong is the label.
	if _, err := tenancy.NewEnforcer(t.Label, tenancy.DefaultTenant); err != nil {
		return fmt.Errorf("enforce tenancy: %w", err)
	}
	return nil
}
