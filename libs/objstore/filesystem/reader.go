package filesystem

import (
	"io"
	"os"
)

// reader reads a range of a file. It holds no buffer of its own: bytes go from the file to the caller's buffer.
type reader struct {
	f        *os.File
	off, end int64 // what is left to read
}

// Read reads by position, so that opening a range needs no seek.
func (r *reader) Read(p []byte) (int, error) {
	left := r.end - r.off
	if left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := r.f.ReadAt(p, r.off)
	r.off += int64(n)
	if err == io.EOF && r.off < r.end {
		// Somebody cut the file under us. A plain EOF would pass for a complete object.
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// WriteTo lets the kernel copy when w is a file too, as in downloads.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	if _, err := r.f.Seek(r.off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.Copy(w, io.LimitReader(r.f, r.end-r.off))
	r.off += n
	if err == nil && r.off < r.end {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// ObjectSize returns how many bytes are left to read.
func (r *reader) ObjectSize() (int64, error) { return r.end - r.off, nil }

// Close closes the file.
func (r *reader) Close() error { return r.f.Close() }
