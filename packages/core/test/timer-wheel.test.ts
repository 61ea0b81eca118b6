import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Timer, TimerWheel } from '../src/timer-wheel.ts';

const GRANULARITY_MS = 250;
/** One turn of the ring. */
const TURN_MS = 1_024 * GRANULARITY_MS;

/** A timer that notes when it fired. */
function noting(fired: number[], then?: (timer: Timer, nowMs: number) => void): Timer {
  const timer: Timer = new Timer({
    onTimer: (nowMs) => {
      fired.push(nowMs);
      then?.(timer, nowMs);
    },
  });
  return timer;
}

test('a timer fires once, not early, and at most the granularity late', () => {
  for (const delayMs of [0, 1, 249, 250, 251, 1_000, 1_001, 60_000, TURN_MS - 1, TURN_MS]) {
    const startMs = 123_456;
    const wheel = new TimerWheel(startMs);
    const fired: number[] = [];
    const timer = noting(fired);
    wheel.arm(timer, startMs + delayMs);
    expect(timer.armed).toBe(true);
    for (let nowMs = startMs; fired.length === 0; nowMs += 10) {
      expect(nowMs).toBeLessThan(startMs + delayMs + GRANULARITY_MS + 20);
      wheel.advance(nowMs);
    }
    expect(fired[0]).toBeGreaterThanOrEqual(startMs + delayMs);
    expect(timer.armed).toBe(false);
    wheel.advance(startMs + 3 * TURN_MS);
    expect(fired).toHaveLength(1);
  }
});

test('timers further away than a turn of the ring wait for theirs', () => {
  const wheel = new TimerWheel(0);
  const near: number[] = [];
  const far: number[] = [];
  wheel.arm(noting(far), 2 * TURN_MS + 1_000);
  wheel.arm(noting(near), 1_000);
  wheel.advance(1_000);
  expect([near, far]).toEqual([[1_000], []]);
  wheel.advance(TURN_MS + 1_000);
  wheel.advance(2 * TURN_MS + 999);
  expect(far).toEqual([]);
  wheel.advance(2 * TURN_MS + 1_000);
  expect(far).toEqual([2 * TURN_MS + 1_000]);
});

test('after a long stop everything that is due fires, and nothing else', () => {
  const wheel = new TimerWheel(0);
  const due: number[] = [];
  const later: number[] = [];
  for (let i = 1; i <= 50; i++) wheel.arm(noting(due), i * 20_000);
  wheel.arm(noting(later), 5 * TURN_MS);
  wheel.advance(4 * TURN_MS);
  expect(due).toHaveLength(50);
  expect(later).toEqual([]);
});

test('a timer may be moved, disarmed and armed again, in calls of timers too', () => {
  const wheel = new TimerWheel(0);
  const moved: number[] = [];
  const timer = noting(moved);
  wheel.arm(timer, 1_000);
  wheel.arm(timer, 5_000);
  wheel.advance(1_000);
  expect(moved).toEqual([]);
  wheel.disarm(timer);
  wheel.disarm(timer);
  wheel.advance(10_000);
  expect(moved).toEqual([]);

  // Of two that are due together, the one that fires first disarms the other.
  const fired: string[] = [];
  const pair: Timer[] = ['a', 'b'].map(
    (name): Timer =>
      new Timer({
        onTimer: () => {
          fired.push(name);
          for (const other of pair) wheel.disarm(other);
        },
      }),
  );
  for (const each of pair) wheel.arm(each, 11_000);
  wheel.advance(11_000);
  expect(fired).toHaveLength(1);
  wheel.advance(20_000);
  expect(fired).toHaveLength(1);

  const repeated: number[] = [];
  const ticking = noting(repeated, (again, nowMs) => {
    wheel.arm(again, nowMs + 1_000);
  });
  wheel.arm(ticking, 21_000);
  for (let nowMs = 20_000; nowMs <= 25_000; nowMs += 250) wheel.advance(nowMs);
  expect(repeated).toEqual([21_000, 22_000, 23_000, 24_000, 25_000]);
});

test('time that stands still or goes back fires nothing', () => {
  const wheel = new TimerWheel(10_000);
  const fired: number[] = [];
  wheel.arm(noting(fired), 12_000);
  wheel.advance(10_000);
  wheel.advance(9_000);
  wheel.advance(0);
  expect(fired).toEqual([]);
  wheel.advance(12_000);
  expect(fired).toEqual([12_000]);
});

test('whatever is armed, moved and disarmed, the timers behave like a list that is looked through', () => {
  const delay = fc.oneof(
    fc.integer({ min: -1_000, max: 5_000 }),
    fc.integer({ min: 0, max: 3 * TURN_MS }),
  );
  const operation = fc.oneof(
    fc.record({ kind: fc.constant('arm' as const), timer: fc.nat(7), delay }),
    fc.record({ kind: fc.constant('disarm' as const), timer: fc.nat(7) }),
    fc.record({
      kind: fc.constant('advance' as const),
      by: fc.oneof(fc.integer({ min: 0, max: 2_000 }), fc.integer({ min: 0, max: 2 * TURN_MS })),
    }),
  );
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 80 }),
      fc.nat(1_000_000),
      (operations, startMs) => {
        let nowMs = startMs;
        const wheel = new TimerWheel(nowMs);
        const fired = new Set<number>();
        const timers = Array.from(
          { length: 8 },
          (_, index) => new Timer({ onTimer: () => fired.add(index) }),
        );
        /** What is armed: when it is due, and from which multiple of the granularity on it is late. */
        const model = new Map<number, { readonly atMs: number; readonly lateFrom: number }>();
        for (const each of operations) {
          if (each.kind === 'arm') {
            const atMs = nowMs + each.delay;
            wheel.arm(timers[each.timer]!, atMs);
            // What is due when it is armed fires when the next granule begins.
            const next = Math.floor(nowMs / GRANULARITY_MS) + 1;
            const lateFrom = Math.max(Math.ceil(atMs / GRANULARITY_MS), next);
            model.set(each.timer, { atMs, lateFrom });
          } else if (each.kind === 'disarm') {
            wheel.disarm(timers[each.timer]!);
            model.delete(each.timer);
          } else {
            nowMs += each.by;
            fired.clear();
            wheel.advance(nowMs);
            for (const index of fired) {
              expect(model.get(index)?.atMs).toBeLessThanOrEqual(nowMs);
              model.delete(index);
            }
            for (const { lateFrom } of model.values()) {
              expect(Math.floor(nowMs / GRANULARITY_MS)).toBeLessThan(lateFrom);
            }
          }
          for (const [index, timer] of timers.entries()) {
            expect(timer.armed).toBe(model.has(index));
          }
        }
        // In the end everything fires.
        fired.clear();
        nowMs += 4 * TURN_MS;
        wheel.advance(nowMs);
        expect([...fired].sort()).toEqual([...model.keys()].sort());
      },
    ),
  );
});
