import { Socket, createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import type { IConnectPacket, IPublishPacket, ISubscription } from 'mqtt-packet';
import { PacketReader, encodePacket } from './wire-packet.ts';
import type {
  ReceivedPacket,
  Unreadable,
  WirePacket,
  WirePacketType,
  WireUserProperties,
  WireVersion,
} from './wire-packet.ts';

/** How a client talks and how patient it is. */
export interface ByteClientOptions {
  /** The protocol level; 5 unless told. */
  readonly version?: WireVersion;
  /** How long every `expect…` waits for the server; 5,000 ms unless told. */
  readonly timeoutMs?: number;
}

/** The fields of CONNECT, in the words of mqtt-packet. A client id of its own, clean and no keep alive unless told. */
export interface ConnectFields extends Partial<
  Pick<IConnectPacket, 'clientId' | 'clean' | 'keepalive' | 'username' | 'will' | 'properties'>
> {
  readonly password?: Uint8Array | string;
}

/** A message to publish. Empty payload, QoS 0, the next free packet id unless told. */
export interface PublishFields extends Partial<
  Pick<IPublishPacket, 'qos' | 'retain' | 'dup' | 'messageId' | 'properties'>
> {
  readonly topic: string;
  readonly payload?: Uint8Array | string;
}

/** Options of every filter in a SUBSCRIBE, and the properties of the packet. */
export interface SubscribeFields extends Partial<Omit<ISubscription, 'topic'>> {
  readonly messageId?: number;
  readonly properties?: { subscriptionIdentifier?: number; userProperties?: WireUserProperties };
}

/** The properties that an acknowledgement can have. */
export interface AcknowledgementProperties {
  reasonString?: string;
  userProperties?: WireUserProperties;
}

/** How the server ended the connection: properly, or so that what was under way got lost. */
export type HowClosed = 'end' | 'reset';

const DEFAULT_TIMEOUT_MS = 5_000;
const ownFile = fileURLToPath(import.meta.url);
let nextClientNumber = 1;

/**
 * An MQTT client that does what the test says and nothing by itself: no acknowledgement, no keep alive, no reconnect.
 * Packets are sent from fields or as bytes, right or wrong; what comes back waits in line until the test expects it.
 *
 * ```ts
 * await using client = await ByteClient.connect(port, { clientId: 'c' });
 * await client.subscribe('a/#', { qos: 1 });
 * client.publish({ topic: 'a/b', payload: 'hello', qos: 1 });
 * await client.expectPacket('puback');
 * const { messageId } = await client.expectPublish({ topic: 'a/b' });
 * client.puback(messageId!);
 * await client.expectNothing();
 * client.send('c0 01 00'); // a PINGREQ with a body
 * await client.expectDisconnect(0x81);
 * ```
 *
 * What does not come as expected rejects with everything that did come. Disposing of the client destroys the
 * connection, as a client that loses its network does: wills are published.
 */
export class ByteClient implements AsyncDisposable {
  /** For what this class has no word: `pause()`, `localPort`. */
  readonly stream: Duplex;
  /** Everything the server sent until now, also what was already expected. */
  readonly received: (ReceivedPacket | Unreadable)[] = [];
  readonly #timeoutMs: number;
  readonly #reader = new PacketReader();
  /** What arrived and was not expected yet. */
  readonly #line: (ReceivedPacket | Unreadable)[] = [];
  readonly #waiters: Waiter[] = [];
  #version: WireVersion;
  #closed: HowClosed | undefined;
  #connack: ReceivedPacket<'connack'> | undefined;
  #lastPacketId = 0;

  /** Talks over any stream of bytes; for TCP there are {@link ByteClient.open} and {@link ByteClient.connect}. */
  constructor(stream: Duplex, { version = 5, timeoutMs = DEFAULT_TIMEOUT_MS }: ByteClientOptions) {
    this.stream = stream;
    this.#version = version;
    this.#timeoutMs = timeoutMs;
    stream.on('data', (chunk: Buffer) => this.#onBytes(chunk));
    stream.on('end', () => this.#onClosed('end'));
    // Without an end before it, a close lost data: a reset, reported as ECONNRESET or EPIPE.
    stream.on('error', () => this.#onClosed('reset'));
    stream.on('close', () => this.#onClosed('reset'));
  }

  /** Opens a TCP connection to 127.0.0.1 and sends nothing. */
  static async open(port: number, options: ByteClientOptions = {}): Promise<ByteClient> {
    const socket = createConnection({
      port,
      host: '127.0.0.1',
      noDelay: true,
      allowHalfOpen: true,
    });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new ByteClient(socket, options);
  }

  /** Opens a TCP connection, sends CONNECT, and waits for CONNACK, whatever it says: see {@link connack}. */
  static async connect(
    port: number,
    { version, timeoutMs, ...fields }: ConnectFields & ByteClientOptions = {},
  ): Promise<ByteClient> {
    const client = await ByteClient.open(port, {
      ...(version === undefined ? {} : { version }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    try {
      await client.connect(fields);
    } catch (error) {
      await client[Symbol.asyncDispose]();
      throw error;
    }
    return client;
  }

  /** The CONNACK that {@link connect} received. */
  get connack(): ReceivedPacket<'connack'> {
    if (!this.#connack) throw new Error('this client has not been connected');
    return this.#connack;
  }

  get version(): WireVersion {
    return this.#version;
  }

  /** Sends bytes: an array, or hexadecimal text with or without spaces (`'c0 00'`). */
  send(bytes: Uint8Array | string): void {
    if (this.stream.writableEnded) throw new Error('the client has ended its side already');
    this.stream.write(typeof bytes === 'string' ? fromHex(bytes) : bytes);
  }

  /** Sends a packet. @throws Error when mqtt-packet cannot encode it; use {@link send} then. */
  sendPacket(packet: WirePacket): void {
    this.send(encodePacket(packet, this.#version));
  }

  /** Sends CONNECT and does not wait for anything. */
  sendConnect({ clientId, clean = true, password, ...fields }: ConnectFields = {}): void {
    this.sendPacket({
      cmd: 'connect',
      ...fields,
      clean,
      clientId: clientId ?? `byte-client-${nextClientNumber++}`,
      ...(password === undefined ? {} : { password: Buffer.from(password) }),
    });
  }

  /** Sends CONNECT and waits for CONNACK. */
  async connect(fields: ConnectFields = {}): Promise<ReceivedPacket<'connack'>> {
    this.sendConnect(fields);
    return (this.#connack = await this.expectPacket('connack'));
  }

  /** Sends SUBSCRIBE and waits for its SUBACK. What comes before that stays in line. */
  async subscribe(
    filters: string | readonly string[],
    { messageId = this.nextPacketId(), properties, ...options }: SubscribeFields = {},
  ): Promise<ReceivedPacket<'suback'>> {
    this.sendPacket({
      cmd: 'subscribe',
      messageId,
      subscriptions: [filters].flat().map((topic) => ({ topic, qos: 0, ...options })),
      ...(properties && { properties }),
    });
    return this.#acknowledgement('suback', messageId);
  }

  /** Sends UNSUBSCRIBE and waits for its UNSUBACK. What comes before that stays in line. */
  async unsubscribe(
    filters: string | readonly string[],
    messageId = this.nextPacketId(),
  ): Promise<ReceivedPacket<'unsuback'>> {
    this.sendPacket({ cmd: 'unsubscribe', messageId, unsubscriptions: [filters].flat() });
    return this.#acknowledgement('unsuback', messageId);
  }

  /** Sends PUBLISH and returns its packet id, 0 at QoS 0. */
  publish({ payload = '', qos = 0, messageId, ...fields }: PublishFields): number {
    const packetId = qos === 0 ? 0 : (messageId ?? this.nextPacketId());
    this.sendPacket({
      cmd: 'publish',
      retain: false,
      dup: false,
      ...fields,
      qos,
      payload: Buffer.from(payload),
      ...(packetId === 0 ? {} : { messageId: packetId }),
    });
    return packetId;
  }

  /**
   * Publishes, and goes through the handshake to its end: PUBACK, or PUBREC, PUBREL and PUBCOMP; at QoS 0 a round trip.
   * What comes between stays in line.
   *
   * @returns the reason code of PUBACK or PUBREC; 0 in MQTT 3 and at QoS 0.
   */
  async publishFully(message: PublishFields): Promise<number> {
    const packetId = this.publish(message);
    if (packetId === 0) {
      await this.roundTrip();
      return 0;
    }
    if (message.qos === 1) {
      const { reasonCode = 0 } = await this.#acknowledgement('puback', packetId);
      return reasonCode;
    }
    const { reasonCode = 0 } = await this.#acknowledgement('pubrec', packetId);
    if (reasonCode < 0x80) {
      this.pubrel(packetId);
      await this.#acknowledgement('pubcomp', packetId);
    }
    return reasonCode;
  }

  puback(messageId: number, reasonCode = 0, properties?: AcknowledgementProperties): void {
    this.#acknowledge('puback', messageId, reasonCode, properties);
  }

  pubrec(messageId: number, reasonCode = 0, properties?: AcknowledgementProperties): void {
    this.#acknowledge('pubrec', messageId, reasonCode, properties);
  }

  pubrel(messageId: number, reasonCode = 0, properties?: AcknowledgementProperties): void {
    this.#acknowledge('pubrel', messageId, reasonCode, properties);
  }

  pubcomp(messageId: number, reasonCode = 0, properties?: AcknowledgementProperties): void {
    this.#acknowledge('pubcomp', messageId, reasonCode, properties);
  }

  /** Sends DISCONNECT and ends this side of the connection. */
  disconnect(
    reasonCode = 0,
    properties?: Extract<WirePacket, { cmd: 'disconnect' }>['properties'],
  ): void {
    this.sendPacket({ cmd: 'disconnect', reasonCode, ...(properties && { properties }) });
    this.end();
  }

  /** Ends this side of the connection (FIN) and sends nothing before it. */
  end(): void {
    this.stream.end();
  }

  /** Cuts the connection: with a reset (RST) where the stream can. */
  abort(): void {
    if (this.stream instanceof Socket) this.stream.resetAndDestroy();
    else this.stream.destroy();
  }

  /** Returns a packet id that this client has not used for a long time. */
  nextPacketId(): number {
    this.#lastPacketId = (this.#lastPacketId % 65_535) + 1;
    return this.#lastPacketId;
  }

  /** Waits for the next packet in line, and rejects when it is of another type. */
  async expectPacket<T extends WirePacketType = WirePacketType>(
    type?: T,
  ): Promise<ReceivedPacket<T>> {
    const trace = new Error();
    const expected = type?.toUpperCase() ?? 'a packet';
    const packet = await this.#take({ expected, accepts: () => true });
    if (type !== undefined && packet.cmd !== type) {
      throw this.#failure(`expected ${expected}, but ${described(packet)} came`, trace);
    }
    return packet as ReceivedPacket<T>;
  }

  /**
   * Waits for a PUBLISH, the next packet in line. It has to have the fields in `expected`. With `acknowledge`, answers as its QoS demands, up to PUBCOMP.
   */
  async expectPublish({
    acknowledge = false,
    ...expected
  }: Partial<Omit<PublishFields, 'properties'>> & { acknowledge?: boolean } = {}): Promise<
    ReceivedPacket<'publish'>
  > {
    const trace = new Error();
    const publish = await this.expectPacket('publish');
    for (const [field, value] of Object.entries(expected)) {
      const actual = publish[field as keyof typeof expected];
      if (comparable(actual) !== comparable(value)) {
        throw this.#failure(
          `expected PUBLISH with ${field} ${inspect(asText(value))}, but ${described(publish)} came`,
          trace,
        );
      }
    }
    if (acknowledge) await this.#completeDelivery(publish);
    return publish;
  }

  /**
   * Waits until the server ended the connection with nothing in line before, then ends this side too.
   *
   * @returns `reset` when the server did not end it properly, so that a client might have lost what came last.
   */
  async expectClose(): Promise<HowClosed> {
    const trace = new Error();
    const packet = await this.#takeOrClosed({ expected: 'the end', accepts: () => true }, trace);
    if (typeof packet !== 'string') {
      throw this.#failure(
        `expected the end of the connection, but ${described(packet)} came`,
        trace,
      );
    }
    this.stream.end();
    return packet;
  }

  /**
   * Waits for the server to refuse to go on: in MQTT 5 a DISCONNECT with the reason code and the proper end of the
   * connection after it, in MQTT 3 the end alone.
   */
  async expectDisconnect(reasonCode: number): Promise<void> {
    const trace = new Error();
    if (this.#version === 5) {
      const packet = await this.expectPacket('disconnect');
      if (packet.reasonCode !== reasonCode) {
        throw this.#failure(
          `expected DISCONNECT 0x${reasonCode.toString(16)}, but ${described(packet)} came`,
          trace,
        );
      }
    }
    const how = await this.expectClose();
    if (this.#version === 5 && how === 'reset') {
      throw this.#failure(
        'the connection was reset: a client might not have read the DISCONNECT',
        trace,
      );
    }
  }

  /**
   * Makes sure that nothing came and that nothing was on its way. The proof is a PINGREQ: whatever the server had to
   * send to this client because of what it has processed until then comes before the PINGRESP. What *another* client
   * sent is processed when that one's {@link roundTrip} is over.
   */
  async expectNothing(): Promise<void> {
    const trace = new Error();
    const inLine = await this.roundTrip();
    if (inLine === 0) return;
    throw this.#failure(`expected nothing, but ${described(this.#line[0]!)} came`, trace);
  }

  /**
   * Sends PINGREQ and waits for the PINGRESP: the server has read all that was sent before. What comes meanwhile stays
   * in line.
   *
   * @returns how many packets were in line when the PINGRESP came.
   */
  async roundTrip(): Promise<number> {
    let inLine = 0;
    this.send('c0 00');
    await this.#take({
      expected: 'PINGRESP',
      future: true,
      accepts: ({ cmd }) => {
        inLine = this.#line.length;
        return cmd === 'pingresp';
      },
    });
    return inLine;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.stream.closed) return;
    await new Promise<void>((resolve) => {
      this.stream.once('close', resolve);
      this.stream.destroy();
    });
  }

  async #completeDelivery({ qos, messageId = 0 }: ReceivedPacket<'publish'>): Promise<void> {
    if (qos === 1) this.puback(messageId);
    if (qos === 2) {
      this.pubrec(messageId);
      await this.#acknowledgement('pubrel', messageId);
      this.pubcomp(messageId);
    }
  }

  #acknowledge(
    cmd: 'puback' | 'pubrec' | 'pubrel' | 'pubcomp',
    messageId: number,
    reasonCode: number,
    properties: AcknowledgementProperties | undefined,
  ): void {
    this.sendPacket({ cmd, messageId, reasonCode, ...(properties && { properties }) });
  }

  async #acknowledgement<
    T extends 'suback' | 'unsuback' | 'puback' | 'pubrec' | 'pubrel' | 'pubcomp',
  >(type: T, messageId: number): Promise<ReceivedPacket<T>> {
    const packet = await this.#take({
      expected: `${type.toUpperCase()} ${messageId}`,
      accepts: (candidate) => candidate.cmd === type && candidate.messageId === messageId,
    });
    return packet as ReceivedPacket<T>;
  }

  async #take(wanted: Wanted): Promise<ReceivedPacket> {
    const trace = new Error();
    const packet = await this.#takeOrClosed(wanted, trace);
    if (typeof packet === 'string') {
      const how = packet === 'end' ? 'ended' : 'reset';
      throw this.#failure(`expected ${wanted.expected}, but the connection was ${how}`, trace);
    }
    if (packet.cmd === 'unreadable') {
      throw this.#failure(`expected ${wanted.expected}, but ${described(packet)} came`, trace);
    }
    return packet;
  }

  /** Takes the first packet in line that is wanted, or waits for one; `unreadable` ends every wait. */
  #takeOrClosed(wanted: Wanted, trace: Error): Promise<ReceivedPacket | Unreadable | HowClosed> {
    const index = wanted.future ? -1 : this.#line.findIndex((packet) => isFor(packet, wanted));
    if (index >= 0) return Promise.resolve(this.#line.splice(index, 1)[0]!);
    if (this.#closed) return Promise.resolve(this.#closed);
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
      };
      const waiter: Waiter = {
        ...wanted,
        resolve: (outcome) => {
          settle();
          resolve(outcome);
        },
      };
      const timer = setTimeout(() => {
        settle();
        reject(this.#failure(`expected ${wanted.expected} within ${this.#timeoutMs} ms`, trace));
      }, this.#timeoutMs);
      this.#waiters.push(waiter);
    });
  }

  #onBytes(chunk: Buffer): void {
    for (const packet of this.#reader.read(chunk, this.#version)) {
      this.received.push(packet);
      const waiter = this.#waiters.find((candidate) => isFor(packet, candidate));
      if (waiter) waiter.resolve(packet);
      else this.#line.push(packet);
    }
  }

  #onClosed(how: HowClosed): void {
    this.#closed ??= how;
    for (const waiter of [...this.#waiters]) waiter.resolve(this.#closed);
  }

  /** An error that points at the line of the test and tells the story of the connection. */
  #failure(message: string, trace: Error): Error {
    const story = this.received.map((packet) => `\n  ${described(packet)}`);
    if (this.#reader.buffered > 0)
      story.push(`\n  ${this.#reader.buffered} bytes of another packet`);
    if (this.#closed) story.push(`\n  the connection: ${this.#closed}`);
    const error = new Error(`${message}\nreceived so far:${story.join('') || ' nothing'}`);
    const frames = (trace.stack ?? '').split('\n').filter((line) => line.startsWith('    at '));
    const outside = frames.filter((line) => !line.includes(`${ownFile}:`));
    error.stack = `Error: ${error.message}\n${(outside.length > 0 ? outside : frames).join('\n')}`;
    return error;
  }
}

interface Wanted {
  /** What the message says when it does not come. */
  readonly expected: string;
  readonly accepts: (packet: ReceivedPacket) => boolean;
  /** Only what has not arrived yet counts. */
  readonly future?: boolean;
}

interface Waiter extends Wanted {
  readonly resolve: (outcome: ReceivedPacket | Unreadable | HowClosed) => void;
}

function isFor(packet: ReceivedPacket | Unreadable, { accepts }: Wanted): boolean {
  return packet.cmd === 'unreadable' || accepts(packet);
}

/** One line: the type, the fields that are set, the first bytes. */
function described({ cmd, raw, ...fields }: ReceivedPacket | Unreadable): string {
  // mqtt-packet reads the flags of a PUBLISH in every packet.
  const hidden = cmd === 'publish' ? ['length'] : ['length', 'qos', 'dup', 'retain'];
  const shown = Object.entries(fields)
    .filter(([name, value]) => !hidden.includes(name) && value !== null && value !== false)
    .map(([name, value]) => [name, name === 'payload' ? asText(value) : value] as const);
  const values = inspect(Object.fromEntries(shown), { breakLength: Infinity, maxStringLength: 80 });
  const bytes = [...raw.subarray(0, 32)].map((byte) => byte.toString(16).padStart(2, '0'));
  const more = raw.length > 32 ? ` … (${raw.length} bytes)` : '';
  return `${cmd.toUpperCase()} ${values} ${bytes.join(' ')}${more}`;
}

/** Text and bytes are equal when their bytes are. */
function comparable(value: unknown): unknown {
  return typeof value === 'string' || value instanceof Uint8Array
    ? Buffer.from(value as Uint8Array).toString('hex')
    : value;
}

function asText(value: unknown): unknown {
  return value instanceof Uint8Array ? Buffer.from(value).toString() : value;
}

function fromHex(text: string): Buffer {
  const digits = text.replaceAll(/\s/g, '');
  const bytes = Buffer.from(digits, 'hex');
  if (bytes.length * 2 !== digits.length) throw new TypeError(`not hexadecimal: ${text}`);
  return bytes;
}
