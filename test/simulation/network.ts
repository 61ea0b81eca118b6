import type { Decoder } from '@shoalmq/codec';
import { decodeReply, decodeRequest } from '@shoalmq/cluster';
import type { IncomingCall, LinkTransport, OutgoingCall } from '@shoalmq/cluster';
import type { Connection } from '@shoalmq/core';
import { MemoryChannel } from '@shoalmq/testkit';
import type { SeededRandom } from '@shoalmq/testkit';
import { Zone } from './virtual-time.ts';
import type { VirtualTime } from './virtual-time.ts';

/** Milliseconds of silence after which a connection is given up: both sides ask for signs of life. */
const DEAD_AFTER_MS = 4_000;

/** One machine on the network, and what listens there. */
export interface Host {
  readonly name: string;
  readonly zone: Zone;
}

/** The network between nodes: slow, cut in places, and it loses connections. What arrives is in order. */
export class Network {
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #listeners = new Map<string, { host: Host; onCall: (call: IncomingCall) => void }>();
  readonly #calls = new Set<LinkCall>();
  /** Pairs that do not reach each other. */
  readonly #cuts = new Set<string>();
  delayMaxMs = 3;
  #port = 0;

  constructor(time: VirtualTime, random: SeededRandom) {
    this.#time = time;
    this.#random = random;
  }

