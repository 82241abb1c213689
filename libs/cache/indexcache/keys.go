package indexcache

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/crypto/blake2b"
)

// The keys of shared caches. They are an interface with other programs and never change; values of another format would
// get another suffix.

// postingsSuffix names the format of postings in keys.
const postingsSuffix = ":" + codecStream

// PostingsKey returns the key of the postings list of a label pair.
func PostingsKey(block ulid.ULID, pair labels.Label) string {
	return hashedKey("P:", block, pair.Name+":"+pair.Value)
}

// ExpandedPostingsKey returns the key of the series that matchers select, which depends on the matchers' order.
func ExpandedPostingsKey(block ulid.ULID, matchers []*labels.Matcher) string {
	return hashedKey("EP:", block, matchersText(matchers))
}

// SeriesKey returns the key of the series entry at ref.
func SeriesKey(block ulid.ULID, ref storage.SeriesRef) string {
	key := make([]byte, 0, len("S:")+ulid.EncodedSize+1+20)
	key = append(key, "S:"...)
	key = append(key, block.String()...)
	key = append(key, ':')
	return string(strconv.AppendUint(key, uint64(ref), 10))
}

func hashedKey(kind string, block ulid.ULID, text string) string {
	hash := blake2b.Sum256([]byte(text))
	key := make([]byte, 0, len(kind)+ulid.EncodedSize+1+base64.RawURLEncoding.EncodedLen(len(hash))+len(postingsSuffix))
	key = append(key, kind...)
	key = append(key, block.String()...)
	key = append(key, ':')
	key = base64.RawURLEncoding.AppendEncode(key, hash[:])
	return string(append(key, postingsSuffix...))
}

// matchersText writes matchers as PromQL does, with semicolons between.
func matchersText(matchers []*labels.Matcher) string {
	var sb strings.Builder
	for i, m := range matchers {
		if i > 0 {
			sb.WriteByte(';')
		}
		sb.WriteString(m.String())
	}
	return sb.String()
}
