package faults

import (
	"io"

	"github.com/thanos-io/objstore"
)

// body is a reader that ends, breaks or dribbles as planned. It announces the size of the unharmed body, as a server
// does that dies halfway.
type body struct {
	r    io.Reader
	left int64 // bytes until the end that was planned; negative: none
	end  error // what comes then
	most int   // bytes a Read gives at most; 0: any number
}

func newBody(r io.Reader, p plan, op, name string) *body {
	b := &body{r: r, left: -1, most: p.shortReads}
	if p.breakAfter != nil {
		b.left, b.end = *p.breakAfter, &injectedError{op: op, name: name, kind: "body broken off", rule: p.rule}
	}
	if p.truncate != nil && (b.left < 0 || *p.truncate < b.left) {
		b.left, b.end = *p.truncate, io.EOF
	}
	return b
}

// wrapBody leaves rc as it is when the plan has nothing against it.
func wrapBody(rc io.ReadCloser, p plan, op, name string) io.ReadCloser {
	if p.breakAfter == nil && p.truncate == nil && p.shortReads == 0 {
		return rc
	}
	return &readCloser{body: newBody(rc, p, op, name), Closer: rc}
}

type readCloser struct {
	*body
	io.Closer
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.end
	}
	if b.most > 0 && len(p) > b.most {
		p = p[:b.most]
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	return n, err
}

// ObjectSize returns the size that the unharmed body has.
func (b *body) ObjectSize() (int64, error) { return objstore.TryToGetSize(b.r) }
