package answer

import "bytes"

// TakeReceipt returns body without the receipt that an answer of the querier, good or bad, may end with, and the receipt, which is
// a JSON object; nil where there is none. Both share the memory of body, which stays as it is.
func TakeReceipt(body []byte) (rest, receipt []byte) {
	// Nothing inside a text looks like this, and what is inside another object does not end with the answer.
	key := []byte(`,"receipt":`)
	at := bytes.LastIndex(body, key)
	if at < 0 {
		return body, nil
	}
	s := &scanner{b: body, i: at + len(key)}
	value, err := s.value()
	if err != nil || len(value) == 0 || value[0] != '{' || s.next('}') != nil {
		return body, nil
	}
	if s.space(); s.i != len(body) {
		return body, nil
	}
	return append(body[:at:at], '}'), value
}
