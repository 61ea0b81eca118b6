import { expect, test } from '@jest/globals';
import { FlakyProxy, SeededRandom } from '@shoalmq/testkit';
import { TestReceiver, TestSender } from './link-harness.ts';

test('items arrive in order and are settled in order', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address);
  const items = numbered(1_000);

  for (const item of items) alice.send(item);
  await alice.until(() => alice.settled.length === items.length);

  expect(bob.items).toEqual(items);
  expect(alice.settled).toEqual(items.map((item) => [item, 'acknowledged']));
  expect(alice.states).toEqual(['up']);
  expect(bob.events).toEqual(['up fresh']);
});

test('the items of one turn leave as one frame', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address);
  await alice.until(() => alice.link.state === 'up');

  for (const item of numbered(500)) alice.send(item);
  await alice.until(() => alice.settled.length === 500);

  expect(alice.link.counters).toMatchObject({ framesSent: 1, itemsSent: 500 });
});

test('items of all sizes arrive, those of several frames too', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address);
  const sizes = [
    0, 1, 114_000, 114_635, 114_636, 114_637, 114_688, 5, 1_048_576, 230_000, 0, 3_000_000,
  ];
  const items = sizes.map((size, i) => String(i % 10).repeat(size));

  for (const item of items) alice.send(item);
  await alice.until(() => alice.settled.length === items.length);

  expect(bob.items.map((item) => item.length)).toEqual(sizes);
  expect(bob.items.every((item, i) => item === items[i])).toBe(true);
  expect(alice.link.bufferedBytes).toBe(0);
});

test('an item that is too large is refused, and the next one arrives', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address, { limits: { itemBytesMax: 500_000 } });

  alice.send('before');
  expect(() => alice.send('x'.repeat(500_001))).toThrow(RangeError);
  alice.send('after');
  await alice.until(() => alice.settled.length === 2);

  expect(bob.items).toEqual(['before', 'after']);
});

test.each([1, 2, 3, 4, 5, 6])(
  'each item arrives once and in order through broken connections (seed %i)',
  async (seed) => {
    const random = new SeededRandom(seed);
    await using bob = await TestReceiver.start();
    await using proxy = await FlakyProxy.start(bob.server.port, {
      random,
      bytesMax: 300_000,
      resets: 4,
      pauses: 2,
      mercies: 2,
      pauseMsMax: 5,
    });
    using alice = new TestSender(proxy.address, { limits: { deadlineMs: 60_000 } });
    const items: string[] = [];

    for (let turn = 0; turn < 400; turn++) {
      for (let i = random.integer(20); i >= 0; i--) {
        const bytes = random.integer(200) === 0 ? random.integer(500_000) : random.integer(300);
        items.push(`${items.length} ${'.'.repeat(bytes)}`);
        alice.send(items.at(-1)!);
      }
      await new Promise(setImmediate);
    }
    // A connection that lives for less than a frame brings nothing across: the end must be better than the start.
    await alice.until(() => alice.settled.length >= items.length / 2);
    proxy.behave();
    await alice.until(() => alice.settled.length === items.length);

    expect(proxy.resets).toBeGreaterThan(0);
    expect(bob.items.length).toBe(items.length);
    expect(bob.items.every((item, i) => item === items[i])).toBe(true);
    expect(alice.settled.every(([item], i) => item === items[i])).toBe(true);
    expect(bob.gaps).toEqual([]);
  },
  60_000,
);

