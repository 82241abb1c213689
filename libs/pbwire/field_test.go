package pbwire_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/promontory-io/promontory/libs/pbwire"
)

func message() []byte {
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendString(b, "abc")
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	b = protowire.AppendVarint(b, 1<<63)
	b = protowire.AppendTag(b, 300, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, 7)
	b = protowire.AppendTag(b, 4, protowire.Fixed32Type)
	return protowire.AppendFixed32(b, 8)
}

func TestNextWalksAllKindsOfFields(t *testing.T) {
	t.Parallel()
	rest := message()
	var f pbwire.Field
	var err error
	rest, err = f.Next(rest)
	require.NoError(t, err)
	require.EqualValues(t, 1<<3|pbwire.Bytes, f.Tag)
	require.Equal(t, "abc", string(f.Val))
	require.Equal(t, len(f.Val), cap(f.Val), "appending to a value must not write into the message")
	for _, want := range []pbwire.Field{
		{Tag: 2<<3 | pbwire.Varint, V: 1 << 63}, {Tag: 300<<3 | pbwire.Fixed64, V: 7}, {Tag: 4<<3 | pbwire.Fixed32, V: 8},
	} {
		rest, err = f.Next(rest)
		require.NoError(t, err)
		require.Equal(t, want, f)
	}
	require.Empty(t, rest)
}

func TestNextRefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	msg := message()
	ends := map[int]bool{0: true}
	var f pbwire.Field
	for rest := msg; len(rest) > 0; ends[len(msg)-len(rest)] = true {
		rest, _ = f.Next(rest)
	}
	for n := range msg {
		rest := msg[:n]
		var err error
		for len(rest) > 0 && err == nil {
			rest, err = f.Next(rest)
		}
		if ends[n] {
			require.NoError(t, err, "%d bytes end between fields", n)
		} else {
			require.ErrorIs(t, err, pbwire.ErrTruncated, "%d bytes", n)
		}
	}
	_, err := f.Next([]byte{0x0b})
	require.ErrorContains(t, err, "wire type 3 of field 1")
}

func FuzzNext(f *testing.F) {
	f.Add(message())
	f.Fuzz(func(t *testing.T, data []byte) {
		var fd pbwire.Field
		for len(data) > 0 {
			rest, err := fd.Next(data)
			if err != nil {
				return
			}
			if len(rest) >= len(data) {
				t.Fatal("no progress")
			}
			// What we accept, the reference accepts as the same length.
			if _, _, n := protowire.ConsumeField(data); n > 0 && n != len(data)-len(rest) {
				t.Fatalf("reference reads %d bytes, we %d", n, len(data)-len(rest))
			}
			data = rest
		}
	})
}
