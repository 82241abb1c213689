package objstore

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedactShowsOnlyWhatIsHarmless(t *testing.T) {
	t.Parallel()
	require.Equal(t, `type: S3
config:
    bucket: b
    endpoint: https://host/x
    access_key: <redacted>
    secret_key: <redacted>
    part_size: 5242880
    insecure: true
    put_user_metadata: <redacted>
    some_new_setting: <redacted>
    session_token: ""
    http_config:
        tls_config:
            ca_file: /etc/ca
prefix: p
`, Redact([]byte(`
type: S3 # the comment says hunter22
config:
  bucket: b
  endpoint: https://me:hunter22@host/x
  access_key: AKIAIOSFODNN7
  secret_key: hunter22
  part_size: 5242880
  insecure: true
  put_user_metadata: {hunter22: hunter22}
  some_new_setting: hunter22
  session_token: ""
  http_config: {tls_config: {ca_file: /etc/ca}}
prefix: p
`)))
}

func TestRedactNeverEchoesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"secret_key: hunter22", "type: S3\nconfig: [hunter22", "hunter22"} {
		require.NotContains(t, Redact([]byte(text)), "hunter22")
	}
	// A short text that unfolds into millions of values is cut, not shown.
	bomb := "type: S3\nconfig:\n  a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'h'; c++ {
		bomb += fmt.Sprintf("  %c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	require.Less(t, len(Redact([]byte(bomb))), 1000)
}

func TestErrorsDoNotShowSecrets(t *testing.T) {
	t.Parallel()
	cfg, err := ParseConfig([]byte("type: AZURE\nconfig:\n  storage_connection_string: 'AccountName=x;AccountKey=c2VjcmV0;Other=y'\n  client_secret: topsecret\n"))
	require.NoError(t, err)

	cause := fmt.Errorf("signature with c2VjcmV0 refused for topsecret: %w", fs.ErrNotExist)
	err = scrub(cause, cfg.secrets)
	require.EqualError(t, err, "signature with <redacted> refused for <redacted>: file does not exist")
	require.NotContains(t, fmt.Sprintf("%+v", err), "topsecret")
	require.ErrorIs(t, err, fs.ErrNotExist)
	var pathErr *fs.PathError
	require.False(t, errors.As(err, &pathErr))

	harmless := errors.New("nothing to hide")
	require.Equal(t, harmless, scrub(harmless, cfg.secrets))
	require.NoError(t, scrub(nil, cfg.secrets))
}
