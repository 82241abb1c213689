// Package tenancy tells whose request it is, and keeps a tenant to its own series.
//
// [Source] finds the tenant in the client's certificate or in a header. [Enforcer] adds the tenant's label to every series
// selector of a query. Both are pure: what a service does with a tenant is its own affair.
package tenancy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

const (
	// DefaultHeader carries the tenant between our own processes, and from clients unless another header is configured.
	DefaultHeader = "THANOS-TENANT"
	// MetadataKey carries the tenant in gRPC metadata.
	MetadataKey = "thanos-tenant"
	// DefaultTenant is the tenant of requests that do not say theirs.
	DefaultTenant = "default-tenant"
	// DefaultLabel is the label that holds the tenant of a series.
	DefaultLabel = "tenant_id"
)

// CertificateField is the part of a client certificate's subject that names the tenant.
type CertificateField string

// The fields that may name a tenant.
const (
	NoCertificate      CertificateField = ""
	Organization       CertificateField = "organization"
	OrganizationalUnit CertificateField = "organizationalUnit"
	CommonName         CertificateField = "commonName"
)

// ErrInvalid is in the chain of every error about a request's tenant; the request is at fault.
var ErrInvalid = errors.New("invalid tenant")

// Source tells where a request says its tenant.
type Source struct {
	// Header is asked before [DefaultHeader].
	Header string
	// Default is the tenant of requests without one of the headers.
	Default string
	// Field, if set, is the only thing that counts: requests without a certificate are refused.
	Field CertificateField
}

// DefaultSource returns the source without configuration.
func DefaultSource() Source { return Source{Header: DefaultHeader, Default: DefaultTenant} }

// Validate returns what is wrong with the configuration.
func (s Source) Validate() error {
	var errs []error
	switch s.Field {
	case NoCertificate, Organization, OrganizationalUnit, CommonName:
	default:
		errs = append(errs, fmt.Errorf("unknown certificate field %q, want %s, %s or %s", s.Field, Organization, OrganizationalUnit, CommonName))
	}
	if err := Validate(s.Default); err != nil {
		errs = append(errs, fmt.Errorf("default tenant: %w", err))
	}
	return errors.Join(errs...)
}

// Tenant returns the tenant of r, which is always valid in the sense of [Validate]. Errors are [ErrInvalid].
func (s Source) Tenant(r *http.Request) (string, error) {
	tenant, err := s.find(r)
	if err != nil {
		return "", err
	}
	if err := Validate(tenant); err != nil {
		return "", err
	}
	return tenant, nil
}

func (s Source) find(r *http.Request) (string, error) {
	if s.Field != NoCertificate {
		return s.fromCertificate(r)
	}
	if s.Header != "" {
		if t := r.Header.Get(s.Header); t != "" {
			return t, nil
		}
	}
	if t := r.Header.Get(DefaultHeader); t != "" {
		return t, nil
	}
	return s.Default, nil
}

func (s Source) fromCertificate(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: the tenant is taken from the client certificate, but there is none", ErrInvalid)
	}
	subject := r.TLS.PeerCertificates[0].Subject
	var values []string
	switch s.Field {
	case Organization:
		values = subject.Organization
	case OrganizationalUnit:
		values = subject.OrganizationalUnit
	case CommonName:
		values = []string{subject.CommonName}
	default:
		return "", fmt.Errorf("unknown certificate field %q", s.Field)
	}
	if len(values) == 0 || values[0] == "" {
		return "", fmt.Errorf("%w: the client certificate has no %s", ErrInvalid, s.Field)
	}
	return values[0], nil
}

// Validate returns an [ErrInvalid] unless the tenant can be the name of a folder: it is not empty, "." or "..", and has no
// path separator.
func Validate(tenant string) error {
	if tenant == "" {
		return fmt.Errorf("%w: it is empty", ErrInvalid)
	}
	if tenant == "." || tenant == ".." || strings.ContainsAny(tenant, "/\x00") {
		return fmt.Errorf("%w: %q cannot be the name of a folder", ErrInvalid, tenant)
	}
	return nil
}
