import type { IPublishPacket, MqttClient } from 'mqtt';
import { ClientError, clientError, openClient } from './client-connection.ts';
import { SUB_HELP, UsageError, matchesFilter, parseSubOptions } from './client-options.ts';
import type { SubOptions } from './client-options.ts';
import { formatMessage } from './message-format.ts';
import { disconnectOptions } from './pub-command.ts';
import type { Terminal } from './terminal.ts';

/** Exit code after `-W`, as mosquitto_sub has it. */
const TIMED_OUT = 27;
const RECONNECT_MS = 1_000;

/** `shoal sub`: resolves with the exit code when it has printed what it was asked for, or something failed. */
export async function subCommand(argv: readonly string[], terminal: Terminal): Promise<number> {
  if (argv.includes('--help')) {
    terminal.stdout.write(SUB_HELP);
    return 0;
  }
  let quiet = argv.includes('--quiet');
  try {
    const options = parseSubOptions(argv);
    quiet = options.quiet;
    const code = await subscribe(options, terminal);
    if (code === TIMED_OUT && !quiet) terminal.stderr.write('shoal sub: timed out\n');
    return code;
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.stderr.write(`shoal sub: ${error.message}; see shoal sub --help\n`);
      return 1;
    }
    if (!(error instanceof ClientError)) throw error;
    if (!quiet) terminal.stderr.write(`shoal sub: ${error.message}\n`);
    return error.exitCode;
  }
}

async function subscribe(options: SubOptions, terminal: Terminal): Promise<number> {
  const cleanUp: (() => void)[] = [];
  let client: MqttClient | undefined;
  let finished = false;
  try {
    return await new Promise<number>((resolve, reject) => {
      const finish = (code: number) => {
        finished = true;
        resolve(code);
      };
      if (options.timeoutSeconds !== undefined) {
        const timer = setTimeout(finish, options.timeoutSeconds * 1_000, TIMED_OUT);
        cleanUp.push(() => {
          clearTimeout(timer);
        });
      }
      const interrupted = () => {
        finish(0);
      };
      for (const signal of ['SIGINT', 'SIGTERM']) {
        terminal.signals.on(signal, interrupted);
        cleanUp.push(() => terminal.signals.off(signal, interrupted));
      }
      run(options, terminal, finish, () => finished)
        .then((opened) => {
          client = opened;
          opened.on('error', (error) => {
            reject(clientError(error));
          });
          // It may have ended before we came to know of the client.
          if (finished) opened.end();
        })
        .catch(reject);
    });
  } finally {
    for (const action of cleanUp) action();
    await client?.endAsync(false, disconnectOptions(options)).catch(() => undefined);
  }
}

async function run(
  options: SubOptions,
  terminal: Terminal,
  finish: (code: number) => void,
  isFinished: () => boolean,
): Promise<MqttClient> {
  const print = printer(options, terminal, finish, isFinished);
  const client = await openClient(options, { reconnectPeriod: RECONNECT_MS, resubscribe: true });
  // Not an event: MQTT.js acknowledges, and reads on, when this calls back.
  client.handleMessage = (packet, callback) => {
    if (isFinished()) return; // neither printed nor acknowledged
    print(packet, callback);
  };
  const refused = await subscribeAll(client, options);
  if (refused.length === options.topics.length) {
    client.end(true);
    throw new ClientError('all subscriptions were refused', refused[0]!);
  }
  if (refused.length > 0 && !options.quiet) {
    terminal.stderr.write(`shoal sub: ${refused.length} subscriptions were refused\n`);
  }
  if (options.exitAfterSubscribe) finish(0);
  return client;
}

/** Subscribes to all topics in one packet; returns the codes of the refused ones. */
function subscribeAll(client: MqttClient, options: SubOptions): Promise<number[]> {
  const { topics, qos, protocolVersion, properties } = options;
  const requests = Object.fromEntries(topics.map((topic) => [topic, { qos }]));
  const granted: number[] = [];
  return new Promise((resolve, reject) => {
    client.once('packetreceive', function suback(packet) {
      if (packet.cmd === 'suback') granted.push(...(packet.granted as number[]));
      else client.once('packetreceive', suback);
    });
    const subscribeOptions =
      protocolVersion === 5 ? { properties: properties.of('subscribe') } : {};
    client.subscribe(requests, { qos, ...subscribeOptions }, (error) => {
      const refused = granted.filter((code) => code >= 0x80);
      if (error !== null && refused.length === 0) reject(clientError(error));
      else resolve(refused);
    });
  });
}

/** Prints what passes the options, waits for a slow reader, and counts. */
function printer(
  options: SubOptions,
  { stdout, stderr }: Terminal,
  finish: (code: number) => void,
  isFinished: () => boolean,
): (packet: IPublishPacket, callback: () => void) => void {
  let printed = 0;
  return (packet, callback) => {
    if (options.retainedOnly && !packet.retain) {
      setImmediate(finish, 0);
      callback();
      return;
    }
    const hidden =
      (options.skipRetained && packet.retain) ||
      options.filterOut.some((filter) => matchesFilter(filter, packet.topic));
    if (hidden || isFinished() || printed === options.count) {
      callback();
      return;
    }
    const { bytes, problem } = formatMessage(packet, options);
    if (problem !== undefined && !options.quiet) stderr.write(`shoal sub: ${problem}\n`);
    const goOn = bytes.length === 0 || stdout.write(bytes);
    printed += 1;
    const last = printed === options.count;
    const next = () => {
      callback();
      // After the acknowledgement, which MQTT.js sends from the callback.
      if (last) setImmediate(finish, 0);
    };
    if (goOn) next();
    else stdout.once('drain', next);
  };
}
