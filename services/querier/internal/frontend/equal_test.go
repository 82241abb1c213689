package frontend

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promontory-io/promontory/services/querier/internal/frontend/plan"
)

// expressions are of all kinds that splitting and dividing may get wrong.
func expressions() []string {
	return []string{
		`requests_total`, `rate(requests_total[5m])`, `sum by (job) (rate(requests_total[5m]))`,
		`sum without (instance) (requests_total)`, `sum(requests_total)`, `count by (code) (requests_total)`,
		`topk by (job) (1, requests_total)`, `bottomk(2, temperature)`, `quantile by (job) (0.5, requests_total)`,
		`histogram_quantile(0.9, sum by (le) (rate(lat_bucket[5m])))`,
		`histogram_quantile(0.9, sum by (job, le) (rate(lat_bucket[5m])))`,
		`histogram_quantile(0.9, rate(lat_bucket[5m]))`, `histogram_quantile(0.9, rate(native[5m]))`,
		`sum by (job) (rate(native[5m]))`, `native`, `mixed`, `mixed > 2`, `odd`, `-odd`, `{"dotted.name"}`,
		`sum by (job) (errors_total) / sum by (job) (requests_total)`,
		`errors_total / on (job, instance) group_left (code) requests_total{code="200"}`,
		`requests_total{code="200"} / ignoring (code) errors_total`, `errors_total or requests_total`,
		`requests_total and on (job) errors_total`, `requests_total unless errors_total`,
		`sum by (x) (label_replace(requests_total, "x", "$1", "job", "(.*)"))`,
		`sum by (job) (label_replace(requests_total, "job", "all", "", ""))`,
		`sum without (x) (label_join(requests_total, "x", "-", "job", "instance"))`,
		`count_values by (job) ("code", requests_total)`, `absent(requests_total{job="none"})`,
		`absent_over_time(temperature{room="south"}[1h])`, `scalar(temperature{room="north"})`, `vector(time())`,
		`time()`, `hour()`, `sum by (job) (requests_total) or vector(1)`, `42`,
		`max_over_time(temperature[1h:5m])`, `rate(requests_total[10m:])`, `requests_total @ 3600`,
		`requests_total @ start()`, `requests_total @ end()`, `rate(requests_total[10m] @ end())`,
		`max_over_time(temperature[1h:5m] @ end())`, `requests_total offset 20m`, `requests_total offset -20m`,
		`timestamp(requests_total)`, `delta(temperature[1h])`, `changes(ver[1h])`, `ver`, `sort_desc(requests_total)`,
		`sum by (job) (max by (job, instance) (requests_total))`, `group by (__name__, job) ({job="api"})`,
		`sum by (__name__, job) (rate({__name__=~"requests_total|errors_total"}[5m]))`,
		`limitk by (job) (1, requests_total)`, `stddev by (job) (requests_total)`,
		`nope(`, `requests_total + on (job) errors_total`, `rate(temperature)`,
		`label_replace(temperature, "room", "x", "", "")`,
	}
}

func TestAnswersArePutTogetherAsTheQuerierWouldGiveThem(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{0, 3} {
		h := newHouse(t).cached()
		h.cfg.VerticalShards = shards
		h.build()
		for _, expr := range expressions() {
			t.Run(fmt.Sprintf("%d shards/%s", shards, expr), func(t *testing.T) {
				for _, span := range [][3]string{{"0", "14400", "60"}, {"0", "14400", "60"}, {"600", "9000", "60"}, {"1234.5", "8234.5", "177"}, {"3600", "3600", "15"}} {
					params := []string{"query", expr, "start", span[0], "end", span[1], "step", span[2]}
					want, got := ask(t, h.up, "query_range", params...), ask(t, h.fe, "query_range", params...)
					require.Equal(t, want.Code, got.Code, "%s", got.Body)
					require.JSONEq(t, want.Body.String(), got.Body.String())
				}
				params := []string{"query", expr, "time", "3600"}
				want, got := ask(t, h.up, "query", params...), ask(t, h.fe, "query", params...)
				require.Equal(t, want.Code, got.Code, "%s", got.Body)
				sameVector(t, want.Body.Bytes(), got.Body.Bytes())
			})
		}
	}
}

func TestAnyRangeIsPutTogetherFromPartsAndCache(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	h := newHouse(t).cached()
	h.cfg.Range.Intervals = plan.Intervals{Static: 17 * time.Minute}
	h.build()
	exprs := []string{`rate(requests_total[5m])`, `sum by (job) (mixed)`, `ver or odd`, `native`}
	for range 200 {
		step := []int{15, 60, 97, 600, 3600}[random.IntN(5)]
		start := random.IntN(10000)
		if random.IntN(2) == 0 {
			start -= start % step
		}
		end := start + random.IntN(12000)
		// What is younger than the clock allows is asked anew, what is older comes from the cache.
		h.now = time.Unix(int64(random.IntN(16000)), 0)
		params := []string{
			"query", exprs[random.IntN(len(exprs))], "start", fmt.Sprint(start), "end", fmt.Sprint(end), "step", fmt.Sprint(step),
		}
		want, got := ask(t, h.up, "query_range", params...), ask(t, h.fe, "query_range", params...)
		require.Equal(t, 200, got.Code, "%s", got.Body)
		require.JSONEq(t, want.Body.String(), got.Body.String(), "%v", params)
	}
}
