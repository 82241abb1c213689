package cachebucket

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/promontory-io/promontory/libs/cache"
	"github.com/promontory-io/promontory/libs/cache/backend"
)

// Config is a caching bucket's configuration.
type Config struct {
	// Backend is where things are kept.
	Backend backend.Config
	// Settings are what is kept, and for how long.
	Settings Settings
	// Alone says that the configuration wants a cache in common with others (GROUPCACHE), and that this process keeps its own.
	Alone bool
	// Hash is part of the keys of listings, so that only those who are configured alike share them.
	Hash string
}

// Settings are what is kept, and for how long.
type Settings struct {
	// ChunkSubrangeSize is the size of the pieces in which chunk files are kept.
	ChunkSubrangeSize int64 `yaml:"chunk_subrange_size"`
	// MaxChunksGetRangeRequests is how many requests at most are made for the pieces that one read misses; zero: any number.
	MaxChunksGetRangeRequests int            `yaml:"max_chunks_get_range_requests"`
	ChunkObjectAttrsTTL       cache.Duration `yaml:"chunk_object_attrs_ttl"`
	ChunkSubrangeTTL          cache.Duration `yaml:"chunk_subrange_ttl"`
	// BlocksIterTTL is for listings of the root.
	BlocksIterTTL cache.Duration `yaml:"blocks_iter_ttl"`
	// The metafile settings are about meta.json and deletion-mark.json.
	MetafileMaxSize        cache.ByteSize `yaml:"metafile_max_size"`
	MetafileExistsTTL      cache.Duration `yaml:"metafile_exists_ttl"`
	MetafileDoesntExistTTL cache.Duration `yaml:"metafile_doesnt_exist_ttl"`
	MetafileContentTTL     cache.Duration `yaml:"metafile_content_ttl"`
}

// DefaultSettings returns all defaults.
func DefaultSettings() Settings {
	return Settings{
		ChunkSubrangeSize: 16_000, MaxChunksGetRangeRequests: 3,
		ChunkObjectAttrsTTL: cache.Duration(24 * time.Hour), ChunkSubrangeTTL: cache.Duration(24 * time.Hour),
		BlocksIterTTL: cache.Duration(5 * time.Minute), MetafileMaxSize: cache.MiB,
		MetafileExistsTTL: cache.Duration(2 * time.Hour), MetafileDoesntExistTTL: cache.Duration(15 * time.Minute),
		MetafileContentTTL: cache.Duration(24 * time.Hour),
	}
}

// maxSubrangeSize keeps one piece well below what a read holds at once.
const maxSubrangeSize = windowBytes / 4

// Validate returns all that is wrong with the settings.
func (s Settings) Validate() error {
	var errs []error
	if s.ChunkSubrangeSize <= 0 || s.ChunkSubrangeSize > maxSubrangeSize {
		errs = append(errs, fmt.Errorf("chunk_subrange_size %d is not from 1 to %d", s.ChunkSubrangeSize, maxSubrangeSize))
	}
	if s.MaxChunksGetRangeRequests < 0 {
		errs = append(errs, fmt.Errorf("max_chunks_get_range_requests %d is negative", s.MaxChunksGetRangeRequests))
	}
	if s.MetafileMaxSize <= 0 {
		errs = append(errs, errors.New("metafile_max_size must be more than 0"))
	}
	return errors.Join(errs...)
}

// ParseConfig reads a configuration: type and config of the cache, and the settings beside them. Unknown keys are errors.
// Errors begin with the source, and where there is one the line. path is the file of the text, "" for text from elsewhere.
func ParseConfig(source, path string, text []byte) (Config, error) {
	s := DefaultSettings()
	b, alone, err := parseGroupcache(source, text, &s)
	if !alone && err == nil {
		b, err = backend.Parse("caching bucket", source, text, &s)
	}
	if err != nil {
		return Config{}, err
	}
	if err := s.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", source, err)
	}
	hash := xxhash.New()
	_, _ = hash.Write(text) // never fails
	_, _ = hash.WriteString(path)
	return Config{Backend: b, Settings: s, Alone: alone, Hash: strconv.FormatUint(hash.Sum64(), 10)}, nil
}
