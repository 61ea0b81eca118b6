import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
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
import { LineProcess, run } from './line-process.ts';
import { Mailbox } from './mailbox.ts';

const VERSION_NAMES = { 3: 'mqttv31', 4: 'mqttv311', 5: 'mqttv5' } as const;

/** Starts the line of a message, among those of `-d`. The last field is the topic, which may hold anything. */
const MESSAGE = 'MESSAGE';
const FORMAT = [MESSAGE, '%q', '%r', '%x', '%R', '%D', '%C', '%E', '%P', '%S', '%t'].join('\\t');

/** mosquitto_sub and mosquitto_pub: a process for each subscriber, and for each message. */
export const mosquittoClients: ClientKind = {
  name: 'mosquitto_pub and mosquitto_sub',
  versions: [3, 4, 5],
  missing() {
    for (const command of ['mosquitto_sub', 'mosquitto_pub', 'stdbuf']) {
      const { error } = spawnSync(command, ['--help']);
      if (error !== undefined) return `${command} is not installed`;
    }
    return undefined;
  },
  async subscribe(options) {
    const subscriber = new MosquittoSub(options);
    await subscriber.subscribed;
    return subscriber;
  },
  async publish(options, messages) {
    for (const message of messages) await publish(options, message);
  },
};

/** The arguments that both commands have in common. */
export function connectArguments(options: ClientOptions): string[] {
  const { port, version, clientId, username, password } = options;
  return [
    ...['-h', '127.0.0.1', '-p', String(port), '-V', VERSION_NAMES[version]],
    ...(clientId === undefined ? [] : ['-i', clientId]),
    ...(username === undefined ? [] : ['-u', username]),
    ...(password === undefined ? [] : ['-P', password]),
  ];
}

async function publish(options: ClientOptions, message: OutgoingMessage): Promise<void> {
  const { topic, payload, qos = 0, retain = false, properties = {} } = message;
  const args = [
    ...connectArguments(options),
    ...['-t', topic, '-q', String(qos)],
    ...(retain ? ['-r'] : []),
    ...publishProperties(properties),
  ];
  if (payload.length < 10_000 && typeof payload === 'string') {
    await run('mosquitto_pub', [...args, ...(payload === '' ? ['-n'] : ['-m', payload])]);
    return;
  }
  const file = join(tmpdir(), `shoal-e2e-${randomUUID()}`);
  writeFileSync(file, payload);
  try {
    await run('mosquitto_pub', [...args, '-f', file]);
  } finally {
    rmSync(file);
  }
}

function publishProperties(properties: MessageProperties): string[] {
  const values: [string, string | number | undefined][] = [
    ['response-topic', properties.responseTopic],
    ['correlation-data', properties.correlationData],
    ['content-type', properties.contentType],
    ['message-expiry-interval', properties.messageExpiryInterval],
    ['topic-alias', properties.topicAlias],
  ];
  return [
    ...values.flatMap(([name, value]) =>
      value === undefined ? [] : ['-D', 'publish', name, String(value)],
    ),
    ...(properties.userProperties ?? []).flatMap(([name, value]) => [
      ...['-D', 'publish', 'user-property', name, value],
    ]),
  ];
}

class MosquittoSub implements Subscriber {
  /** Resolves with SUBACK. */
  readonly subscribed: Promise<void>;
  readonly closed: Promise<number | undefined>;
  readonly #process: LineProcess;
  readonly #messages = new Mailbox<IncomingMessage>();

  constructor(options: SubscriberOptions) {
    let subscribed: () => void = () => undefined;
    let failed: (error: Error) => void = () => undefined;
    let closed: (code: number | undefined) => void = () => undefined;
    this.subscribed = new Promise((resolve, reject) => {
      subscribed = resolve;
      failed = reject;
    });
    this.closed = new Promise((resolve) => {
      closed = resolve;
    });
    let connects = 0;
    // With -d it says when SUBACK has come, and with stdbuf it does so at once.
    const args = ['-oL', 'mosquitto_sub', '-d', ...subscribeArguments(options), '-F', FORMAT];
    this.#process = new LineProcess('stdbuf', args, (line) => {
      if (line.startsWith(`${MESSAGE}\t`)) this.#messages.put(parseMessage(line));
      if (line.startsWith('Subscribed')) subscribed();
      const disconnect = /^Received DISCONNECT \((\d+)\)/.exec(line);
      if (disconnect !== null) closed(Number(disconnect[1]));
      // In 3.x it comes back after a second, and says nothing before.
      if (line.endsWith('sending CONNECT')) {
        connects += 1;
        if (connects > 1) closed(undefined);
      }
    });
    this.#process.ended.then((code) => {
      const error = new Error(`mosquitto_sub ended with ${String(code)}: ${this.#process.errors}`);
      failed(error);
      this.#messages.fail(error);
      closed(undefined);
    }, failed);
  }

  get pid(): number {
    return this.#process.pid;
  }

  next(): Promise<IncomingMessage> {
    return this.#messages.take();
  }

  /** In 5.0 it does so with reason code 0x04, Disconnect with Will Message. */
  async end(): Promise<void> {
    await this.#process.signal('SIGTERM');
  }

  async kill(): Promise<void> {
    await this.#process.signal('SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

function subscribeArguments(options: SubscriberOptions): string[] {
  const { filters, qos = 0, will, version, persistent = false, subscriptionIdentifier } = options;
  return [
    ...connectArguments(options),
    ...filters.flatMap((filter) => ['-t', filter]),
    ...['-q', String(qos), '-k', '5'],
    // It would come back for ever to a broker that is gone, should a test not get to its end.
    ...['-W', '120'],
    ...(persistent ? ['-c'] : []),
    ...(persistent && version === 5 ? ['-x', '3600'] : []),
    ...(subscriptionIdentifier === undefined
      ? []
      : ['-D', 'subscribe', 'subscription-identifier', String(subscriptionIdentifier)]),
    ...(will === undefined
      ? []
      : [
          ...['--will-topic', will.topic, '--will-payload', String(will.payload)],
          ...['--will-qos', String(will.qos ?? 0)],
          ...(will.retain === true ? ['--will-retain'] : []),
          ...(will.delaySeconds === undefined
            ? []
            : ['-D', 'will', 'will-delay-interval', String(will.delaySeconds)]),
        ]),
  ];
}

function parseMessage(line: string): IncomingMessage {
  const [, qos, retain, payload = '', response, correlation, content, expiry, user, ids, topic] =
    line.split('\t');
  return {
    topic: topic ?? '',
    payload: Buffer.from(payload, 'hex'),
    qos: Number(qos),
    retain: retain === '1',
    properties: {
      userProperties: pairs(user ?? ''),
      ...(response ? { responseTopic: response } : {}),
      ...(correlation ? { correlationData: correlation } : {}),
      ...(content ? { contentType: content } : {}),
      ...(expiry ? { messageExpiryInterval: Number(expiry) } : {}),
      ...(ids ? { subscriptionIdentifiers: ids.split(' ').map(Number) } : {}),
    },
  };
}

/** `a:1 b:2`, as `%P` prints it. */
function pairs(text: string): [string, string][] {
  return text
    .split(' ')
    .filter((pair) => pair !== '')
    .map((pair) => [pair.slice(0, pair.indexOf(':')), pair.slice(pair.indexOf(':') + 1)]);
}
