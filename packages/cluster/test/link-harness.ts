import type { NodeIdentity } from '@shoalmq/core';
import { PeerLink, PeerServer } from '@shoalmq/cluster';
import type {
  Gap,
  LinkLimits,
  LinkSecurity,
  LinkState,
  Outcome,
  PeerServerLimits,
  PeerSource,
  Refusal,
  ServerRefusal,
} from '@shoalmq/cluster';

export const ALICE: NodeIdentity = { id: 'alice', incarnation: 'a1' };
export const BOB: NodeIdentity = { id: 'bob', incarnation: 'b1' };
export const SECRET = { secret: 'between the nodes' };

/** Limits that make a test quick. */
export const QUICK: Partial<LinkLimits> = { reconnectMinMs: 5, reconnectMaxMs: 20 };

/** A server, and what it received. An item of these tests is its length in four bytes, then its bytes. */
export class TestReceiver {
  readonly items: string[] = [];
  /** What happened besides items, in order. */
  readonly events: string[] = [];
  readonly gaps: Gap[] = [];
  readonly refusals: ServerRefusal[] = [];
  /** The last source that was up. */
  source: PeerSource | undefined;
  admits = true;
  /** Called after the items of a frame were taken down. */
  onFrame: (source: PeerSource) => void = () => {};
  /** Bytes of items are counted, and not kept. */
  countOnly = false;
  itemBytes = 0;
  server!: PeerServer;
  readonly #changed = new Changed();

  static async start(
    options: {
      self?: NodeIdentity;
      version?: string;
      security?: LinkSecurity;
      limits?: Partial<PeerServerLimits>;
      port?: number;
    } = {},
  ): Promise<TestReceiver> {
    const receiver = new TestReceiver();
    receiver.server = await PeerServer.listen({
      self: options.self ?? BOB,
      host: '127.0.0.1',
      port: options.port ?? 0,
      version: options.version ?? '1.4.2',
      security: options.security ?? SECRET,
      limits: options.limits ?? {},
      events: {
        admit: () => receiver.admits,
        onUp: (source, fresh) => {
          receiver.source = source;
          receiver.note(fresh ? 'up fresh' : 'up');
        },
        onDown: () => receiver.note('down'),
        onItems: (source, bytes, start, end, count) => {
          receiver.take(bytes, start, end, count);
          receiver.onFrame(source);
        },
        onGap: (_source, gap) => {
          receiver.gaps.push(gap);
          receiver.#changed.tell();
        },
        onRefused: (reason) => {
          receiver.refusals.push(reason);
          receiver.#changed.tell();
        },
      },
    });
    return receiver;
  }

  get address(): string {
    return `127.0.0.1:${this.server.port}`;
  }

  /** Resolves when the condition holds; it is tried whenever something arrived. */
  until(condition: () => boolean): Promise<void> {
    return this.#changed.until(condition);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
  }

  private take(bytes: Uint8Array, start: number, end: number, count: number): void {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    let offset = start;
    for (let i = 0; i < count; i++) {
      const length = view.readUInt32BE(offset);
      offset += 4 + length;
      this.itemBytes += length;
      if (!this.countOnly) this.items.push(view.toString('latin1', offset - length, offset));
    }
    if (offset !== end) throw new Error(`items end at ${offset}, not at ${end}`);
    this.#changed.tell();
  }

  private note(event: string): void {
    this.events.push(event);
    this.#changed.tell();
  }
}

/** A link, and what it told. */
export class TestSender {
  readonly link: PeerLink;
  readonly states: LinkState[] = [];
  readonly refusals: Refusal[] = [];
  readonly congestion: boolean[] = [];
  /** Items and how they were settled, in order. */
  readonly settled: [item: string, outcome: Outcome][] = [];
  late = 0;
  readonly #changed = new Changed();

  constructor(
    address: string,
    options: {
      self?: NodeIdentity;
      peer?: NodeIdentity;
      version?: string;
      security?: LinkSecurity;
      limits?: Partial<LinkLimits>;
    } = {},
  ) {
    this.link = new PeerLink({
      self: options.self ?? ALICE,
      peer: options.peer ?? BOB,
      address,
      version: options.version ?? '1.4.0',
      security: options.security ?? SECRET,
      limits: { ...QUICK, ...options.limits },
      events: {
        onState: (state, refusal) => {
          this.states.push(state);
          if (refusal !== undefined) this.refusals.push(refusal);
          this.#changed.tell();
        },
        onCongestion: (congested) => {
          this.congestion.push(congested);
          this.#changed.tell();
        },
        onLate: (items) => {
          this.late += items;
          this.#changed.tell();
        },
      },
    });
  }

  /** Sends an item that somebody waits for. */
  send(item: string): void {
    this.write(item);
    this.link.commit({
      settle: (outcome) => {
        this.settled.push([item, outcome]);
        this.#changed.tell();
      },
    });
  }

  sendDroppable(item: string): void {
    this.write(item);
    this.link.commitDroppable();
  }

  write(item: string): void {
    const { link } = this;
    link.reserve(4);
    new DataView(link.bytes.buffer, link.bytes.byteOffset).setUint32(link.length, item.length);
    link.length += 4;
    // In pieces: an item may move to another chunk while it is written.
    for (let start = 0; start < item.length; start += 10_000) {
      const piece = item.slice(start, start + 10_000);
      link.reserve(piece.length);
      for (let i = 0; i < piece.length; i++) link.bytes[link.length++] = piece.charCodeAt(i);
    }
  }

  /** Resolves when the condition holds; it is tried whenever the link told something. */
  until(condition: () => boolean): Promise<void> {
    return this.#changed.until(condition);
  }

  [Symbol.dispose](): void {
    this.link.close();
  }
}

class Changed {
  #waiting: { condition: () => boolean; resolve: () => void }[] = [];

  tell(): void {
    if (this.#waiting.length === 0) return;
    this.#waiting = this.#waiting.filter(({ condition, resolve }) => {
      if (!condition()) return true;
      resolve();
      return false;
    });
  }

  async until(condition: () => boolean): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve) => this.#waiting.push({ condition, resolve }));
  }
}
