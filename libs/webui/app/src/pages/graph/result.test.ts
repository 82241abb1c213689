import { describe, expect, it } from 'vitest';
import { linesOf, stack } from './result';

describe('lines', () => {
  it('puts samples on the grid of the query and leaves gaps', () => {
    const got = linesOf([{ metric: {}, values: [[100, '1'], [120, '3'], [130, '+Inf']] }, { metric: {}, values: [] }], 100, 130, 10);
    expect(got.times).toEqual([100, 110, 120, 130]);
    expect(got.values).toEqual([[1, null, 3, null], [null, null, null, null]]);
  });
  it('stacks what is shown', () => {
    const lines = [[1, 2], [10, null], [5, 5]];
    expect(stack(lines, [true, true, true])).toEqual([[1, 2], [11, null], [16, 7]]);
    expect(stack(lines, [true, false, true])).toEqual([[1, 2], [null, null], [6, 7]]);
  });
});
