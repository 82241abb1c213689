import { describe, expect, it } from 'vitest';
import { flagDeletion, fromMetas, type Meta } from './rows';
import { growth, removedBy, ruleOf, totalsBy } from './usage';

const day = 86_400_000;
function meta(ulid: string, min: number, max: number, resolution: number, size: number, tenant: string): Meta {
  return {
    ulid, minTime: min, maxTime: max, stats: { numSeries: 1, numSamples: 10 }, compaction: { level: 1 },
    thanos: { labels: { tenant_id: tenant }, downsample: { resolution }, source: 'x', files: [{ rel_path: 'index', size_bytes: size }] },
  };
}

describe('usage', () => {
  const start = Date.UTC(2026, 0, 31);
  const blocks = fromMetas([meta('A', start, start + 2 * day, 0, 100, 'a'), meta('B', start, start + day, 300_000, 10, 'a'), meta('C', start, start + day, 0, 1, 'b')]);
  it('adds up by label', () => {
    expect(totalsBy(blocks, (b) => b.group.labels.tenant_id ?? '').map((t) => [t.name, t.blocks, t.bytes, t.samples])).toEqual([['a', 2, 110, 20], ['b', 1, 1, 10]]);
  });
  it('shares a block among the months it spans', () => {
    expect(growth(blocks)).toEqual([{ start: Date.UTC(2026, 0), bytes: [51, 10, 0] }, { start: Date.UTC(2026, 1), bytes: [50, 0, 0] }]);
  });
  it('tells what retention removes, next first, without what is marked', () => {
    const keep = () => ({ keep: { raw: 10 * day, five: 0, hour: day }, name: 'x' });
    expect(removedBy(blocks, keep, start + 13 * day).map((r) => r.block.id)).toEqual(['C', 'A']);
    expect(removedBy(blocks, keep, start + 11.5 * day).map((r) => r.block.id)).toEqual(['C']);
    expect(removedBy(blocks.map((b) => ({ ...b, flags: flagDeletion })), keep, start + 99 * day)).toEqual([]);
    expect(removedBy(blocks, () => undefined, start + 99 * day)).toEqual([]);
  });
  it('goes by the policies of the compactor, whose groups have no replica labels', () => {
    const policy = { rawSeconds: 60, fiveMinutesSeconds: 0, oneHourSeconds: 0 };
    const rule = ruleOf({
      policies: [{ name: 'short', selector: '{tenant_id="a"}', ...policy }, { name: 'default', ...policy, rawSeconds: 3600 }],
      groups: [{ labels: { tenant_id: 'a' }, policy: 0 }, { labels: { tenant_id: 'b', zone: 'x' }, policy: 1 }], replicaLabels: ['replica'], deleteDelaySeconds: 1,
    });
    const of = (labels: Record<string, string>) => {
      const m = meta('A', 0, 1, 0, 1, '');
      m.thanos.labels = labels;
      return fromMetas([m]).map((b) => rule(b)?.name)[0];
    };
    expect(of({ tenant_id: 'a', replica: 'r1' })).toBe('short');
    expect(of({ replica: 'r2', zone: 'x', tenant_id: 'b' })).toBe('default');
    expect(of({ tenant_id: 'b' })).toBeUndefined();
  });
});