test.each([11, 12, 13, 14, 15, 16])(
  'with too little room, every item arrives once or is accounted for (seed %i)',
  async (seed) => {
    const random = new SeededRandom(seed);
    await using bob = await TestReceiver.start();
    await using proxy = await FlakyProxy.start(bob.server.port, {
      random,
      bytesMax: 600_000,
      resets: 2,
      pauses: 3,
      mercies: 2,
      pauseMsMax: 15,
    });
    using alice = new TestSender(proxy.address, {
      limits: { bufferBytesMax: 700_000, congestedBytes: 300_000, deadlineMs: 40, dropAfterMs: 10 },
    });
    bob.onFrame = (source) => {
      if (random.integer(4) > 0) return;
      source.hold();
      setTimeout(() => source.release(), random.integer(5));
    };
    let sent = 0;
    let waiting = 0;

    for (let turn = 0; turn < 400; turn++) {
      for (let i = random.integer(10); i >= 0; i--) {
        const bytes = random.integer(10) === 0 ? random.integer(300_000) : random.integer(3_000);
        const item = `${sent++} ${'.'.repeat(bytes)}`;
        if (random.integer(3) === 0) alice.sendDroppable(item);
        else {
          alice.send(item);
          waiting++;
        }
      }
      await new Promise(setImmediate);
    }
    proxy.behave();
    const told = (of: 'dropped' | 'missed'): number =>
      bob.gaps.reduce((sum, gap) => sum + gap[of], 0);
    await alice.until(() => alice.settled.length === waiting);
    await bob.until(() => bob.items.length + told('dropped') + told('missed') === sent);

    const numbers = bob.items.map((item) => parseInt(item, 10));
    const settled = alice.settled.map(([item]) => parseInt(item, 10));
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    expect(settled).toEqual([...new Set(settled)].sort((a, b) => a - b));
    expect(told('dropped')).toBe(alice.link.counters.itemsDropped);
    // What was given up may have arrived, when its acknowledgement did not.
    expect(told('missed')).toBeLessThanOrEqual(alice.link.counters.itemsMissed);
    const arrived = new Set(numbers);
    for (const [item, outcome] of alice.settled) {
      if (outcome === 'acknowledged') expect(arrived).toContain(parseInt(item, 10));
    }
  },
  60_000,
);

test('a frame whose acknowledgement was lost is not delivered again', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address);
  await alice.until(() => alice.link.state === 'up');

  bob.onFrame = () => proxy.reset(); // before the acknowledgement can be sent
  alice.send('once');
  await alice.until(() => alice.settled.length === 1);

  expect(bob.items).toEqual(['once']);
  expect(alice.settled).toEqual([['once', 'acknowledged']]);
  expect(alice.link.counters.resets).toBe(1);
  expect(bob.events).toEqual(['up fresh', 'down', 'up']);
});

test('a new link of the same life starts anew, and the peer sees that it is fresh', async () => {
  await using bob = await TestReceiver.start();
  {
    using first = new TestSender(bob.address);
    first.send('one');
    await first.until(() => first.settled.length === 1);
  }
  using second = new TestSender(bob.address);
  second.send('two');
  await second.until(() => second.settled.length === 1);

  expect(bob.items).toEqual(['one', 'two']);
  expect(bob.events).toEqual(['up fresh', 'down', 'up fresh']);
});

test('a later stream replaces an earlier one whose connection hangs', async () => {
  await using bob = await TestReceiver.start({ limits: { keepAliveMs: 60_000 } });
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address, { limits: { keepAliveMs: 100 } });
  alice.send('one');
  await alice.until(() => alice.settled.length === 1);

  proxy.pause();
  await alice.until(() => alice.link.state === 'down');
  expect(bob.events).toEqual(['up fresh']); // bob does not know yet
  proxy.resume();
  alice.send('two');
  await alice.until(() => alice.settled.length === 2);

  expect(bob.items).toEqual(['one', 'two']);
  expect(bob.events.slice(0, 3)).toEqual(['up fresh', 'down', 'up']);
});

