package answer

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheReceiptIsTakenOffTheEndOfAnAnswer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, rest, receipt string }{
		"a result":  {`{"status":"success","data":{"a":1},"receipt":{"version":1,"x":[{}]}}`, `{"status":"success","data":{"a":1}}`, `{"version":1,"x":[{}]}`},
		"an error":  {`{"status":"error","error":"x","receipt":{}}` + "\n", `{"status":"error","error":"x"}`, `{}`},
		"none":      {`{"status":"success","data":{}}`, `{"status":"success","data":{}}`, ""},
		"empty":     {``, ``, ""},
		"no JSON":   {`bad gateway ,"receipt":`, `bad gateway ,"receipt":`, ""},
		"a label":   {`{"data":{"metric":{"a":"b","receipt":"c"}}}`, `{"data":{"metric":{"a":"b","receipt":"c"}}}`, ""},
		"an object": {`{"data":{"metric":{"a":"b","receipt":{}}}}`, `{"data":{"metric":{"a":"b","receipt":{}}}}`, ""},
		"a text":    {`{"data":",\"receipt\":{}}"}`, `{"data":",\"receipt\":{}}"}`, ""},
		"both":      {`{"data":{"a":"b","receipt":"c"},"receipt":{"a":"}"}}`, `{"data":{"a":"b","receipt":"c"}}`, `{"a":"}"}`},
		"cut":       {`{"data":{},"receipt":{"a":1}`, `{"data":{},"receipt":{"a":1}`, ""},
	} {
		body := []byte(tc.body)
		rest, receipt := TakeReceipt(body)
		require.Equal(t, tc.rest, string(rest), name)
		require.Equal(t, tc.receipt, string(receipt), name)
		require.Equal(t, tc.body, string(body), name)
	}
}

func FuzzTakenReceiptsLeaveAnAnswer(f *testing.F) {
	f.Add(`{"status":"success","data":{"a":"b,\"receipt\":"},"receipt":{"version":1}}`)
	f.Add(`{"a":{"b":"c","receipt":"d"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		rest, receipt := TakeReceipt([]byte(body))
		if receipt == nil {
			require.Equal(t, body, string(rest))
			return
		}
		if !json.Valid([]byte(body)) {
			return
		}
		require.True(t, json.Valid(rest), "%s", rest)
		require.True(t, json.Valid(receipt), "%s", receipt)
		var whole, less map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(body), &whole))
		require.NoError(t, json.Unmarshal(rest, &less))
		require.JSONEq(t, string(whole["receipt"]), string(receipt))
		if strings.Count(body, `"receipt"`) == 1 {
			require.Len(t, less, len(whole)-1)
		}
	})
}
