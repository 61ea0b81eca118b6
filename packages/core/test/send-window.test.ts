import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Awaiting, SendWindow } from '../src/session/send-window.ts';

test('[MQTT-2.2.1-4][MQTT3-2.3.1-4] a full window of 65,535 has every packet id once, and none is 0', () => {
  const window = new SendWindow(65_535, { inflightMessages: 0 });
  const ids = new Set<number>();
  for (let i = 0; i < 65_535; i++) ids.add(window.acquire(Awaiting.Puback));
  expect(ids.size).toBe(65_535);
  expect(ids.has(0)).toBe(false);
  expect(window.room).toBe(0);
  for (const id of ids) expect(window.awaiting(id)).toBe(Awaiting.Puback);
});

test('[MQTT-4.3.2-1][MQTT-4.3.3-1] after 65,535 the ids begin again at 1 and pass over those in use', () => {
  const window = new SendWindow(65_535, { inflightMessages: 0 });
  for (let i = 0; i < 65_535; i++) window.acquire(Awaiting.Pubrec);
  for (const id of [7, 65_535, 1]) window.free(id);
  expect([1, 2, 3].map(() => window.acquire(Awaiting.Puback))).toEqual([1, 7, 65_535]);
});

test('an id that was freed is not taken again at once', () => {
  const window = new SendWindow(1, { inflightMessages: 0 });
  const ids = [1, 2, 3, 4].map(() => {
    const id = window.acquire(Awaiting.Puback);
    window.free(id);
    return id;
  });
  expect(ids).toEqual([1, 2, 3, 4]);
});

test('an empty window knows no id, and clearing forgets all of them', () => {
  const level = { inflightMessages: 5 };
  const window = new SendWindow(10, level);
  expect(window.awaiting(1)).toBe(Awaiting.Nothing);
  const id = window.acquire(Awaiting.Pubrec);
  expect(level.inflightMessages).toBe(6);
  window.clear();
  expect(window.awaiting(id)).toBe(Awaiting.Nothing);
  expect(window.room).toBe(10);
  expect(level.inflightMessages).toBe(5);
});

test('any sequence of takes, steps and frees agrees with a map', () => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('take'), qos: fc.constantFrom(1, 2) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('free'), pick: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('pubrec'), pick: fc.nat() }) },
    // Ids that are far apart but fall into the same slot.
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('skip'), count: fc.nat(40_000) }) },
  );
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 70 }),
      fc.array(step, { maxLength: 200 }),
      (limit, steps) => {
        const level = { inflightMessages: 0 };
        const window = new SendWindow(limit, level);
        const model = new Map<number, number>();
        for (const step of steps) {
          if ('qos' in step) {
            if (window.room === 0) continue;
            const awaiting = step.qos === 1 ? Awaiting.Puback : Awaiting.Pubrec;
            const id = window.acquire(awaiting);
            expect(id).toBeGreaterThan(0);
            expect(id).toBeLessThanOrEqual(65_535);
            expect(model.has(id)).toBe(false);
            model.set(id, awaiting);
          } else if ('count' in step) {
            if (window.room === 0) continue;
            for (let i = 0; i < step.count; i++) window.free(window.acquire(Awaiting.Puback));
          } else {
            const ids = [...model.keys()];
            const id = ids[step.pick % Math.max(ids.length, 1)];
            if (id === undefined) continue;
            if (step.kind === 'free') {
              window.free(id);
              model.delete(id);
            } else if (model.get(id) === Awaiting.Pubrec) {
              window.advanceToPubcomp(id);
              model.set(id, Awaiting.Pubcomp);
            }
          }
          expect(window.inflight).toBe(model.size);
          expect(window.room).toBe(limit - model.size);
          expect(level.inflightMessages).toBe(model.size);
          for (const [id, awaiting] of model) expect(window.awaiting(id)).toBe(awaiting);
        }
      },
    ),
    { numRuns: 100 },
  );
});
