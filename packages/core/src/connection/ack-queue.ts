import { Deque } from '../delivery/deque.ts';
import { AckType } from '../packet.ts';

/** An acknowledgement that is owed. */
export interface AckSlot {
  readonly type: AckType;
  readonly packetId: number;
  /** When its packet was read. */
  readonly sinceMs: number;
  reasonCode: number;
  ready: boolean;
}

/**
 * Acknowledgements in the order in which their packets came [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4], although
 * what they wait for may finish in another order. Empty whenever nothing has to be waited for.
 */
export class AckQueue {
  /** QoS 1 messages among those that wait. */
  pubacks = 0;
  readonly #slots = new Deque<AckSlot>();
  readonly #write: (slot: AckSlot) => void;

  constructor(write: (slot: AckSlot) => void) {
    this.#write = write;
  }

  get length(): number {
    return this.#slots.length;
  }

  push(type: AckType, packetId: number, sinceMs: number): AckSlot {
    const slot: AckSlot = { type, packetId, sinceMs, reasonCode: 0, ready: false };
    this.#slots.push(slot);
    if (type === AckType.Puback) this.pubacks += 1;
    return slot;
  }

  /** What the slot waited for is done: it is written as soon as everything before it was. */
  settle(slot: AckSlot, reasonCode: number): void {
    slot.reasonCode = reasonCode;
    slot.ready = true;
    for (let head = this.#slots.peek(); head?.ready === true; head = this.#slots.peek()) {
      this.#slots.shift();
      if (head.type === AckType.Puback) this.pubacks -= 1;
      this.#write(head);
    }
  }
}
