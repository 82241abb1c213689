package frontend

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"sync"

	"github.com/promontory-io/promontory/libs/promapi/promtypes"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/answer"
	"github.com/promontory-io/promontory/services/querier/internal/frontend/downstream"
	"github.com/promontory-io/promontory/services/querier/internal/receipt"
)

// bills are the receipts of the answers that one answer is made of, as they came. It is safe for concurrent use.
type bills struct {
	mu   sync.Mutex // guards what follows
	list [][]byte
	// without is how many answers came without one, from queriers that know of none.
	without int
}

func (b *bills) add(bill []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bill == nil {
		b.without++
		return
	}
	b.list = append(b.list, bill)
}

// sum returns all receipts as one; nil where there is none. whole is false where an answer came without.
func (b *bills) sum() (_ *promtypes.Receipt, whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	whole = b.without == 0
	var read []promtypes.Receipt
	for _, text := range b.list {
		var one promtypes.Receipt
		if err := json.Unmarshal(text, &one); err != nil || one.Version != promtypes.ReceiptVersion {
			whole = false // of another version, or of something else
			continue
		}
		read = append(read, one)
	}
	if len(read) == 0 {
		return nil, whole
	}
	out := receipt.Merge(read)
	return &out, whole
}

// ask asks the querier for a part of c. Where slow requests are logged it asks for the receipt as well, which the client only
// gets if it asked itself.
func (f *Frontend) ask(ctx context.Context, caller downstream.Caller, c *call, form url.Values) (*downstream.Reply, error) {
	wanted, err := c.form.Bool("receipt", false)
	if f.cfg.SlowerThan == 0 || err != nil {
		return caller.Call(ctx, c.request(form))
	}
	form.Set("receipt", "true")
	reply, err := caller.Call(ctx, c.request(form))
	if err != nil {
		c.bills.add(nil)
		return nil, err
	}
	rest, bill := answer.TakeReceipt(reply.Body)
	c.bills.add(slices.Clone(bill))
	if !wanted {
		reply.Body = rest
	}
	return reply, nil
}