  delay(): number {
    const { delayMaxMs } = this;
    // Most is quick, some is late.
    const late = this.#random.integer(20) === 0 ? 10 : 1;
    return 0.1 + (this.#random.integer(1_000) / 1_000) * delayMaxMs * late;
  }

  isCut(one: string, other: string): boolean {
    return this.#cuts.has(pair(one, other));
  }

  /** Nothing passes between the two, and nobody is told. */
  cut(one: string, other: string): void {
    this.#cuts.add(pair(one, other));
    for (const call of [...this.#calls]) call.reconsider();
  }

  heal(one: string, other: string): void {
    this.#cuts.delete(pair(one, other));
    for (const call of [...this.#calls]) call.reconsider();
  }

  /** The connections between the two break, and what was on its way is lost. */
  reset(one: string, other: string): void {
    for (const call of [...this.#calls]) {
      if (pair(call.from.name, call.to.name) === pair(one, other)) call.break();
    }
  }

  /** The host has stopped running, for a while or for ever. */
  changed(host: Host): void {
    for (const call of [...this.#calls]) {
      if (call.from !== host && call.to !== host) continue;
      if (host.zone.dead) call.break();
      else call.reconsider();
    }
    if (!host.zone.dead) return;
    for (const [address, listener] of this.#listeners) {
      if (listener.host === host) this.#listeners.delete(address);
    }
  }

  transportOf(from: Host): LinkTransport {
    return {
      connect: ({ address }) => this.#connect(from, address),
      listen: (options) => {
        const port = ++this.#port;
        const address = `${options.host}:${String(port)}`;
        this.#listeners.set(address, {
          host: from,
          onCall: (call) => {
            options.onCall(call);
          },
        });
        return Promise.resolve({
          port,
          trust: () => undefined,
          ended: () => undefined,
          close: () => {
            this.#listeners.delete(address);
            return Promise.resolve();
          },
        });
      },
    };
  }

  #connect(from: Host, address: string): OutgoingCall {
    const listener = this.#listeners.get(address);
    const to = listener?.host ?? { name: address, zone: new Zone(address) };
    const call = new LinkCall(this.#time, this, from, to);
    this.#calls.add(call);
    call.onOver = () => this.#calls.delete(call);
    if (listener === undefined) call.refuse();
    else call.open(listener.onCall);
    return call.outgoing;
  }
}

function pair(one: string, other: string): string {
  return one < other ? `${one} ${other}` : `${other} ${one}`;
}

type Listeners = Map<string, ((...args: never[]) => void)[]>;

/** A connection with one stream on it. */
class LinkCall {
  readonly from: Host;
  readonly to: Host;
  readonly outgoing: OutgoingCall;
  onOver: () => void = () => undefined;
  readonly #time: VirtualTime;
  readonly #network: Network;
  readonly #there: Side;
  readonly #back: Side;
  #deadTimer: { cancelled: boolean } | undefined;
  #over = false;

  constructor(time: VirtualTime, network: Network, from: Host, to: Host) {
    this.#time = time;
    this.#network = network;
    this.from = from;
    this.to = to;
    this.#there = new Side(time, network, to);
    this.#back = new Side(time, network, from);
    this.outgoing = {
      on: (event: string, listener: (...args: never[]) => void) => {
        this.#back.on(event, listener);
      },
      write: (bytes) => {
        const copy = Buffer.from(bytes);
        this.#there.send('data', () => decodeRequest(copy));
        return true;
      },
      close: () => {
        this.#back.close();
        if (this.#over) return;
        this.#end();
        if (!this.#there.blocked) {
          this.#there.send('cancelled', () => undefined);
          this.#there.last();
          return;
        }
        this.#time.after(DEAD_AFTER_MS, this.#time.outside, 'dead link', () => {
          this.#there.fail('the connection is silent');
        });
      },
    };
    this.reconsider();
  }

  refuse(): void {
    this.#back.send('error', () => new Error('nobody listens there'));
    this.#end();
  }

  open(onCall: (call: IncomingCall) => void): void {
    this.#there.deliver(() => {
      onCall({
        on: (event: string, listener: (...args: never[]) => void) => {
          this.#there.on(event, listener);
        },
        write: (bytes) => {
          const copy = Buffer.from(bytes);
          this.#back.send('data', () => decodeReply(copy));
          return true;
        },
        pause: () => {
          this.#there.pause();
        },
        resume: () => {
          this.#there.resume();
        },
        end: () => {
          this.#back.send('end', () => undefined);
          this.#back.last();
        },
        getPeer: () => this.from.name,
        getAuthContext: () => ({}),
      });
    });
  }

  /** Whether anything passes has changed. */
  reconsider(): void {
    const blocked =
      this.#network.isCut(this.from.name, this.to.name) ||
      this.from.zone.paused ||
      this.to.zone.paused;
    if (this.#deadTimer !== undefined) this.#deadTimer.cancelled = true;
    this.#deadTimer = undefined;
    const cut = this.#network.isCut(this.from.name, this.to.name);
    this.#there.blocked = cut;
    this.#back.blocked = cut;
    if (blocked) {
      this.#deadTimer = this.#time.after(DEAD_AFTER_MS, this.#time.outside, 'dead link', () => {
        this.break();
      });
    } else {
      this.#there.flush();
      this.#back.flush();
    }
  }

  /** Both sides hear of it, sooner or later; what is under way is lost. */
  break(): void {
    if (this.#over) return;
    this.#end();
    this.#there.fail('the connection broke');
    this.#back.fail('the connection broke');
  }

  #end(): void {
    this.#over = true;
    if (this.#deadTimer !== undefined) this.#deadTimer.cancelled = true;
    this.onOver();
  }
}

/** What arrives at one end of a connection, in order. */
class Side {
  blocked = false;
  readonly #time: VirtualTime;
  readonly #network: Network;
  readonly #host: Host;
  readonly #listeners: Listeners = new Map();
  #waiting: (() => void)[] = [];
  #unread: (() => void)[] = [];
  #lastAtMs = 0;
  #paused = false;
  #closed = false;
  #noMore = false;
  #epoch = 0;

  constructor(time: VirtualTime, network: Network, host: Host) {
    this.#time = time;
    this.#network = network;
    this.#host = host;
  }

  on(event: string, listener: (...args: never[]) => void): void {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  send(event: string, value: () => unknown): void {
    if (this.#noMore) return;
    const emit = (): void => {
      if (this.#closed) return;
      if (this.#paused && event === 'data') {
        this.#unread.push(emit);
        return;
      }
      for (const listener of this.#listeners.get(event) ?? []) {
        (listener as (value: unknown) => void)(value());
      }
    };
    this.deliver(emit);
  }

  deliver(arrive: () => void): void {
    if (this.blocked) {
      this.#waiting.push(arrive);
      return;
    }
    const atMs = Math.max(this.#time.nowMs + this.#network.delay(), this.#lastAtMs);
    this.#lastAtMs = atMs;
    const epoch = this.#epoch;
    this.#time.after(atMs - this.#time.nowMs, this.#host.zone, 'link', () => {
      if (epoch === this.#epoch) arrive();
    });
  }

  flush(): void {
    for (const arrive of this.#waiting.splice(0)) this.deliver(arrive);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    for (const emit of this.#unread.splice(0)) {
      this.#time.after(0, this.#host.zone, 'link', emit);
    }
  }

  /** What is under way is lost. */
  fail(message: string): void {
    this.#epoch += 1;
    this.#waiting = [];
    this.#unread = [];
    this.blocked = false;
    this.#noMore = false;
    this.send('error', () => new Error(message));
    this.#noMore = true;
  }

  last(): void {
    this.#noMore = true;
  }

  close(): void {
    this.#closed = true;
  }
}

/** What a client of a connection hears. */
export interface ClientHandler {
  onBytes(bytes: Uint8Array): void;
  onClosed(): void;
}

/** A client's connection to a node: bytes take time, in order, and are lost with the connection. */
export class ClientConnection {
  readonly #time: VirtualTime;
  readonly #network: Network;
  readonly #client: Zone;
  readonly #node: Zone;
  readonly #channel: MemoryChannel;
  readonly #handler: ClientHandler;
  #upAtMs = 0;
  #downAtMs = 0;
  /** The client hears and says nothing any more. */
  #left = false;
  #broken = false;
  #ended = false;

  constructor(parts: {
    readonly time: VirtualTime;
    readonly network: Network;
    readonly client: Zone;
    readonly node: Zone;
    readonly handler: ClientHandler;
    readonly accept: (channel: MemoryChannel) => { decoder: Decoder; connection: Connection };
  }) {
    this.#time = parts.time;
    this.#network = parts.network;
    this.#client = parts.client;
    this.#node = parts.node;
    this.#handler = parts.handler;
    this.#channel = new MemoryChannel();
    this.#toNode('accept', () => {
      const { decoder, connection } = parts.accept(this.#channel);
      this.#channel.open(decoder, connection);
    });
  }

  /** Nothing is under way, and nothing will be. */
  get over(): boolean {
    return this.#ended || this.#broken;
  }

  send(bytes: Uint8Array): void {
    if (this.#left || this.#broken) return;
    this.#toNode('bytes', () => {
      this.#channel.receive(bytes);
    });
  }

  /** The client closes: what it has sent arrives before that. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#toNode('close', () => {
      this.#channel.disconnect();
    });
  }

  /** The client is gone, and nobody tells the node. */
  forsake(): void {
    this.#left = true;
  }

  /** The connection breaks: both sides hear of it, and what was under way is lost. */
  break(): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#time.after(this.#network.delay(), this.#node, 'reset', () => {
      this.#channel.disconnect();
    });
    this.#tellClosed(this.#network.delay());
  }

