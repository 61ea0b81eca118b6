import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Deque } from '../src/delivery/deque.ts';

test('behaves like an array', () => {
  const operation = fc.oneof(
    { weight: 3, arbitrary: fc.constant('push' as const) },
    { weight: 2, arbitrary: fc.constant('shift' as const) },
    { weight: 1, arbitrary: fc.constant('drain' as const) },
    { weight: 1, arbitrary: fc.constant('fill' as const) },
  );
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
      const deque = new Deque<number>();
      const model: number[] = [];
      let next = 0;
      const push = (): void => {
        deque.push(next);
        model.push(next);
        next += 1;
      };
      for (const each of operations) {
        if (each === 'push') push();
        else if (each === 'shift') expect(deque.shift()).toBe(model.shift());
        else if (each === 'fill') for (let i = 0; i < 100; i++) push();
        else while (model.length > 0) expect(deque.shift()).toBe(model.shift());
        expect(deque.length).toBe(model.length);
        expect(deque.peek()).toBe(model[0]);
      }
    }),
  );
});

test('an empty one has nothing', () => {
  const deque = new Deque<string>();
  expect(deque.length).toBe(0);
  expect(deque.peek()).toBeUndefined();
  expect(deque.shift()).toBeUndefined();
  expect(deque.length).toBe(0);
});
