package objstore

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// redactedValue stands where something is not shown.
const redactedValue = "<redacted>"

const (
	redactMaxNodes = 10_000
	minSecretLen   = 6 // shorter strings occur in any text: blotting them out would only make it unreadable
)

// harmless are the keys whose values may be shown. The list names what is safe, not what is secret, so that a key that
// nobody thought of stays hidden.
var harmless = map[string]bool{
	"type": true, "prefix": true,
	// places
	"bucket": true, "endpoint": true, "region": true, "directory": true, "container": true, "container_name": true,
	"storage_account": true, "sts_endpoint": true, "auth_url": true, "auth_version": true, "region_name": true,
	"app_id": true, "msi_resource": true, "project_name": true, "project_domain_name": true, "domain_name": true,
	"user_domain_name": true, "large_object_segments_container_name": true, "provider": true,
	// behaviour
	"disable_dualstack": true, "aws_sdk_auth": true, "insecure": true, "signature_version2": true, "enable": true,
	"list_objects_version": true, "bucket_lookup_type": true, "send_content_md5": true, "disable_multipart": true,
	"part_size": true, "max_retries": true, "use_grpc": true, "grpc_conn_pool_size": true, "chunk_size_bytes": true,
	"storage_create_container": true, "max_retry_requests": true, "max_tries": true, "try_timeout": true,
	"retry_delay": true, "max_retry_delay": true, "large_object_chunk_size": true, "retries": true,
	"connect_timeout": true, "timeout": true, "use_dynamic_large_objects": true, "max_request_retries": true,
	"request_retry_interval": true,
	// http_config
	"idle_conn_timeout": true, "response_header_timeout": true, "insecure_skip_verify": true, "client_timeout": true,
	"tls_handshake_timeout": true, "expect_continue_timeout": true, "max_idle_conns": true,
	"max_idle_conns_per_host": true, "max_conns_per_host": true, "disable_compression": true, "ca_file": true,
	"cert_file": true, "key_file": true, "server_name": true,
	// our own
	"enabled": true, "up_to": true, "quantile": true, "seed": true, "operations": true, "name": true, "after": true,
	"every": true, "share": true, "times": true, "while_file": true, "error": true, "hang": true, "latency": true,
	"break_after": true, "truncate": true, "short_reads": true,
}

// Redact returns a bucket configuration as it may be shown: comments dropped and every value hidden that is not known to
// be harmless. A text that is no bucket configuration is not shown at all.
func Redact(cfgYAML []byte) string {
	cfg, err := ParseConfig(cfgYAML)
	if err != nil {
		return "<not a bucket configuration>"
	}
	return cfg.Redacted()
}

// redact returns the document fit to be shown, and the strings that errors must not show.
func redact(doc *document) (shown string, secrets []string) {
	r := &redactor{left: redactMaxNodes}
	top := &yaml.Node{Kind: yaml.MappingNode}
	for _, key := range doc.keys {
		top.Content = append(top.Content, plainScalar(key.Value), r.copy(key.Value, doc.value[key.Value]))
	}
	text, err := yaml.Marshal(top)
	if err != nil || r.left <= 0 {
		return redactedValue, r.secrets
	}
	// Longest first: a secret may be part of another one.
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	return string(text), slices.Compact(r.secrets)
}

type redactor struct {
	left    int // nodes that may still be copied: aliases can make a small text huge
	secrets []string
}

// copy copies the value of a key without comments and anchors. What is hidden is hidden whole, as one value.
func (r *redactor) copy(key string, n *yaml.Node) *yaml.Node {
	if r.left--; r.left <= 0 {
		return plainScalar(redactedValue)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.copy(key, n.Alias)
	case yaml.MappingNode:
		if key == "put_user_metadata" || key == "kms_encryption_context" {
			return plainScalar(redactedValue) // free-form: its keys are no settings
		}
		out := &yaml.Node{Kind: yaml.MappingNode}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			out.Content = append(out.Content, plainScalar(key), r.copy(key, n.Content[i+1]))
		}
		return out
	case yaml.SequenceNode:
		out := &yaml.Node{Kind: yaml.SequenceNode, Style: n.Style}
		for _, item := range n.Content {
			out.Content = append(out.Content, r.copy(key, item))
		}
		return out
	}
	if n.Tag == "!!null" || n.Value == "" {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: n.Tag, Value: n.Value, Style: n.Style}
	}
	if harmless[key] {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: n.Tag, Style: n.Style, Value: r.withoutUserinfo(n.Value)}
	}
	r.addSecret(key, n.Value)
	return plainScalar(redactedValue)
}

// withoutUserinfo hides the credentials that a URL may hold.
func (r *redactor) withoutUserinfo(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return value
	}
	if password, ok := u.User.Password(); ok {
		r.addSecret("password", password)
	}
	u.User = nil
	return u.String()
}

// addSecret remembers a value that must not turn up in an error. Values that are hidden only because their key is
// unknown are left out of this: they may be words like "true".
func (r *redactor) addSecret(key, value string) {
	key = strings.ToLower(key)
	secret := slices.ContainsFunc([]string{"secret", "password", "passphrase", "key", "token", "connection_string", "credential", "service_account"},
		func(part string) bool { return strings.Contains(key, part) })
	if !secret || len(value) < minSecretLen {
		return
	}
	r.secrets = append(r.secrets, value)
	// Connection strings and service accounts are secrets made of parts, and errors quote parts.
	var parts map[string]any
	if json.Unmarshal([]byte(value), &parts) == nil {
		for part, v := range parts {
			if s, ok := v.(string); ok && strings.Contains(part, "private_key") && len(s) >= minSecretLen {
				r.secrets = append(r.secrets, s)
			}
		}
	}
	for part := range strings.SplitSeq(value, ";") {
		if name, v, ok := strings.Cut(part, "="); ok && (strings.HasSuffix(name, "Key") || strings.HasSuffix(name, "Signature")) && len(v) >= minSecretLen {
			r.secrets = append(r.secrets, v)
		}
	}
}

func plainScalar(value string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(value)
	return n
}
