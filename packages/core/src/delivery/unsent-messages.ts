import type { Message } from '../message.ts';
import { NOBODY } from '../ports/state-store.ts';
import type { QueueEntry, StateStore } from '../ports/state-store.ts';
import type { SessionTarget } from '../route/subscription.ts';

/** Read, and given to others, in one piece: what is under way when the client comes back may come twice. */
const PAGE_MESSAGES = 64;
const PAGE_BYTES = 262_144;
/** Milliseconds that a client has to come back: then what waits for it is its own. */
const GRACE_MS = 3_000;
/** Sessions that are looked after at the same time; the others wait. */
const SESSIONS_MAX = 8;

/**
 * Gives `message` to a member of the shared group (full filter) that is connected. `done` is called with whether it was
 * kept; `false` is returned when there is no such member.
 */
export type PassOn = (message: Message, group: string, done: (kept: boolean) => void) => boolean;

/**
 * Takes what waits in the queue of a persistent session for a shared subscription, when its client is away and has never
 * been sent it, to members of the group that are connected (MQTT 5.0 §4.8.2). At QoS 1: at QoS 2 the queue remembers the
 * uid for its publisher.
 *
 * Nobody owns the session, so the store lets nobody take more than that out of its queue, and nothing once the client is
 * back. First the other member has it, then it is removed: who is in between gets it twice, and never not at all.
 */
export class UnsentMessages {
  readonly #store: Pick<StateStore, 'read' | 'remove'>;
  readonly #passOn: PassOn;
  /** With the time from which on others get what they have. */
  readonly #graced = new Map<SessionTarget, number>();
  readonly #waiting = new Set<SessionTarget>();
  #running = 0;

  constructor(store: Pick<StateStore, 'read' | 'remove'>, passOn: PassOn) {
    this.#store = store;
    this.#passOn = passOn;
  }

  /** The session may have such messages. */
  add(target: SessionTarget, nowMs: number): void {
    if (!this.#graced.has(target)) this.#graced.set(target, nowMs + GRACE_MS);
  }

  /** Time has passed. */
  tick(nowMs: number): void {
    for (const [target, dueMs] of this.#graced) {
      // In the order in which they came.
      if (dueMs > nowMs) return;
      this.#graced.delete(target);
      if (target.outbox !== undefined || target.ended) continue;
      this.#waiting.add(target);
      this.#lookAtNext();
    }
  }

  #lookAtNext(): void {
    if (this.#running >= SESSIONS_MAX) return;
    for (const target of this.#waiting) {
      this.#waiting.delete(target);
      this.#running += 1;
      const done = () => {
        this.#running -= 1;
        this.#lookAtNext();
      };
      // A store that fails leaves them where they are: they wait for their client.
      this.#empty(target).then(done, done);
      return;
    }
  }

  async #empty(target: SessionTarget): Promise<void> {
    let from = 1;
    for (;;) {
      const page = await this.#store.read(target, NOBODY, from, PAGE_MESSAGES, PAGE_BYTES);
      if (page.outcome === 'fenced') return;
      const last = page.entries.at(-1);
      if (last === undefined) return;
      from = last.sequence + 1;
      const passed: Promise<number | undefined>[] = [];
      let somebody = true;
      for (const entry of page.entries) {
        if (entry.group === undefined || entry.qos !== 1) continue;
        const given = this.#give(entry, entry.group);
        somebody = given !== undefined;
        if (given === undefined) break;
        passed.push(given);
      }
      const kept = (await Promise.all(passed)).filter((sequence) => sequence !== undefined);
      if (kept.length > 0 && (await this.#store.remove(target, NOBODY, kept)) === 'fenced') return;
      if (!somebody) return;
    }
  }

  #give({ sequence, message }: QueueEntry, group: string): Promise<number | undefined> | undefined {
    let settle: (sequence: number | undefined) => void = () => undefined;
    const given = new Promise<number | undefined>((resolve) => {
      settle = resolve;
    });
    const found = this.#passOn(message, group, (kept) => {
      settle(kept ? sequence : undefined);
    });
    return found ? given : undefined;
  }
}
