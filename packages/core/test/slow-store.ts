import type { StateStore } from '@shoalmq/core';

/** Calls that connections make while messages flow. All others wait for the effects of these, and are not slow. */
const SLOW: ReadonlySet<string | symbol> = new Set<keyof StateStore>([
  'append',
  'read',
  'remove',
  'markReleased',
  'beginIncoming',
  'finishIncoming',
  'endIncoming',
]);

/**
 * Puts time between a call to a store, its effect and its answer, as a network does. Effects come in the order of
 * the calls, answers in the order of the effects; the test says when.
 */
export class SlowStore {
  readonly #effects: (() => void)[] = [];
  readonly #answers: (() => void)[] = [];

  /** Something is under way. */
  get busy(): boolean {
    return this.#effects.length + this.#answers.length > 0;
  }

  /** Calls take effect, up to `effects` of them, then answers arrive, up to `answers` of them. */
  run(effects = Infinity, answers = Infinity): void {
    for (let i = 0; i < effects && this.#effects.length > 0; i++) this.#effects.shift()!();
    for (let i = 0; i < answers && this.#answers.length > 0; i++) this.#answers.shift()!();
  }

  readonly wrap = (store: StateStore): StateStore =>
    new Proxy(store, {
      get: (target, name) => {
        if (name === 'append') return this.#append(target);
        const method: unknown = Reflect.get(target, name);
        if (typeof method !== 'function') return method;
        return (...args: unknown[]): unknown => {
          if (SLOW.has(name)) {
            return new Promise((resolve) => {
              this.#effects.push(() => {
                const answer: unknown = Reflect.apply(method, target, args);
                this.#answers.push(() => {
                  resolve(answer);
                });
              });
            });
          }
          this.run(Infinity, 0);
          return Reflect.apply(method, target, args) as unknown;
        };
      },
    });

  #append(target: StateStore): StateStore['append'] {
    return (session, queued, uid, done) => {
      const kept = { ...queued, message: queued.message.owned() };
      this.#effects.push(() => {
        target.append(session, kept, uid, (result) => {
          this.#answers.push(() => {
            done(result);
          });
        });
      });
    };
  }
}
