package tenants

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/promontory-io/promontory/libs/pbwire"
	"github.com/promontory-io/promontory/services/receiver/internal/remotewrite"
)

// The journal is a file of entries: length and CRC-32C of the content, both four bytes little-endian, then
// the content: series as field 1 of a message. An entry that is cut off was never acknowledged
// and ends the file.
const (
	journalName = "promontory-journal"
	entryHead   = 8
	// maxEntry is more than a request may have; a length beyond it is damage.
	maxEntry = 1 << 30
)

// errJournalFull says that more was written during a replay than the journal may hold.
var errJournalFull = errors.New("journal of writes during the replay is full")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal takes writes to a TSDB that is not open yet. Its user sees to it that calls do not overlap.
type journal struct {
	path  string
	file  *os.File
	size  int64
	limit int64
	buf   []byte
}

// openJournal opens the journal in dir, which may be left from an earlier start: what it holds stays, but for
// an entry cut off at its end.
func openJournal(dir string, limit int64) (*journal, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	j := &journal{path: filepath.Join(dir, journalName), limit: limit}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.file = f
	if err := j.read(0, func([]byte) error { return nil }); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.Truncate(j.size); err != nil {
		return nil, errors.Join(fmt.Errorf("cut journal: %w", err), f.Close())
	}
	return j, nil
}

// add writes one entry. What add has written survives the process.
func (j *journal) add(series []remotewrite.Series, pick []uint32) error {
	b := append(j.buf[:0], make([]byte, entryHead)...)
	if pick == nil {
		for i := range series {
			b = remotewrite.AppendSeries(b, &series[i])
		}
	} else {
		for _, i := range pick {
			b = remotewrite.AppendSeries(b, &series[i])
		}
	}
	j.buf = b
	content := b[entryHead:]
	binary.LittleEndian.PutUint32(b, uint32(len(content)))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(content, castagnoli))
	if j.size+int64(len(b)) > j.limit {
		return fmt.Errorf("%w: %d bytes", errJournalFull, j.limit)
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		// The next entry goes over what this one left.
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(len(b))
	return nil
}

// read calls f for each entry from an offset on and leaves j.size at the end of the last whole one.
func (j *journal) read(from int64, f func(content []byte) error) error {
	at := from
	r := bufio.NewReaderSize(io.NewSectionReader(j.file, from, 1<<62), 1<<20)
	var head [entryHead]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			break // the end, or an entry cut off in its head
		}
		n := int64(binary.LittleEndian.Uint32(head[:]))
		if n > maxEntry {
			break
		}
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			break
		}
		if crc32.Checksum(buf, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			break
		}
		if err := f(buf); err != nil {
			return err
		}
		at += entryHead + n
	}
	j.size = max(j.size, at)
	return nil //nolint:nilerr // what is cut off was never acknowledged
}

// readUntil calls f for the entries between two offsets that entries begin at.
func (j *journal) readUntil(from, to int64, f func(content []byte) error) error {
	part := &journal{file: j.file}
	errStop := errors.New("end of part")
	at := from
	err := part.read(from, func(b []byte) error {
		if at >= to {
			return errStop
		}
		at += entryHead + int64(len(b))
		return f(b)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// remove deletes the journal, all of which was appended.
func (j *journal) remove() error {
	return errors.Join(j.file.Close(), os.Remove(j.path))
}

// close leaves the journal for the next start.
func (j *journal) close() error { return j.file.Close() }

// parseEntry returns the series of an entry, as views into it.
func parseEntry(content []byte, into []remotewrite.Series) ([]remotewrite.Series, error) {
	into = into[:0]
	var f pbwire.Field
	for len(content) > 0 {
		rest, err := f.Next(content)
		if err != nil {
			return into, err
		}
		content = rest
		s, err := remotewrite.ParseSeries(f.Val)
		if err != nil {
			return into, err
		}
		into = append(into, s)
	}
	return into, nil
}
