import type { History } from '@shoalmq/testkit';
import { messagePayload, messageStamp, payloadHash } from '@shoalmq/testkit';
import { connect } from 'mqtt';
import type { MqttClient } from 'mqtt';

/** A client of MQTT.js with a persistent session that comes back by itself, and whose history is recorded. */
export class ForeignDevice implements AsyncDisposable {
  readonly clientId: string;
  readonly #history: History;
  readonly #client: MqttClient;
  #connection = 0;
  #seq = 0;
  #unsettled = 0;
  readonly #sent = new Set<number>();

  constructor(options: {
    readonly clientId: string;
    readonly history: History;
    readonly port: number;
    readonly version: 4 | 5;
    readonly reconnectDelayMs: number;
  }) {
    const { clientId, history } = options;
    this.clientId = clientId;
    this.#history = history;
    this.#client = connect({
      ...{ host: '127.0.0.1', port: options.port, protocol: 'mqtt', clientId, clean: false },
      ...{ protocolVersion: options.version, reconnectPeriod: options.reconnectDelayMs },
      ...(options.version === 5 ? { properties: { sessionExpiryInterval: 3600 } } : {}),
    });
    let open = false;
    this.#client.on('connect', ({ sessionPresent }) => {
      open = true;
      this.#connection = history.nextConnection(clientId);
      this.#record({ op: 'connect', resumed: sessionPresent });
    });
    this.#client.on('close', () => {
      if (open) this.#record({ op: 'close' });
      open = false;
    });
    // It comes back after a refused connection; there is nothing else to do about one.
    this.#client.on('error', () => undefined);
    this.#client.on('message', (topic, payload, { qos, dup, retain }) => {
      const hash = payloadHash(payload);
      this.#record({ op: 'deliver', ...messageStamp(payload), topic, qos, dup, retain, hash });
    });
    this.#client.on('packetsend', (packet) => {
      if (packet.cmd !== 'publish') return;
      const { topic, qos, payload } = packet;
      const stamp = messageStamp(Buffer.from(payload));
      // MQTT.js does not set DUP when it sends again.
      if (this.#sent.has(stamp.seq)) this.#record({ op: 'resend', ...stamp, topic, qos });
      this.#sent.add(stamp.seq);
    });
  }

  /** Messages whose handshake is not over. */
  get unsettled(): number {
    return this.#unsettled;
  }

  async subscribe(filter: string, qos: 1 | 2): Promise<void> {
    const fields = { op: 'subscribe', topic: filter, qos } as const;
    if (!this.#client.connected) {
      await new Promise<void>((resolve) => this.#client.once('connect', () => resolve()));
    }
    this.#record({ ...fields, phase: 'invoke' });
    await this.#client.subscribeAsync(filter, { qos });
    this.#record(fields);
  }

  publish(topic: string, qos: 1 | 2): void {
    const publisher = this.clientId;
    const seq = ++this.#seq;
    const payload = messagePayload({ publisher, seq }, 64);
    const fields = { op: 'publish', publisher, seq, topic, qos } as const;
    this.#record({ ...fields, phase: 'invoke', hash: payloadHash(payload) });
    this.#unsettled += 1;
    this.#client.publish(topic, payload, { qos }, (error) => {
      this.#unsettled -= 1;
      this.#record({ ...fields, phase: error ? 'info' : 'ok' });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.endAsync(true);
  }

  #record(fields: Parameters<History['record']>[0]): void {
    this.#history.record({ client: this.clientId, connection: this.#connection, ...fields });
  }
}
