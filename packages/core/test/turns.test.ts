import { expect, test } from '@jest/globals';
import { Turns } from '../src/turns.ts';

/** An event loop whose turns are the test's. */
class Loop {
  #deferred: (() => void)[] = [];

  defer(callback: () => void): void {
    this.#deferred.push(callback);
  }

  turn(): void {
    const deferred = this.#deferred;
    this.#deferred = [];
    for (const callback of deferred) callback();
  }

  get idle(): boolean {
    return this.#deferred.length === 0;
  }
}

test('a turn runs a few slices at once, and the others in later turns, in order', () => {
  const loop = new Loop();
  const turns = new Turns(loop);
  const ran: number[] = [];
  for (let i = 0; i < 20; i++) turns.take(() => ran.push(i));
  const perTurn = ran.length;
  expect(perTurn).toBeGreaterThan(0);
  expect(perTurn).toBeLessThan(20);
  loop.turn();
  expect(ran).toHaveLength(Math.min(2 * perTurn, 20));
  while (!loop.idle) loop.turn();
  expect(ran).toEqual(Array.from({ length: 20 }, (_, i) => i));
});

test('slices that ask for the next turn do not keep those that wait from theirs', async () => {
  const loop = new Loop();
  const turns = new Turns(loop);
  const ran: string[] = [];
  for (let i = 0; i < 20; i++) void turns.next().then(() => ran.push('late'));
  for (let i = 0; i < 20; i++) turns.take(() => ran.push('early'));
  for (let i = 0; i < 8 && !loop.idle; i++) {
    loop.turn();
    await Promise.resolve();
  }
  expect(loop.idle).toBe(true);
  expect(ran).toHaveLength(40);
  expect(ran.lastIndexOf('early')).toBeLessThan(ran.length - 1);
});

test('nothing is deferred while there is nothing to do', () => {
  const loop = new Loop();
  const turns = new Turns(loop);
  turns.take(() => undefined);
  loop.turn();
  loop.turn();
  expect(loop.idle).toBe(true);
});