test('after the deadline nobody waits, and the items still arrive when the link is back', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address, { limits: { deadlineMs: 60 } });
  alice.send('before');
  await alice.until(() => alice.settled.length === 1);

  proxy.cut();
  alice.send('one');
  alice.send('two');
  // `before` may have been late as well, on a machine that is busy.
  await alice.until(() => alice.settled.length === 3);
  proxy.mend();
  await bob.until(() => bob.items.length === 3);

  expect(alice.settled.slice(1)).toEqual([
    ['one', 'late'],
    ['two', 'late'],
  ]);
  expect(bob.items).toEqual(['before', 'one', 'two']);
  expect(bob.gaps).toEqual([]);
});

test('droppable items are dropped while the link is down, and the peer learns of the gap', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address, { limits: { dropAfterMs: 20 } });
  await alice.until(() => alice.link.state === 'up');
  alice.sendDroppable('early');
  await bob.until(() => bob.items.length === 1);

  proxy.cut();
  await alice.until(() => alice.link.state === 'down');
  alice.sendDroppable('kept'); // it has not been down for long
  while (!alice.link.dropping) await new Promise(setImmediate);
  alice.sendDroppable('dropped');
  alice.send('owed');
  alice.sendDroppable('dropped too');
  proxy.mend();
  await alice.until(() => alice.settled.length === 1);
  await bob.until(() => bob.gaps.length > 0);

  expect(bob.items).toEqual(['early', 'kept', 'owed']);
  expect(bob.gaps).toEqual([{ dropped: 2, missed: 0 }]);
  expect(alice.link.counters.itemsDropped).toBe(2);
});

test('a gap is told also when no item follows it', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address, { limits: { dropAfterMs: 20 } });
  proxy.cut();
  while (!alice.link.dropping) await new Promise(setImmediate);
  alice.sendDroppable('dropped');
  proxy.mend();
  await bob.until(() => bob.gaps.length > 0);

  expect(bob.gaps).toEqual([{ dropped: 1, missed: 0 }]);
});

test('beyond the bound of the buffer the oldest items are given up, and the peer learns that it missed them', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address, { limits: { bufferBytesMax: 2_000_000 } });
  alice.send('before');
  await alice.until(() => alice.settled.length === 1);

  proxy.cut();
  await alice.until(() => alice.link.state === 'down');
  const items = Array.from({ length: 100 }, (_, i) => `${i} ${'.'.repeat(100_000)}`);
  for (const item of items) {
    alice.send(item);
    await new Promise(setImmediate);
    expect(alice.link.bufferedBytes).toBeLessThan(2_100_000);
  }
  proxy.mend();
  await alice.until(() => alice.settled.length === items.length + 1);

  const missed = bob.gaps.reduce((sum, gap) => sum + gap.missed, 0);
  expect(missed).toBeGreaterThan(75);
  expect(missed).toBe(alice.link.counters.itemsMissed);
  expect(bob.items).toEqual(['before', ...items.slice(missed)]);
  expect(alice.settled.map(([item]) => item)).toEqual(['before', ...items]);
  expect(alice.settled.filter(([, outcome]) => outcome === 'missed').length).toBe(missed);
});

test('a large item is given up as a whole', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address, { limits: { bufferBytesMax: 900_000 } });
  proxy.cut();
  alice.send('a'.repeat(600_000));
  await new Promise(setImmediate);
  alice.send('b'.repeat(600_000));
  await new Promise(setImmediate);
  alice.send('c');
  proxy.mend();
  await alice.until(() => alice.settled.length === 3);

  expect(bob.items.map((item) => item.length)).toEqual([600_000, 1]);
  expect(alice.settled.map(([, outcome]) => outcome)).toEqual([
    'missed',
    'acknowledged',
    'acknowledged',
  ]);
  expect(bob.gaps.length).toBeGreaterThan(0);
});

