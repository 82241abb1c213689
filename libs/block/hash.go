package block

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// HashFunc names how a block's files are hashed. The empty one hashes nothing.
type HashFunc string

// The hash functions.
const (
	HashNone   HashFunc = ""
	HashSHA256 HashFunc = "SHA256"
)

// Hash is a file's checksum.
type Hash struct {
	Func HashFunc `json:"hashFunc"`
	// Value is the checksum in lower-case hex.
	Value string `json:"value"`
}

// ParseHashFunc checks the name of a hash function, as given by --hash-func.
func ParseHashFunc(s string) (HashFunc, error) {
	switch f := HashFunc(s); f {
	case HashNone, HashSHA256:
		return f, nil
	default:
		return "", fmt.Errorf("hash function %q is unknown: use SHA256 or nothing", s)
	}
}

// hashFile returns the checksum of a local file, nil for HashNone.
func hashFile(name string, f HashFunc) (_ *Hash, err error) {
	switch f {
	case HashNone:
		return nil, nil
	case HashSHA256:
	default:
		return nil, fmt.Errorf("hash %s: hash function %q is unknown", name, f)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return nil, fmt.Errorf("hash %s: %w", name, err)
	}
	return &Hash{Func: f, Value: hex.EncodeToString(h.Sum(nil))}, nil
}
