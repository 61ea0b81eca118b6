import { expect, test } from '@jest/globals';

import { sumReceivedBytes } from '../src/load/link-bytes.ts';
import { sumOfMetric } from '../src/load/node-metrics.ts';

test('the series of a metric are added up, and no metric is no number', () => {
  const text = [
    '# TYPE shoal_routes gauge',
    'shoal_routes{kind="clean"} 3',
    'shoal_routes{kind="persistent"} 1e6',
    'shoal_routes_other 7',
    'process_open_fds 20',
  ].join('\n');
  expect(sumOfMetric(text, 'shoal_routes')).toBe(1_000_003);
  expect(sumOfMetric(text, 'shoal_routes', 'kind="clean"')).toBe(3);
  expect(sumOfMetric(text, 'process_open_fds')).toBe(20);
  expect(sumOfMetric(text, 'shoal')).toBeNaN();
});

test('received bytes of all connections are added up, of those that have received any', () => {
  const text = [
    '0 0 127.0.0.1:7883 127.0.0.1:40000 cubic rto:204 bytes_sent:9 bytes_acked:9 bytes_received:120 segs_in:5',
    '0 0 127.0.0.1:7883 127.0.0.1:40002 cubic rto:204 bytes_received:3 segs_in:2',
    '0 0 127.0.0.1:7883 127.0.0.1:40004 cubic rto:204 segs_in:1',
  ].join('\n');
  expect(sumReceivedBytes(text)).toBe(123);
});
