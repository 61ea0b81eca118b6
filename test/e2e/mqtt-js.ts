import { connect } from 'mqtt';
import type { IClientOptions, IPublishPacket, MqttClient } from 'mqtt';
import type {
  ClientKind,
  ClientOptions,
  IncomingMessage,
  MessageProperties,
  OutgoingMessage,
  Subscriber,
  SubscriberOptions,
} from './client-kind.ts';
import { Mailbox } from './mailbox.ts';

/** MQTT.js, in this process. */
export const mqttJs: ClientKind = {
  name: 'MQTT.js',
  versions: [3, 4, 5],
  missing: () => undefined,
  async subscribe(options) {
    const subscriber = new MqttJsSubscriber(options);
    await subscriber.subscribe();
    return subscriber;
  },
  async publish(options, messages) {
    const client = connect(connectOptions(options));
    await connected(client);
    for (const message of messages) await publish(client, message);
    await client.endAsync();
  },
};

/** How MQTT.js connects to Shoal, without coming back by itself. */
export function connectOptions(options: ClientOptions): IClientOptions {
  const { port, version, clientId, username, password } = options;
  return {
    host: '127.0.0.1',
    port,
    protocol: 'mqtt',
    protocolVersion: version,
    protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    reconnectPeriod: 0,
    ...(clientId === undefined ? {} : { clientId }),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
}

/** Resolves with CONNACK, and says whether a session was there. Rejects when the broker refuses. */
export function connected(client: MqttClient): Promise<boolean> {
  return new Promise((resolve, reject) => {
    client.once('connect', ({ sessionPresent }) => {
      resolve(sessionPresent);
    });
    client.once('error', reject);
    client.once('close', () => {
      reject(new Error('the connection was closed'));
    });
  });
}

/** Publishes one message, and waits for its acknowledgement. */
export async function publish(client: MqttClient, message: OutgoingMessage): Promise<void> {
  const { topic, payload, qos = 0, retain = false, properties } = message;
  await client.publishAsync(topic, payload, {
    qos,
    retain,
    ...(properties === undefined ? {} : { properties: mqttJsProperties(properties) }),
  });
}

class MqttJsSubscriber implements Subscriber {
  readonly pid = undefined;
  readonly closed: Promise<number | undefined>;
  readonly #options: SubscriberOptions;
  readonly #client: MqttClient;
  readonly #messages = new Mailbox<IncomingMessage>();

  constructor(options: SubscriberOptions) {
    this.#options = options;
    const { version, persistent = false, will } = options;
    const client = connect({
      ...connectOptions(options),
      clean: !persistent,
      ...(persistent && version === 5 ? { properties: { sessionExpiryInterval: 3600 } } : {}),
      ...(will === undefined
        ? {}
        : {
            will: {
              topic: will.topic,
              payload: Buffer.from(will.payload),
              qos: will.qos ?? 0,
              retain: will.retain ?? false,
              ...(will.delaySeconds === undefined
                ? {}
                : { properties: { willDelayInterval: will.delaySeconds } }),
            },
          }),
    });
    this.#client = client;
    client.on('message', (topic, _payload, packet) => {
      this.#messages.put(incoming(topic, packet));
    });
    this.closed = new Promise((resolve) => {
      client.on('disconnect', ({ reasonCode }) => {
        resolve(reasonCode);
      });
      client.on('close', () => {
        this.#messages.fail(new Error('the connection was closed'));
        resolve(undefined);
      });
    });
  }

  async subscribe(): Promise<void> {
    await connected(this.#client);
    const { filters, qos = 0, subscriptionIdentifier } = this.#options;
    await this.#client.subscribeAsync([...filters], {
      qos,
      ...(subscriptionIdentifier === undefined ? {} : { properties: { subscriptionIdentifier } }),
    });
  }

  next(): Promise<IncomingMessage> {
    return this.#messages.take();
  }

  async end(): Promise<void> {
    await this.#client.endAsync();
  }

  /** The socket goes away without DISCONNECT: all that a broker sees of a process that is killed. */
  async kill(): Promise<void> {
    this.#client.stream.destroy();
    await this.closed;
    await this.#client.endAsync(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.endAsync(true);
  }
}

function incoming(
  topic: string,
  { payload, qos, retain, properties = {} }: IPublishPacket,
): IncomingMessage {
  const { userProperties, responseTopic, correlationData, contentType } = properties;
  const { messageExpiryInterval, subscriptionIdentifier } = properties;
  return {
    topic,
    payload: Buffer.from(payload),
    qos,
    retain,
    properties: {
      userProperties: Object.entries(userProperties ?? {}).flatMap(([name, values]) =>
        [values].flat().map((value): [string, string] => [name, value]),
      ),
      ...(responseTopic === undefined ? {} : { responseTopic }),
      ...(correlationData === undefined ? {} : { correlationData: correlationData.toString() }),
      ...(contentType === undefined ? {} : { contentType }),
      ...(messageExpiryInterval === undefined ? {} : { messageExpiryInterval }),
      ...(subscriptionIdentifier === undefined
        ? {}
        : { subscriptionIdentifiers: [subscriptionIdentifier].flat() }),
    },
  };
}

function mqttJsProperties(
  properties: MessageProperties,
): NonNullable<IPublishPacket['properties']> {
  const { userProperties = [], correlationData, responseTopic, contentType } = properties;
  const { messageExpiryInterval, topicAlias } = properties;
  const byName: Record<string, string[]> = {};
  for (const [name, value] of userProperties) (byName[name] ??= []).push(value);
  return {
    // mqtt-packet writes no packet at all for an empty object.
    ...(userProperties.length === 0 ? {} : { userProperties: byName }),
    ...(correlationData === undefined ? {} : { correlationData: Buffer.from(correlationData) }),
    ...(responseTopic === undefined ? {} : { responseTopic }),
    ...(contentType === undefined ? {} : { contentType }),
    ...(messageExpiryInterval === undefined ? {} : { messageExpiryInterval }),
    ...(topicAlias === undefined ? {} : { topicAlias }),
  };
}