  /** Takes what the node has written, after each of its events. */
  collect(): void {
    if (this.#ended) return;
    if (this.#channel.backlogBytes > 0) {
      const bytes = this.#channel.take();
      if (!this.#channel.destroyed) {
        this.#toClient(() => {
          if (!this.#left && !this.#broken) this.#handler.onBytes(bytes);
        });
      }
    }
    if (!this.#channel.ended) return;
    this.#ended = true;
    const delayMs = Math.max(this.#time.nowMs + this.#network.delay(), this.#downAtMs);
    this.#tellClosed(delayMs - this.#time.nowMs);
  }

  #tellClosed(delayMs: number): void {
    this.#time.after(delayMs, this.#client, 'closed', () => {
      if (this.#left) return;
      this.#left = true;
      this.#handler.onClosed();
    });
  }

  #toNode(label: string, arrive: () => void): void {
    const atMs = Math.max(this.#time.nowMs + this.#network.delay(), this.#upAtMs);
    this.#upAtMs = atMs;
    this.#time.after(atMs - this.#time.nowMs, this.#node, label, () => {
      if (!this.#broken) arrive();
    });
  }

  #toClient(arrive: () => void): void {
    const atMs = Math.max(this.#time.nowMs + this.#network.delay(), this.#downAtMs);
    this.#downAtMs = atMs;
    this.#time.after(atMs - this.#time.nowMs, this.#client, 'answer', arrive);
  }
}
