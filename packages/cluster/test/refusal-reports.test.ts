import { expect, test } from '@jest/globals';
import { FakeClock } from '@shoalmq/testkit';
import { RefusalReports } from '../src/refusal-reports.ts';
import type { ClusterReport } from '../src/report.ts';

test('whoever is turned away again and again is reported once a minute, by host and reason', () => {
  const clock = new FakeClock();
  const reports: ClusterReport[] = [];
  const refusals = new RefusalReports({ clock, tls: true, report: (each) => reports.push(each) });
  refusals.tell('handshake_failed', '', '10.0.0.1:4001');
  refusals.tell('handshake_failed', '', '10.0.0.1:4002');
  refusals.tell('unauthenticated', 'n2', '10.0.0.1:4003');
  refusals.tell('handshake_failed', '', '10.0.0.2:4004');
  expect(reports).toHaveLength(3);
  expect(reports[0]).toMatchObject({
    event: 'cluster.refused',
    remoteAddress: '10.0.0.1:4001',
    message: expect.stringContaining('no certificate'),
  });

  clock.advance(60_000);
  refusals.tell('handshake_failed', '', '10.0.0.1:4005');
  expect(reports).toHaveLength(4);
});
