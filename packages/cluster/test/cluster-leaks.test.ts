import { expect, test } from '@jest/globals';
import { TestCluster, until } from './cluster-harness.ts';

test('nothing is left when nodes have left, or were killed: no timer, no socket', async () => {
  const before = resources();
  for (let round = 0; round < 2; round++) {
    await using cluster = await TestCluster.start(2);
    const [one, two] = cluster.nodes;
    const subscriber = await one!.connect();
    await subscriber.subscribe('a', 1);
    if (round === 0) await two!.cluster.leave();
  }
  await until('the end of everything', () => resources() === before);

  expect(resources()).toBe(before);
});

/** Handles and timers that keep the process alive, but for the timer of the wait above. */
function resources(): string {
  return process
    .getActiveResourcesInfo()
    .filter((name) => /TCP|Timeout|TLS|Server/.test(name))
    .sort()
    .join(' ');
}
