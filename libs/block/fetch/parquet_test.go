package fetch

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

func FuzzParseParquetMeta(f *testing.F) {
	b := protowire.AppendTag(nil, 3, protowire.VarintType)
	b = protowire.AppendVarint(b, 1<<40)
	b = protowire.AppendTag(b, parquetBlocksField, protowire.BytesType)
	f.Add(protowire.AppendString(b, "01M83WSTYAPSSY2NT7K45FA41G"))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := parseParquetMeta(b)
		if err == nil {
			require.LessOrEqual(t, 28*len(ids), len(b))
		}
	})
}
