import type { Random } from '@shoalmq/core';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** What goes wrong, and how often. Everything is off unless it is given. */
export interface Mischief {
  readonly random: Random;
  /** A connection is in for the next trouble after at most so many bytes, both directions together. */
  readonly bytesMax: number;
  /** Chances, as weights: the connection is reset; bytes stop for a while; nothing this time. */
  readonly resets: number;
  readonly pauses: number;
  readonly mercies: number;
  /** Milliseconds of the longest pause. */
  readonly pauseMsMax: number;
}

/** A TCP proxy on the loopback interface between a client and a server that it lets down, on command or by chance. */
export class FlakyProxy {
  readonly #server: Server;
  #targetPort: number;
  readonly #pairs = new Set<Pair>();
  #mischief: Mischief | undefined;
  #cut = false;
  #paused = false;
  /** Milliseconds that every byte is late, in each direction. Of connections that are made later. */
  delayMs = 0;
  /** Connections accepted so far. */
  connections = 0;
  /** Connections reset by chance so far. */
  resets = 0;

  static async start(targetPort: number, mischief?: Mischief): Promise<FlakyProxy> {
    const proxy = new FlakyProxy(targetPort, mischief);
    await new Promise<void>((resolve) => {
      proxy.#server.listen({ host: '127.0.0.1', port: 0 }, resolve);
    });
    return proxy;
  }

  private constructor(targetPort: number, mischief: Mischief | undefined) {
    this.#targetPort = targetPort;
    this.#mischief = mischief;
    this.#server = createServer((client) => this.#accept(client));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Resets all connections, and new ones until `mend`. */
  cut(): void {
    this.#cut = true;
    this.reset();
  }

  mend(): void {
    this.#cut = false;
  }

  /** Resets all connections; new ones are welcome. */
  reset(): void {
    for (const pair of [...this.#pairs]) pair.destroy();
  }

  /** Leads to another server from now on; all connections are reset. */
  retarget(port: number): void {
    this.#targetPort = port;
    this.reset();
  }

  /** No byte gets through any more, and nobody is told: a cable was pulled. */
  pause(): void {
    this.#paused = true;
    for (const pair of this.#pairs) pair.pause();
  }

  resume(): void {
    this.#paused = false;
    for (const pair of this.#pairs) pair.resume();
  }

  /** No more trouble by chance. */
  behave(): void {
    this.#mischief = undefined;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #accept(client: Socket): void {
    this.connections++;
    if (this.#cut) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const server = connect({ host: '127.0.0.1', port: this.#targetPort });
    const pair = new Pair(client, server, {
      bytesToTrouble: () => {
        const mischief = this.#mischief;
        return mischief === undefined ? Infinity : 1 + mischief.random.integer(mischief.bytesMax);
      },
      delayMs: this.delayMs,
      trouble: () => this.#trouble(pair),
      closed: () => this.#pairs.delete(pair),
    });
    this.#pairs.add(pair);
    if (this.#paused) pair.pause();
  }

  #trouble(pair: Pair): void {
    const mischief = this.#mischief;
    if (mischief === undefined) return;
    const { random, resets, pauses, mercies } = mischief;
    const chance = random.integer(resets + pauses + mercies);
    if (chance < resets) {
      this.resets++;
      pair.destroy();
    } else if (chance < resets + pauses) {
      pair.pause();
      pair.resumeIn(1 + random.integer(mischief.pauseMsMax), () => !this.#paused);
    }
  }
}

interface PairOwner {
  /** How many bytes go well. */
  bytesToTrouble(): number;
  readonly delayMs: number;
  trouble(): void;
  closed(): void;
}

/** The two halves of one connection. */
class Pair {
  readonly #sockets: readonly [Socket, Socket];
  readonly #owner: PairOwner;
  #bytesLeft: number;
  #paused = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(client: Socket, server: Socket, owner: PairOwner) {
    this.#sockets = [client, server];
    this.#owner = owner;
    this.#bytesLeft = owner.bytesToTrouble();
    this.#forward(client, server);
    this.#forward(server, client);
  }

  pause(): void {
    this.#paused = true;
    for (const socket of this.#sockets) socket.pause();
  }

  resume(): void {
    this.#paused = false;
    for (const socket of this.#sockets) socket.resume();
  }

  resumeIn(delayMs: number, ifStill: () => boolean): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (ifStill()) this.resume();
    }, delayMs);
  }

  destroy(): void {
    clearTimeout(this.#timer);
    for (const socket of this.#sockets) {
      // The system refuses a reset behind a FIN, and Node.js then never closes the handle.
      if (socket.writableEnded || socket.destroyed) socket.destroy();
      else socket.resetAndDestroy();
    }
    this.#owner.closed();
  }

  #forward(from: Socket, to: Socket): void {
    from.setNoDelay(true);
    from.on('data', (bytes: Buffer) => {
      this.#bytesLeft -= bytes.length;
      if (this.#bytesLeft > 0) {
        this.#write(from, to, bytes);
        return;
      }
      // What came before the trouble gets through.
      const through = bytes.length + this.#bytesLeft;
      this.#write(from, to, bytes.subarray(0, through));
      this.#bytesLeft = this.#owner.bytesToTrouble();
      this.#owner.trouble();
      if (!to.destroyed) this.#write(from, to, bytes.subarray(through));
    });
    from.on('end', () => this.#late(() => to.end()));
    from.on('error', () => this.destroy());
    from.on('close', () => this.destroy());
  }

  #late(action: () => void): void {
    if (this.#owner.delayMs === 0) action();
    else setTimeout(action, this.#owner.delayMs);
  }

  #write(from: Socket, to: Socket, bytes: Buffer): void {
    this.#late(() => this.#writeNow(from, to, bytes));
  }

  #writeNow(from: Socket, to: Socket, bytes: Buffer): void {
    if (bytes.length === 0 || to.destroyed || to.write(bytes)) return;
    from.pause();
    to.once('drain', () => {
      if (!this.#paused) from.resume();
    });
  }
}
