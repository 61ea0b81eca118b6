import { expect, test } from '@jest/globals';
import type { ClusterReport } from '@shoalmq/cluster';
import { Reachability } from '../src/reachability.ts';
import type { ReachablePeer } from '../src/reachability.ts';
import { TestCluster, until } from './cluster-harness.ts';

function peerOf(fields: Partial<ReachablePeer>): ReachablePeer {
  const descriptor = {
    id: 'n2',
    incarnation: 'i',
    address: '10.0.0.2:7883',
    version: '0.1.0',
    state: 'joining' as const,
  };
  return { descriptor, up: false, heard: false, ...fields };
}

test('who cannot be reached for seconds is named once, with the settings to look at; again after it could be', () => {
  const reports: ClusterReport[] = [];
  const reachability = new Reachability(
    () => '10.0.0.1:7883',
    (report) => reports.push(report),
  );
  const see = (nowMs: number, peer: ReachablePeer) => {
    reachability.see(new Map([['n2#i', peer]]), nowMs);
  };
  see(0, peerOf({}));
  see(2_900, peerOf({}));
  expect(reports).toEqual([]);
  see(3_000, peerOf({}));
  see(9_000, peerOf({ up: true }));
  const settings = 'cluster.peerHost, cluster.peerPort and cluster.peerAddress';
  expect(reports).toEqual([
    {
      event: 'cluster.unreachable',
      peerId: 'n2',
      message:
        `node n2 cannot be reached at 10.0.0.2:7883: look at its ${settings}; ` +
        `node n2 has not reached this node at 10.0.0.1:7883, its ${settings}`,
    },
  ]);
  see(10_000, peerOf({ up: true, heard: true }));
  see(11_000, peerOf({ up: true }));
  see(14_000, peerOf({ up: true }));
  expect(reports).toHaveLength(2);
  expect(reports[1]).toMatchObject({
    message: `node n2 has not reached this node at 10.0.0.1:7883, its ${settings}`,
  });
});

test('a node that joins and cannot be reached is not ready, and delays no SUBACK of the others', async () => {
  await using cluster = new TestCluster();
  const one = await cluster.add({ leaseMs: 600_000 });
  // Nobody listens there.
  const wrong = cluster.make({ leaseMs: 600_000 }, '127.1.1.1');
  await wrong.cluster.join(wrong.node);
  await until('the other node', () => one.cluster.nodes.length === 2);
  for (const { reports } of [one, wrong]) {
    await until('a report', () => reports.some(({ event }) => event === 'cluster.unreachable'));
  }
  expect(one.cluster.health()).toMatchObject({
    ready: true,
    problems: [expect.stringContaining('node n2 cannot be reached at 127.1.1.1:')],
  });
  expect(wrong.cluster.health()).toEqual({
    ready: false,
    problems: [expect.stringMatching(/^node n1 has not reached this node at 127\.1\.1\.1:/)],
  });
  // It would wait for the lease time, which is longer than this test may take.
  const client = await one.connect();
  await client.subscribe('a/+', 1);
});

test('readiness names the first bucket of routes that is missing', async () => {
  await using cluster = new TestCluster();
  await cluster.add();
  let load = (): void => undefined;
  const loading = new Promise<void>((resolve) => {
    load = resolve;
  });
  const { state } = cluster;
  const loadBucket = state.loadBucket.bind(state);
  state.loadBucket = async (bucket) => {
    if (bucket === 7) await loading;
    return loadBucket(bucket);
  };
  const adding = cluster.add();
  await until('that it is missing', () =>
    cluster.nodes[1]!.cluster.health().problems.includes('routes of bucket 7 are not loaded'),
  );
  expect(cluster.nodes[1]!.cluster.health().ready).toBe(false);
  load();
  const two = await adding;
  expect(two.cluster.health()).toEqual({ ready: true, problems: [] });
});
