import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';

const measure = join(import.meta.dirname, '../packages/bench/dist/subscriptions/measure.js');

interface Figures {
  readonly memory: { readonly routeBytes: number; readonly storeBytes: number };
}

test('a subscription costs at most 250 bytes of heap, the embedded store included', async () => {
  // A quarter of a million: hash tables grow by doubling, and are then as full as with a million.
  const args = ['--expose-gc', measure, '250000'];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const { routeBytes, storeBytes } = (JSON.parse(stdout) as Figures).memory;

  expect(routeBytes + storeBytes).toBeLessThanOrEqual(250);
  // An empty heap would pass as well: a filter of 40 characters alone takes this much.
  expect(routeBytes).toBeGreaterThan(100);
  expect(storeBytes).toBeGreaterThan(20);
}, 60_000);
