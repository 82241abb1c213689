import { describe, expect, it } from 'vitest';
import { parseFilter } from '../../lib/match';
import { analyse, flagDeletion, fromOverview, noWork, select, type BlockFilter, type Overview } from './rows';

const h = 3_600_000;
const all: BlockFilter = { text: parseFilter(''), resolution: null, level: null, state: 'any', minBytes: 0, from: null, until: null };

function overview(...rows: [string, number, number, number, number, number, number?][]): Overview {
  return {
    label: '', refreshedAt: '', triedAt: '', err: null, admin: true, compactor: false, sources: ['sidecar', 'compactor'],
    groups: [{ labels: { cluster: 'eu1', replica: 'a' } }, { labels: { cluster: 'us1' } }], marked: [], unusable: [],
    blocks: rows.map(([id, g, min, max, res, level, flags = 0]) => [id, g, min * h, max * h, res, level, 1000, 1, 2, 3, level > 1 ? 1 : 0, flags, 0]),
  };
}

describe('analysis of blocks', () => {
  it('finds overlaps within a group and resolution, over levels', () => {
    const blocks = fromOverview(overview(['A', 0, 0, 2, 0, 1], ['B', 0, 0, 8, 0, 2], ['C', 0, 8, 10, 0, 1], ['D', 1, 0, 8, 0, 1], ['E', 0, 0, 8, 300_000, 2]));
    const { sections, overlaps, gaps } = analyse(blocks);
    expect(overlaps).toBe(2);
    expect(gaps).toBe(0);
    expect(blocks.filter((b) => b.overlaps).map((b) => b.id)).toEqual(['A', 'B']);
    expect(sections.map((s) => s.bands.map((b) => `${b.resolution}/${b.level}`))).toEqual([['0/1', '0/2', '300000/2'], ['0/1']]);
  });
  it('finds gaps, and takes what is marked for deletion for gone', () => {
    const { sections, overlaps, gaps } = analyse(fromOverview(overview(['A', 0, 0, 2, 0, 1], ['B', 0, 2, 4, 0, 1, flagDeletion], ['C', 0, 6, 8, 0, 1], ['D', 0, 6, 8, 0, 1, flagDeletion])));
    expect(overlaps).toBe(0);
    expect(gaps).toBe(1);
    expect(sections[0]?.gaps.get(0)).toEqual([{ min: 2 * h, max: 6 * h }]);
    expect(sections[0]?.bands[0]?.lanes.length).toBe(2);
  });
  it('takes what no query sees for no gap', () => {
    const o = overview(['A', 0, 0, 2, 0, 1], ['B', 0, 2, 4, 0, 1]);
    const first = o.blocks[0];
    if (first) {
      first[3] -= 300_000;
    }
    expect(analyse(fromOverview(o)).gaps).toBe(0);
    if (first) {
      first[3] -= 1;
    }
    expect(analyse(fromOverview(o)).gaps).toBe(1);
  });
  it('selects by labels, words, level, size, time and state', () => {
    const blocks = fromOverview(overview(['AAA', 0, 0, 2, 0, 1], ['BBB', 1, 2, 4, 0, 2, flagDeletion], ['CCC', 0, 4, 6, 300_000, 2]));
    const ids = (f: Partial<BlockFilter>) => select(blocks, { ...all, ...f }, { ...noWork, planned: new Set(['CCC']) }).map((b) => b.id).join();
    expect(ids({})).toBe('AAA,BBB,CCC');
    expect(ids({ text: parseFilter('cluster=eu1 ccc') })).toBe('CCC');
    expect(ids({ text: parseFilter('replica!=a') })).toBe('BBB');
    expect(ids({ text: parseFilter('cluster=~"eu.*"') })).toBe('AAA,CCC');
    expect(ids({ text: parseFilter('compactor') })).toBe('BBB,CCC');
    expect(ids({ level: 2, resolution: 0 })).toBe('BBB');
    expect(ids({ from: 2 * h, until: 4 * h })).toBe('BBB');
    expect(ids({ minBytes: 1001 })).toBe('');
    expect(ids({ state: 'deletion' })).toBe('BBB');
    expect(ids({ state: 'work' })).toBe('CCC');
  });
});
