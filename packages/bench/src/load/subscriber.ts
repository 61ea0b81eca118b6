import { nowUs } from '../clock.ts';
import { LatencyHistogram } from '../latency-histogram.ts';
import type { PacketSink, RawClient } from '../raw-client.ts';
import { SequenceChecker } from '../sequence-checker.ts';
import { decodeVariableInteger } from '../wire.ts';
import type { DeliveryMeter } from './delivery-meter.ts';

/** Receives stamped messages, acknowledges them and checks their sequence. */
export class Subscriber implements PacketSink {
  /** Set once connected. */
  client: RawClient | undefined;
  readonly #meter: DeliveryMeter;
  readonly #checkers: (SequenceChecker | undefined)[];
  #readAtUs = 0;
  // Messages written at once carry one send time: their latency is looked up once.
  #stampUs = 0;
  #sameStamp = 0;

  /** `publishers` are the indexes of those whose messages this subscriber is to receive. */
  constructor(meter: DeliveryMeter, publishers: readonly number[]) {
    this.#meter = meter;
    this.#checkers = [];
    for (const publisher of publishers) this.#checkers[publisher] = new SequenceChecker();
  }

  /** The checker of one publisher's messages. */
  checker(publisher: number): SequenceChecker {
    const checker = this.#checkers[publisher];
    if (checker === undefined) throw new Error('not a publisher of this subscriber');
    return checker;
  }

  packet(view: DataView, firstByte: number, start: number, end: number): void {
    const type = firstByte >>> 4;
    if (type === 3) {
      let offset = start + 2 + view.getUint16(start);
      const qos = (firstByte >>> 1) & 3;
      const client = this.client;
      if (client === undefined) return;
      if (qos > 0) {
        client.acknowledge(qos === 1 ? 0x40 : 0x50, view.getUint16(offset));
        offset += 2;
      }
      if (client.level === 5) offset = skipProperties(view, offset, end);
      this.#message(view.getUint32(offset), view.getUint32(offset + 4));
      const stampUs = view.getFloat64(offset + 8);
      if (stampUs !== this.#stampUs) {
        this.#recordLatency();
        this.#stampUs = stampUs;
      }
      this.#sameStamp += 1;
    } else if (type === 6) {
      this.client?.acknowledge(0x70, view.getUint16(start));
    }
  }

  readEnd(): void {
    this.#recordLatency();
    this.#readAtUs = 0;
    this.onRead();
  }

  /** Called after each read, when deliveries may have made room in the windows. */
  onRead: () => void = () => undefined;

  #message(publisher: number, sequence: number): void {
    const checker = this.#checkers[publisher];
    if (checker === undefined) {
      this.#meter.strays += 1;
      return;
    }
    if (sequence === checker.next) {
      checker.next = sequence + 1;
      checker.unique += 1;
      this.#meter.delivered += 1;
    } else {
      const before = checker.unique;
      checker.unexpected(sequence);
      this.#meter.delivered += checker.unique - before;
    }
  }

  #recordLatency(): void {
    const count = this.#sameStamp;
    if (count === 0) return;
    this.#sameStamp = 0;
    if (!this.#meter.recording) return;
    if (this.#readAtUs === 0) this.#readAtUs = nowUs();
    this.#meter.latencies.add(LatencyHistogram.bucket(this.#readAtUs - this.#stampUs), count);
  }
}

function skipProperties(view: DataView, offset: number, end: number): number {
  const length = view.getUint8(offset);
  if (length < 0x80) return offset + 1 + length;
  const decoded = decodeVariableInteger(view, offset, end);
  if (decoded === undefined) throw new Error('cut-off property length');
  return decoded.next + decoded.value;
}
