import { describe, expect, it } from 'vitest';
import { decode, defaults, encodeOptions, stepOf } from './options';

describe('addresses', () => {
  it('opens a link of a Prometheus', () => {
    const [o] = decode('?g0.expr=rate(http_requests_total%5B5m%5D)&g0.tab=0&g0.stacked=1&g0.range_input=2h&g0.end_input=2026-11-20%2010%3A00%3A00&g0.step_input=15');
    expect(o).toMatchObject({ expr: 'rate(http_requests_total[5m])', tab: 'graph', stacked: true, range: 7_200_000, end: Date.UTC(2026, 10, 20, 10), step: 15_000 });
  });
  it('opens a link of a newer Prometheus', () => {
    const [o] = decode('?g0.expr=up&g0.tab=table&g0.display_mode=lines');
    expect(o).toMatchObject({ expr: 'up', tab: 'table', stacked: false });
    const [p] = decode('?g0.expr=up&g0.show_tree=0&g0.tab=graph&g0.range_input=12h&g0.res_type=fixed&g0.res_step=60&g0.display_mode=stacked&g0.show_exemplars=0');
    expect(p).toMatchObject({ expr: 'up', tab: 'graph', stacked: true, range: 43_200_000, step: 60_000 });
    const [q] = decode('?g0.expr=up&g0.tab=graph&g0.res_type=auto&g0.res_density=high&g0.res_step=60');
    expect(q).toMatchObject({ step: null });
  });
  it('opens a link of a Thanos', () => {
    const [o, second] = decode('?g0.expr=up&g0.deduplicate=0&g0.partial_response=1&g0.max_source_resolution=5m&g0.engine=thanos&g0.store_matches=%5B%7B%22name%22%3A%22a%3A1%22%7D%5D&g1.expr=b&g1.tab=1');
    expect(o).toMatchObject({ dedup: false, partial: true, resolution: '5m', engine: 'thanos', stores: ['a:1'] });
    expect(second).toMatchObject({ expr: 'b', tab: 'table' });
  });
  it('writes what it reads', () => {
    const panels = [
      { ...defaults, expr: 'a{b="c&d"}', stores: ['x:1', 'y:2'], end: 1_700_000_000_000, step: 30_000, partial: false, stacked: true },
      { ...defaults, expr: 'up', tab: 'table' as const, dedup: false, engine: 'thanos' as const, resolution: '1h' as const, range: 90_061_000 },
    ];
    expect(decode(encodeOptions(panels))).toEqual(panels);
  });
  it('reads nonsense as the default', () => {
    expect(decode('?g0.range_input=abc&g0.store_matches=%7B&g0.step_input=-1&g0.end_input=never&g0.engine=x')).toEqual([defaults]);
    expect(decode('')).toEqual([defaults]);
  });
  it('chooses 250 steps and at least a second', () => {
    expect(stepOf({ ...defaults, range: 3_600_000 })).toBe(14_000);
    expect(stepOf({ ...defaults, range: 1000 })).toBe(1000);
  });
});
