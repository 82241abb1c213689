package ship

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/promontory-io/promontory/libs/block"
)

// stagingRoot is the folder of hard links, below the TSDB's own, since links do not
// reach into other file systems.
func (s *Shipper) stagingRoot() string { return filepath.Join(s.cfg.Dir, "thanos", "upload") }

// stage makes a folder that is the block as it is to be uploaded: hard links of its
// data, and a meta.json with the external labels. The TSDB may delete its own folder
// meanwhile. A failure leaves nothing.
func (s *Shipper) stage(m *block.Meta, lset labels.Labels) (_ string, err error) {
	dir := filepath.Join(s.stagingRoot(), m.ULID.String())
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := linkBlock(filepath.Join(s.cfg.Dir, m.ULID.String()), dir); err != nil {
		return "", err
	}
	staged := m.Clone()
	staged.Thanos.Version = block.ThanosVersion
	staged.Thanos.Labels = lset.Map()
	staged.Thanos.Source = s.cfg.Source
	staged.Thanos.Downsample.Resolution = block.ResolutionRaw
	return dir, block.WriteMetaDir(dir, staged)
}

// gone reports whether the TSDB has deleted a block, which it does by renaming its folder.
func (s *Shipper) gone(m *block.Meta) bool {
	_, err := os.Stat(filepath.Join(s.cfg.Dir, m.ULID.String()))
	return errors.Is(err, fs.ErrNotExist)
}

// linkBlock links the index and the chunk segments of the block in src into dst.
func linkBlock(src, dst string) error {
	if err := os.MkdirAll(filepath.Join(dst, block.ChunksDirname), 0o755); err != nil {
		return err
	}
	files, err := block.ListFiles(src, block.HashNone)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.RelPath == block.MetaFilename {
			continue
		}
		rel := filepath.FromSlash(f.RelPath)
		if err := os.Link(filepath.Join(src, rel), filepath.Join(dst, rel)); err != nil {
			return err
		}
	}
	return nil
}
