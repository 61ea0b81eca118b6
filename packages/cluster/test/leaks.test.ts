import { expect, test } from '@jest/globals';
import { FlakyProxy } from '@shoalmq/testkit';
import { TestReceiver, TestSender } from './link-harness.ts';

test('nothing is left when links and servers are closed: no timer, no socket', async () => {
  const before = resources();
  for (let round = 0; round < 3; round++) {
    const bob = await TestReceiver.start();
    const proxy = await FlakyProxy.start(bob.server.port);
    const alice = new TestSender(proxy.address);
    const nobody = new TestSender('127.0.0.1:1');
    const wrong = new TestSender(bob.address, { security: { secret: 'something else' } });
    alice.send('item');
    nobody.send('item');
    await alice.until(() => alice.settled.length === 1);
    await nobody.until(() => nobody.link.state === 'down');
    await wrong.until(() => wrong.refusals.length > 0);
    if (round === 1) proxy.cut();
    alice.send('another');
    for (const sender of [alice, nobody, wrong]) sender.link.close();
    await bob.server.close();
    await proxy.close();
  }
  // What is closed is gone when the event loop comes around, not before.
  while (resources() !== before) await new Promise((resolve) => setTimeout(resolve, 10));

  expect(resources()).toBe(before);
}, 10_000);

/** Handles and timers that keep the process alive, but for the timer of the loop above. */
function resources(): string {
  return process
    .getActiveResourcesInfo()
    .filter((name) => /TCP|Timeout|TLS|Server/.test(name))
    .sort()
    .join(' ');
}
