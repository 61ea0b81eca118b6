import type { SessionRef } from '../ports/state-store.ts';
import type { NodeTarget } from '../route/node-route.ts';
import { ReasonCode } from '../reason-code.ts';

const NONE: readonly never[] = [];

/**
 * The parts of a publish that take their time. When all are settled the publisher is told: acknowledged means
 * kept (P1), so one failed part means no acknowledgement at all.
 */
export class PendingPublish {
  /** Something could not be kept, or it is not known whether it was: nothing may be acknowledged. */
  failed = false;
  /** The reason code for PUBACK or PUBREC. */
  reasonCode: number = ReasonCode.Success;
  /** Sessions whose queues were given the message under its uid; they remember it until the uid is settled. */
  get sessions(): readonly SessionRef[] {
    return this.#sessions ?? NONE;
  }
  /** Nodes whose clean sessions were given the message under its uid; they remember it likewise. */
  get nodes(): readonly NodeTarget[] {
    return this.#nodes ?? NONE;
  }
  /** Clean sessions of this node were, too. */
  given = false;
  /** One more than the parts that are open until `seal`. */
  #open = 1;
  #done: (() => void) | undefined = undefined;
  #sessions: SessionRef[] | undefined = undefined;
  #nodes: NodeTarget[] | undefined = undefined;

  /** Somebody remembers the uid until it is settled. */
  get remembered(): boolean {
    return this.given || this.sessions.length > 0 || this.nodes.length > 0;
  }

  rememberedBy(session: SessionRef): void {
    (this.#sessions ??= []).push(session);
  }

  rememberedAt(node: NodeTarget): void {
    (this.#nodes ??= []).push(node);
  }

  /** One more part. */
  expect(): void {
    this.#open += 1;
  }

  /** One part is done, however it went; `failed`: it is not known whether it was kept. */
  settle(outcome?: string): void {
    if (outcome === 'failed') this.failed = true;
    this.#open -= 1;
    if (this.#open === 0) this.#done?.();
  }

  /** A part was refused for a reason that the publisher should hear. */
  refuse(reasonCode: number): void {
    this.reasonCode = reasonCode;
  }

  fail(): void {
    this.failed = true;
  }

  /** No more parts will come. True when all are settled already. */
  seal(): boolean {
    this.#open -= 1;
    return this.#open === 0;
  }

  /** Calls `done` once all parts are settled; at once when they are. */
  whenDone(done: () => void): void {
    if (this.#open === 0) done();
    else this.#done = done;
  }
}
