import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { IClientPublishOptions, MqttClient } from 'mqtt';
import { ClientError, clientError, closeClient, openClient } from './client-connection.ts';
import { PUB_HELP, UsageError, parsePubOptions } from './client-options.ts';
import type { PubOptions } from './client-options.ts';
import type { Terminal } from './terminal.ts';

/** `shoal pub`: resolves with the exit code when everything is published and acknowledged, or something failed. */
export async function pubCommand(argv: readonly string[], terminal: Terminal): Promise<number> {
  if (argv.includes('--help')) {
    terminal.stdout.write(PUB_HELP);
    return 0;
  }
  let quiet = argv.includes('--quiet');
  try {
    const options = parsePubOptions(argv);
    quiet = options.quiet;
    await publishAll(options, terminal);
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.stderr.write(`shoal pub: ${error.message}; see shoal pub --help\n`);
      return 1;
    }
    if (!(error instanceof ClientError)) throw error;
    if (!quiet) terminal.stderr.write(`shoal pub: ${error.message}\n`);
    return error.exitCode;
  }
}

async function publishAll(options: PubOptions, terminal: Terminal): Promise<void> {
  // Read first: a file that is not there must not cost a connection.
  const file = options.source.kind === 'file' ? await readPayload(options.source.path) : undefined;
  const client = await openClient(options, { reconnectPeriod: 0 });
  let finished = false;
  const lost = new Promise<never>((_, reject) => {
    client.on('error', (error) => {
      reject(clientError(error));
    });
    client.on('disconnect', ({ reasonCode = 0 }) => {
      reject(new ClientError(`the broker disconnected, code ${reasonCode}`, reasonCode || 1));
    });
    client.on('close', () => {
      if (!finished) reject(new ClientError('the connection was lost'));
    });
  });
  try {
    await Promise.race([publishSource(client, options, file, terminal.stdin), lost]);
  } finally {
    finished = true;
    lost.catch(() => undefined);
    await closeClient(client, options);
  }
}

async function publishSource(
  client: MqttClient,
  options: PubOptions,
  file: Buffer | undefined,
  stdin: Readable,
): Promise<void> {
  const { source, topic, qos, retain, protocolVersion, properties, repeat } = options;
  const publish: IClientPublishOptions = {
    qos,
    retain,
    ...(protocolVersion === 5 ? { properties: properties.of('publish') } : {}),
  };
  const window = new Window(options.inflightMax);
  const send = (payload: Buffer) =>
    window.add(() => client.publishAsync(topic, payload, publish).catch(fail));
  if (source.kind === 'stdin-lines') {
    for await (const line of lines(stdin)) await send(line);
  } else {
    let payload: Buffer;
    if (source.kind === 'stdin') payload = Buffer.concat((await stdin.toArray()) as Buffer[]);
    else payload = file ?? Buffer.from(source.kind === 'text' ? source.text : '');
    for (let time = 0; time < repeat; time++) await send(payload);
  }
  await window.empty();
}

function fail(error: Error): never {
  throw clientError(error);
}

/** At most so many things under way at a time; the first failure is everybody's. */
class Window {
  readonly #size: number;
  readonly #pending = new Set<Promise<unknown>>();
  constructor(size: number) {
    this.#size = size;
  }

  async add(start: () => Promise<unknown>): Promise<void> {
    while (this.#pending.size >= this.#size) await Promise.race(this.#pending);
    const task = start().finally(() => this.#pending.delete(task));
    // Its failure is seen by whoever waits next.
    task.catch(() => undefined);
    this.#pending.add(task);
  }

  async empty(): Promise<void> {
    await Promise.all(this.#pending);
  }
}

async function readPayload(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new ClientError(`cannot read ${path} (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** The lines of a stream as bytes, without their ends; a last line may lack one. */
export async function* lines(stream: Readable): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  for await (const part of stream) {
    let chunk = Buffer.from(part as Buffer | string);
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a)) {
      yield Buffer.concat([...rest, chunk.subarray(0, end)]);
      rest = [];
      chunk = chunk.subarray(end + 1);
    }
    if (chunk.length > 0) rest.push(chunk);
  }
  if (rest.length > 0) yield Buffer.concat(rest);
}
