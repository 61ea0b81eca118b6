import type { QoS } from './packet.ts';
import type { Topic } from './topic/topic.ts';

const NO_BYTES = new Uint8Array(0);

/**
 * An application message: what a PUBLISH carries. One class for borrowed and owned messages, so that the code on
 * the hot path stays monomorphic. The decoder reuses one borrowed instance whose payload lies in the read buffer;
 * whoever keeps a message beyond the call it got it in, keeps `owned()`.
 */
export class Message {
  topic: Topic;
  /** The payload is `bytes[start, end)`. */
  bytes: Uint8Array;
  start: number;
  end: number;
  qos: QoS;
  retain: boolean;
  /** DUP flag and packet identifier as they came from the publisher; meaningless to subscribers [MQTT-3.3.1-3]. */
  dup: boolean;
  packetId: number;
  /**
   * Encoded MQTT 5.0 properties that are forwarded unaltered: payload format indicator, content type, response
   * topic, correlation data and user properties, in the order they arrived, without the leading length
   * [MQTT-3.3.2-17] [MQTT-3.3.2-18]. Empty when there are none. Borrowed like the payload.
   */
  properties: Uint8Array;
  /** Seconds, as the publisher sent it; -1: never expires. The core turns it into `expiresAtMs`. */
  expiryInterval: number;
  /** Point in time on the store's clock (`Clock.wallMs`); 0: never. */
  expiresAtMs: number;
  /** Client id of the publisher, '' for the server itself. For No Local [MQTT-3.8.3-3]. */
  publisher: string;
  /** Other nodes must know the publisher too. Most do not: it costs bytes on the way. */
  namesPublisher: boolean;
  #owned: boolean;

  constructor(topic: Topic) {
    this.topic = topic;
    this.bytes = NO_BYTES;
    this.start = 0;
    this.end = 0;
    this.qos = 0;
    this.retain = false;
    this.dup = false;
    this.packetId = 0;
    this.properties = NO_BYTES;
    this.expiryInterval = -1;
    this.expiresAtMs = 0;
    this.publisher = '';
    this.namesPublisher = false;
    this.#owned = false;
  }

  /** Payload size in bytes. */
  get payloadBytes(): number {
    return this.end - this.start;
  }

  /** This message when it owns its bytes, otherwise a copy that does. */
  owned(): Message {
    if (this.#owned) return this;
    const copy = new Message(this.topic);
    copy.bytes = this.bytes.slice(this.start, this.end);
    copy.end = copy.bytes.length;
    copy.qos = this.qos;
    copy.retain = this.retain;
    copy.dup = this.dup;
    copy.packetId = this.packetId;
    copy.properties = this.properties.length === 0 ? NO_BYTES : this.properties.slice();
    copy.expiryInterval = this.expiryInterval;
    copy.expiresAtMs = this.expiresAtMs;
    copy.publisher = this.publisher;
    copy.namesPublisher = this.namesPublisher;
    copy.#owned = true;
    return copy;
  }

  /** An owned message around `payload`, which must not be written to afterwards. */
  static of(
    topic: Topic,
    payload: Uint8Array,
    options: { qos: QoS; retain: boolean; properties?: Uint8Array; publisher?: string },
  ): Message {
    const message = new Message(topic);
    message.bytes = payload;
    message.end = payload.length;
    message.qos = options.qos;
    message.retain = options.retain;
    message.properties = options.properties ?? NO_BYTES;
    message.publisher = options.publisher ?? '';
    message.#owned = true;
    return message;
  }
}