test('a peer that holds makes the link congested, and droppable items dropped; release relieves it', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address, {
    limits: { congestedBytes: 8_000_000, bufferBytesMax: 60_000_000 },
  });
  bob.countOnly = true;
  bob.onFrame = (source) => source.hold();
  const item = 'x'.repeat(100_000);
  let sent = 0;
  while (!alice.link.dropping) {
    alice.send(item);
    sent++;
    await new Promise(setImmediate);
  }
  expect(alice.congestion).toEqual([true]);
  const taken = bob.itemBytes;
  expect(taken).toBeLessThan(2_000_000);
  alice.sendDroppable('dropped');

  bob.onFrame = () => {};
  bob.source!.release();
  await alice.until(() => alice.settled.length === sent && alice.congestion.length === 2);

  expect(alice.congestion).toEqual([true, false]);
  expect(alice.link.dropping).toBe(false);
  expect(bob.itemBytes).toBe(sent * item.length);
  await bob.until(() => bob.gaps.length === 1);
  expect(bob.gaps).toEqual([{ dropped: 1, missed: 0 }]);
}, 30_000);

test('a hold outlives the stream', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address);
  bob.onFrame = (source) => source.hold();
  alice.send('one');
  await alice.until(() => alice.settled.length === 1);
  const held = bob.source!;
  proxy.reset();
  await bob.until(() => bob.events.length === 3);
  alice.send('two');
  // What bob would read from alice meanwhile, he reads before he answers somebody who comes only now.
  using carol = new TestSender(bob.address, { self: { id: 'carol', incarnation: 'c1' } });
  carol.send('three');
  await carol.until(() => carol.settled.length === 1);
  expect(bob.items).toEqual(['one', 'three']);

  held.release();
  await alice.until(() => alice.settled.length === 2);
  expect(bob.items).toEqual(['one', 'three', 'two']);
});

test('a receiver notices that a connection is dead', async () => {
  await using bob = await TestReceiver.start({ limits: { keepAliveMs: 50 } });
  await using proxy = await FlakyProxy.start(bob.server.port);
  using alice = new TestSender(proxy.address, { limits: { keepAliveMs: 60_000 } });
  await alice.until(() => alice.link.state === 'up');
  proxy.pause();
  await bob.until(() => bob.events.length === 2);

  expect(bob.events).toEqual(['up fresh', 'down']);
});

test('after a stall of the process, acknowledgements are read before anybody is late', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address, { limits: { deadlineMs: 100 } });
  await alice.until(() => alice.link.state === 'up');

  alice.send('item');
  const until = performance.now() + 1_300;
  while (performance.now() < until);
  await alice.until(() => alice.settled.length === 1);

  expect(alice.settled).toEqual([['item', 'acknowledged']]);
});

test('close settles everything, once and in order, and the link stays quiet', async () => {
  await using bob = await TestReceiver.start();
  await using proxy = await FlakyProxy.start(bob.server.port);
  proxy.cut();
  const alice = new TestSender(proxy.address);
  for (const item of numbered(300)) alice.send(item);
  await new Promise(setImmediate);
  alice.send('x'.repeat(600_000));
  alice.send('last');

  alice.link.close();
  alice.link.close();
  alice.send('after');
  alice.sendDroppable('after');

  expect(alice.settled.length).toBe(303);
  expect(alice.settled.map(([item]) => item).slice(0, 300)).toEqual(numbered(300));
  expect(alice.settled.every(([, outcome]) => outcome === 'closed')).toBe(true);
  expect(alice.states.at(-1)).toBe('closed');
  expect(alice.link.bufferedBytes).toBe(0);
});

test('whoever is settled may send and close', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address);
  const outcomes: string[] = [];
  alice.write('one');
  alice.link.commit({
    settle: (outcome) => {
      outcomes.push(`one ${outcome}`);
      alice.send('three');
      alice.link.close();
    },
  });
  alice.write('two');
  alice.link.commit({ settle: (outcome) => outcomes.push(`two ${outcome}`) });
  await alice.until(() => alice.link.state === 'closed');

  expect(outcomes).toEqual(['one acknowledged', 'two closed']);
  expect(alice.settled).toEqual([['three', 'closed']]);
});

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `item ${i}`);
}
