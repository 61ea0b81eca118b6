import { Deque } from '../delivery/deque.ts';

interface Kept {
  readonly bytes: number;
  readonly handle: () => void;
}

/**
 * Packets of a client whose turn has not come, because one before them waits for something that takes long: Redis is
 * away. They are read so that a PINGREQ among them can be answered, and handled in their order later. At most as many as
 * the client may have under way; then it is not read.
 */
export class KeptPackets {
  readonly #countMax: number;
  readonly #bytesMax: number;
  readonly #packets = new Deque<Kept>();
  #bytes = 0;

  constructor(countMax: number, bytesMax: number) {
    this.#countMax = countMax;
    this.#bytesMax = bytesMax;
  }

  get length(): number {
    return this.#packets.length;
  }

  get full(): boolean {
    return this.length >= this.#countMax || this.#bytes >= this.#bytesMax;
  }

  /** `handle` is called when it is the packet's turn; `bytes`: what it holds in memory. */
  push(bytes: number, handle: () => void): void {
    this.#packets.push({ bytes, handle });
    this.#bytes += bytes;
  }

  /** Handles the first packet. */
  handleNext(): void {
    const packet = this.#packets.shift();
    if (packet === undefined) return;
    this.#bytes -= packet.bytes;
    packet.handle();
  }
}
