package tenancy

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheTenantOfARequestIsFoundInTheConfiguredOrder(t *testing.T) {
	t.Parallel()
	subject := pkix.Name{Organization: []string{"org-a", "org-b"}, OrganizationalUnit: []string{"unit"}, CommonName: "name"}
	for name, tc := range map[string]struct {
		source  Source
		headers map[string]string
		subject *pkix.Name
		want    string
		wantErr string
	}{
		"nothing said":                    {source: DefaultSource(), want: "default-tenant"},
		"own default":                     {source: Source{Default: "anonymous"}, want: "anonymous"},
		"default header":                  {source: DefaultSource(), headers: map[string]string{"thanos-tenant": "a"}, want: "a"},
		"configured header":               {source: Source{Header: "X-Org", Default: "d"}, headers: map[string]string{"X-Org": "b", "THANOS-TENANT": "a"}, want: "b"},
		"configured header missing":       {source: Source{Header: "X-Org", Default: "d"}, headers: map[string]string{"THANOS-TENANT": "a"}, want: "a"},
		"certificate organization":        {source: Source{Field: Organization, Default: "d"}, subject: &subject, want: "org-a"},
		"certificate organizational unit": {source: Source{Field: OrganizationalUnit, Default: "d"}, subject: &subject, want: "unit"},
		"certificate beats header":        {source: Source{Field: CommonName, Default: "d"}, headers: map[string]string{"THANOS-TENANT": "a"}, subject: &subject, want: "name"},
		"no certificate":                  {source: Source{Field: CommonName, Default: "d"}, headers: map[string]string{"THANOS-TENANT": "a"}, wantErr: "there is none"},
		"certificate without the field":   {source: Source{Field: OrganizationalUnit, Default: "d"}, subject: &pkix.Name{CommonName: "x"}, wantErr: "has no organizationalUnit"},
		"path in the header":              {source: DefaultSource(), headers: map[string]string{"THANOS-TENANT": "../x"}, wantErr: `"../x" cannot be the name of a folder`},
		"path in the certificate":         {source: Source{Field: CommonName}, subject: &pkix.Name{CommonName: ".."}, wantErr: `".." cannot be`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for k, v := range tc.headers {
				r.Header.Set(k, v)
			}
			if tc.subject != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: *tc.subject}}}
			}
			got, err := tc.source.Tenant(r)
			if tc.wantErr != "" {
				require.ErrorContains(t, err, tc.wantErr)
				require.ErrorIs(t, err, ErrInvalid)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestOnlyNamesOfFoldersAreTenants(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"a", "team-a", "a.b", "...", "ä", "with space", "a:b"} {
		require.NoError(t, Validate(ok), ok)
	}
	for _, bad := range []string{"", ".", "..", "/", "a/b", "/a", "a/", "../a", "a/..", "a\x00b"} {
		require.ErrorIs(t, Validate(bad), ErrInvalid, bad)
	}
}

func TestAWrongSourceIsToldAtOnce(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultSource().Validate())
	err := Source{Field: "serial", Default: "a/b"}.Validate()
	require.ErrorContains(t, err, `unknown certificate field "serial"`)
	require.ErrorContains(t, err, `default tenant`)
}
