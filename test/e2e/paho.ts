import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type {
  ClientKind,
  ClientOptions,
  IncomingMessage,
  MessageProperties,
  OutgoingMessage,
  Subscriber,
  SubscriberOptions,
} from './client-kind.ts';
import { LineProcess } from './line-process.ts';
import { Mailbox } from './mailbox.ts';

/** Debian's Python, which sees Debian's modules; another `python3` may come first in the PATH. */
const PYTHON = '/usr/bin/python3';
const SCRIPT = join(import.meta.dirname, 'paho/client.py');

/** What the script prints. */
type PahoEvent =
  | { readonly event: 'connected'; readonly code: number; readonly sessionPresent: boolean }
  | { readonly event: 'subscribed'; readonly codes: readonly number[] }
  | { readonly event: 'published' }
  | { readonly event: 'closed'; readonly code: number }
  | ({
      readonly event: 'message';
      readonly payload: string;
      readonly properties: PahoProperties;
    } & Omit<IncomingMessage, 'payload' | 'properties'>);

/** Properties as paho names them. */
interface PahoProperties {
  readonly UserProperty?: readonly (readonly [string, string])[];
  readonly ResponseTopic?: string;
  readonly CorrelationData?: string;
  readonly ContentType?: string;
  readonly MessageExpiryInterval?: number;
  readonly SubscriptionIdentifier?: readonly number[];
  readonly TopicAlias?: number;
}

/** Python's paho-mqtt, a process for each client. */
export const paho: ClientKind = {
  name: 'paho-mqtt',
  versions: [3, 4, 5],
  missing() {
    const { status } = spawnSync(PYTHON, ['-c', 'import paho.mqtt.client']);
    return status === 0 ? undefined : `paho-mqtt is not installed for ${PYTHON}`;
  },
  async subscribe(options) {
    const client = new PahoClient();
    try {
      await client.connect(options);
      await client.subscribe(options);
    } catch (error) {
      await client.kill();
      throw error;
    }
    return client;
  },
  async publish(options, messages) {
    await using client = new PahoClient();
    await client.connect(options);
    for (const message of messages) await client.publish(message);
    await client.end();
  },
};

class PahoClient implements Subscriber {
  readonly closed: Promise<number | undefined>;
  readonly #process: LineProcess;
  readonly #messages = new Mailbox<IncomingMessage>();
  readonly #replies = new Mailbox<Exclude<PahoEvent, { readonly event: 'message' | 'closed' }>>();

  constructor() {
    let close: (code: number | undefined) => void = () => undefined;
    this.closed = new Promise((resolve) => {
      close = resolve;
    });
    this.#process = new LineProcess(PYTHON, ['-u', SCRIPT], (line) => {
      const event = JSON.parse(line) as PahoEvent;
      switch (event.event) {
        case 'message':
          this.#messages.put(incoming(event));
          return;
        case 'closed':
          // Below are paho's own numbers: 7 is a connection that was lost.
          close(event.code >= 0x80 ? event.code : undefined);
          return;
        default:
          this.#replies.put(event);
      }
    });
    const ended = () => {
      const error = new Error(`the client ended: ${this.#process.errors}`);
      this.#messages.fail(error);
      this.#replies.fail(error);
      close(undefined);
    };
    this.#process.ended.then(ended, ended);
  }

  get pid(): number {
    return this.#process.pid;
  }

  async connect(options: ClientOptions | SubscriberOptions): Promise<void> {
    const { port, version, clientId = randomUUID().slice(0, 20), username, password } = options;
    const { persistent = false, will } = 'filters' in options ? options : {};
    this.#send('connect', {
      port,
      version,
      clientId,
      clean: !persistent,
      properties: persistent && version === 5 ? { SessionExpiryInterval: 3600 } : {},
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(will === undefined ? {} : { will: outgoingWill(will) }),
    });
    const reply = await this.#replies.take();
    if (reply.event !== 'connected') throw new Error(`${reply.event} instead of connected`);
    if (reply.code !== 0) throw new Error(`refused with ${reply.code}`);
  }

  async subscribe({ filters, qos = 0, subscriptionIdentifier }: SubscriberOptions): Promise<void> {
    this.#send('subscribe', {
      filters,
      qos,
      properties:
        subscriptionIdentifier === undefined
          ? {}
          : { SubscriptionIdentifier: subscriptionIdentifier },
    });
    const reply = await this.#replies.take();
    if (reply.event !== 'subscribed') throw new Error(`${reply.event} instead of subscribed`);
    if (reply.codes.some((code) => code >= 0x80)) throw new Error(`refused: ${reply.codes.join()}`);
  }

  async publish(message: OutgoingMessage): Promise<void> {
    this.#send('publish', outgoing(message));
    await this.#replies.take();
  }

  next(): Promise<IncomingMessage> {
    return this.#messages.take();
  }

  async end(): Promise<void> {
    this.#send('disconnect', {});
    await this.closed;
    await this.kill();
  }

  async kill(): Promise<void> {
    await this.#process.signal('SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #send(command: string, fields: object): void {
    this.#process.write(JSON.stringify({ do: command, ...fields }));
  }
}

function outgoing({ topic, payload, qos = 0, retain = false, properties = {} }: OutgoingMessage) {
  return {
    topic,
    payload: Buffer.from(payload).toString('base64'),
    qos,
    retain,
    properties: pahoProperties(properties),
  };
}

function outgoingWill(will: NonNullable<SubscriberOptions['will']>) {
  const { delaySeconds } = will;
  return {
    ...outgoing(will),
    properties: delaySeconds === undefined ? {} : { WillDelayInterval: delaySeconds },
  };
}

function pahoProperties(properties: MessageProperties): PahoProperties {
  const { userProperties, responseTopic, correlationData, contentType } = properties;
  const { messageExpiryInterval, topicAlias } = properties;
  return {
    ...(userProperties === undefined ? {} : { UserProperty: userProperties }),
    ...(responseTopic === undefined ? {} : { ResponseTopic: responseTopic }),
    ...(correlationData === undefined ? {} : { CorrelationData: correlationData }),
    ...(contentType === undefined ? {} : { ContentType: contentType }),
    ...(messageExpiryInterval === undefined
      ? {}
      : { MessageExpiryInterval: messageExpiryInterval }),
    ...(topicAlias === undefined ? {} : { TopicAlias: topicAlias }),
  };
}

function incoming(event: Extract<PahoEvent, { readonly event: 'message' }>): IncomingMessage {
  const { topic, payload, qos, retain, properties } = event;
  const { UserProperty, ResponseTopic, CorrelationData, ContentType } = properties;
  const { MessageExpiryInterval, SubscriptionIdentifier } = properties;
  return {
    topic,
    payload: Buffer.from(payload, 'base64'),
    qos,
    retain,
    properties: {
      userProperties: UserProperty ?? [],
      ...(ResponseTopic === undefined ? {} : { responseTopic: ResponseTopic }),
      ...(CorrelationData === undefined ? {} : { correlationData: CorrelationData }),
      ...(ContentType === undefined ? {} : { contentType: ContentType }),
      ...(MessageExpiryInterval === undefined
        ? {}
        : { messageExpiryInterval: MessageExpiryInterval }),
      ...(SubscriptionIdentifier === undefined
        ? {}
        : { subscriptionIdentifiers: SubscriptionIdentifier }),
    },
  };
}
