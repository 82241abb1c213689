import { describe, expect, it } from 'vitest';
import { together, type Missing } from './receipt';

describe('what is missing', () => {
  const block = (minTime: number, maxTime: number, more: Partial<Missing> = {}): Missing =>
    ({ address: 'a:1', labels: { replica: 'a' }, minTime, maxTime, reason: 'refused', covered: false, ...more });
  it('is one line for each store, set of labels and reason', () => {
    expect(together([block(10, 20), block(0, 10), block(5, 6, { labels: { replica: 'b' } }), block(7, 8, { reason: 'slow' }), block(1, 2, { covered: true })])).toEqual([
      { ...block(0, 20), pieces: 2 },
      { ...block(5, 6, { labels: { replica: 'b' } }), pieces: 1 },
      { ...block(7, 8, { reason: 'slow' }), pieces: 1 },
      { ...block(1, 2, { covered: true }), pieces: 1 },
    ]);
  });
});
