package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/promontory-io/promontory/libs/objstore"
)

// probe writes, reads and deletes an object under a name that nobody else has.
func probe(ctx context.Context, bkt objstore.Bucket) (err error) {
	name, content := "promontory-check-"+rand.Text(), "written to see whether the bucket can be used\n"
	if err := bkt.Upload(ctx, name, strings.NewReader(content)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		// The object goes even when the time is over, within a time of its own.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if derr := bkt.Delete(ctx, name); derr != nil {
			err = errors.Join(err, fmt.Errorf("delete %s: %w", name, derr))
		}
	}()
	r, err := bkt.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(len(content))+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if string(got) != content {
		return fmt.Errorf("%s reads %q, %q was written", name, got, content)
	}
	return nil
}
