import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { pubCommand } from '../src/cli/pub-command.ts';
import { subCommand } from '../src/cli/sub-command.ts';
import { createBroker } from '../src/create-broker.ts';
import type { Broker } from '../src/create-broker.ts';
import { FakeTerminal } from './fake-terminal.ts';

let broker: Broker;
let directory: string;
/** Resolved when a client with that id has subscribed to something. */
const subscribed = new Map<string, () => void>();

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'shoal-'));
  broker = await createBroker({
    config: { mqtt: { port: 0 }, limits: { connectionsMax: 100 } },
    hooks: {
      authenticate: ({ username, password }) =>
        username === undefined || (username === 'ann' && password?.toString() === '0123'),
      authorize: ({ action, topic, clientId }) => {
        if (action === 'subscribe') subscribed.get(clientId)?.();
        return !topic.startsWith('secret');
      },
    },
  });
});

afterAll(async () => {
  await broker.close();
  rmSync(directory, { recursive: true });
});

function address(): string[] {
  return ['-h', '127.0.0.1', '-p', String(broker.port)];
}

async function pub(argv: string[], stdin?: string | Buffer) {
  const terminal = new FakeTerminal();
  terminal.stdin.end(stdin);
  const code = await pubCommand([...address(), ...argv], terminal);
  return { code, err: terminal.stderr.text };
}

/** Runs `shoal sub` to its end; `act` is called once the broker has its subscriptions. */
async function sub(argv: string[], act: () => Promise<unknown> = () => Promise.resolve()) {
  const terminal = new FakeTerminal();
  const id = `sub-${Math.random()}`;
  const ready = new Promise<void>((resolve) => {
    subscribed.set(id, resolve);
  });
  const ended = subCommand([...address(), '-i', id, ...argv], terminal);
  await Promise.race([ready, ended]);
  await act();
  const code = await ended;
  subscribed.delete(id);
  return { code, out: terminal.stdout.text, err: terminal.stderr.text };
}

/** Starts `shoal sub` and resolves once the broker has its subscriptions. */
async function listening(id: string, argv: string[]) {
  const terminal = new FakeTerminal();
  const ready = new Promise<void>((resolve) => {
    subscribed.set(id, resolve);
  });
  const ended = subCommand([...address(), '-i', id, ...argv], terminal);
  await ready;
  const interrupt = () => {
    terminal.signals.emit('SIGINT');
    return ended;
  };
  return { terminal, ended, interrupt };
}

test.each(['mqttv31', 'mqttv311', 'mqttv5'])('a message goes through with %s', async (version) => {
  for (const qos of ['0', '1', '2']) {
    const result = await sub(['-V', version, '-t', 'a/#', '-q', qos, '-v', '-C', '1'], () =>
      pub(['-V', version, '-t', 'a/b', '-m', '-1', '-q', qos]),
    );
    expect(result).toEqual({ code: 0, out: 'a/b -1\n', err: '' });
  }
});

test('-l publishes each line of standard input, in order', async () => {
  const lines = Array.from({ length: 300 }, (_, index) => `line ${index}`);
  const { out } = await sub(['-t', 'lines', '-q', '1', '-C', '300'], () =>
    pub(['-t', 'lines', '-l', '-q', '1'], lines.join('\n')),
  );
  expect(out).toBe(`${lines.join('\n')}\n`);
});

test('-s publishes all of standard input, -f a file, -n nothing, --repeat several times', async () => {
  const file = join(directory, 'payload');
  writeFileSync(file, 'from\nfile');
  const { out } = await sub(['-t', 'x', '-C', '5', '-v', '-N', '-q', '1'], async () => {
    await pub(['-t', 'x', '-q', '1', '-s'], 'from\nstdin\n');
    await pub(['-t', 'x', '-q', '1', '-f', file]);
    await pub(['-t', 'x', '-q', '1', '-n']);
    await pub(['-t', 'x', '-q', '1', '-m', 'r', '--repeat', '2']);
  });
  expect(out).toBe('x from\nstdin\nx from\nfilex (null)x rx r');
});

test('retained messages: -r, -R, --retained-only', async () => {
  await pub(['-t', 'kept/1', '-m', 'old', '-r', '-q', '1']);
  const publish = () => pub(['-t', 'kept/2', '-m', 'new', '-q', '1']);
  expect((await sub(['-t', 'kept/#', '-C', '1'])).out).toBe('old\n');
  expect((await sub(['-t', 'kept/#', '-R', '-C', '1'], publish)).out).toBe('new\n');
  const only = await sub(['-t', 'kept/#', '--retained-only'], publish);
  expect([only.code, only.out]).toEqual([0, 'old\n']);
  await pub(['-t', 'kept/1', '-n', '-r', '-q', '1']);
});

test('-T leaves out, and several -t are all subscribed to', async () => {
  const { out } = await sub(['-t', 'p/#', '-t', 'q', '-T', 'p/+/no', '-C', '2'], async () => {
    await pub(['-t', 'p/1/no', '-m', 'a', '-q', '1']);
    await pub(['-t', 'p/1/yes', '-m', 'b', '-q', '1']);
    await pub(['-t', 'q', '-m', 'c', '-q', '1']);
  });
  expect(out).toBe('b\nc\n');
});

test('properties go there and are printed', async () => {
  const format = '%t|%p|%l|%q|%r|%x|%C|%R|%D|%P|%E|%F|%S\\t%%';
  const { out } = await sub(
    [
      '-V',
      '5',
      '-t',
      'props',
      '-F',
      format,
      '-C',
      '1',
      '-D',
      'subscribe',
      'subscription-identifier',
      '7',
    ],
    () =>
      pub([
        ...['-t', 'props', '-m', 'hi', '-q', '1'],
        ...['-D', 'PUBLISH', 'user-property', 'a', '1'],
        ...['-D', 'publish', 'user-property', 'a', '2'],
        ...['-D', 'publish', 'content-type', 'text/plain'],
        ...['-D', 'publish', 'response-topic', 'r/t'],
        ...['-D', 'publish', 'correlation-data', 'cd'],
        ...['-D', 'publish', 'message-expiry-interval', '3600'],
        ...['-D', 'publish', 'payload-format-indicator', '1'],
      ]),
  );
  expect(out).toBe('props|hi|2|0|0|6869|text/plain|r/t|cd|a:1 a:2|3600|1|7\t%\n');
});

test('%j is a JSON line, and %J has the payload as JSON', async () => {
  const { out, err } = await sub(['-t', 'json', '-F', '%j %J', '-C', '2', '-q', '1'], async () => {
    await pub(['-t', 'json', '-m', '{', '-q', '1']);
    await pub(['-t', 'json', '-m', '{"a":[1]}', '-q', '1']);
  });
  expect(err).toBe('shoal sub: the payload on topic "json" is not valid JSON\n');
  expect(out).toMatch(
    /"topic":"json".*"payload":"\{\\"a\\":\[1\]\}"\} .*"payload":\{"a":\[1\]\}\}\n$/,
  );
});

test('a session goes on with -c: what was not printed comes later', async () => {
  const session = ['-i', 'steady', '-c', '-q', '1', '-t', 'queue'];
  const first = new FakeTerminal();
  expect(await subCommand([...address(), ...session, '-E'], first)).toBe(0);
  await pub(['-t', 'queue', '-q', '1', '-l'], 'one\ntwo\nthree');
  for (const expected of ['one\n', 'two\nthree\n']) {
    const terminal = new FakeTerminal();
    const count = String(expected.split('\n').length - 1);
    expect(await subCommand([...address(), ...session, '-C', count], terminal)).toBe(0);
    expect(terminal.stdout.text).toBe(expected);
  }
});

test('a will is published when the connection breaks, and not when it ends', async () => {
  const will = ['--will-topic', 'wills', '--will-payload', 'gone', '--will-qos', '1'];
  const dying = await listening('dying', [...will, '-t', 'nothing']);
  const { out } = await sub(['-t', 'wills', '-C', '2'], async () => {
    await pub([...will, '-t', 'other', '-m', 'x']);
    await pub(['-t', 'wills', '-m', 'first', '-q', '1']);
    broker.disconnect('dying');
  });
  expect(out).toBe('first\ngone\n');
  expect(await dying.interrupt()).toBe(0);
});

test('a subscriber comes back by itself when the connection breaks', async () => {
  const patient = await listening('patient', ['-t', 'again', '-C', '2']);
  await pub(['-t', 'again', '-m', 'x', '-q', '1']);
  await patient.terminal.stdout.until(/x/);
  const back = new Promise<void>((resolve) => {
    subscribed.set('patient', resolve);
  });
  broker.disconnect('patient');
  await back;
  await pub(['-t', 'again', '-m', 'y', '-q', '1']);
  expect(await patient.ended).toBe(0);
  expect(patient.terminal.stdout.text).toBe('x\ny\n');
});

test('a subscriber whose session was taken over does not take it back', async () => {
  const first = await listening('twin', ['-V', '5', '-t', 'a']);
  const second = await listening('twin', ['-V', '5', '-t', 'a']);
  expect(await first.ended).toBe(0x8e);
  expect(first.terminal.stderr.text).toBe('shoal sub: another client took over the session\n');
  expect(await second.interrupt()).toBe(0);
});

test('SIGINT ends sub with 0', async () => {
  const { interrupt, terminal } = await listening('interrupted', ['-t', 'x', '-v']);
  expect(await interrupt()).toBe(0);
  expect(terminal.signals.eventNames()).toEqual([]);
});

describe('exit codes', () => {
  test('27 when the time of -W is over', async () => {
    expect(await sub(['-t', 'silence', '-W', '1'])).toEqual({
      code: 27,
      out: '',
      err: 'shoal sub: timed out\n',
    });
  });

  test('the return or reason code of CONNACK', async () => {
    const wrong = ['-u', 'ann', '-P', '123', '-t', 'a'];
    expect((await pub([...wrong, '-m', 'x'])).code).toBe(5);
    expect((await pub([...wrong, '-m', 'x', '-V', '5'])).code).toBe(0x87);
    const { code, err } = await sub([...wrong, '-V', '5']);
    expect([code, err]).toEqual([0x87, 'shoal sub: Connection refused: Not authorized\n']);
    expect((await pub(['-u', 'ann', '-P', '0123', '-t', 'a', '-m', 'x'])).code).toBe(0);
  });

  test('the reason code of SUBACK when everything is refused', async () => {
    expect((await sub(['-t', 'secret/1'])).code).toBe(0x80);
    expect((await sub(['-V', '5', '-t', 'secret/1', '-t', 'secret/2'])).code).toBe(0x87);
    const { code, err } = await sub(['-t', 'secret', '-t', 'open', '-E']);
    expect([code, err]).toEqual([0, 'shoal sub: 1 subscriptions were refused\n']);
  });

  test('the reason code of PUBACK', async () => {
    const { code, err } = await pub(['-V', '5', '-t', 'secret', '-m', 'x', '-q', '1']);
    expect([code, err]).toEqual([0x87, 'shoal pub: Publish error: Not authorized\n']);
  });

  test('1 when nobody listens', async () => {
    const terminal = new FakeTerminal();
    const argv = ['-h', '127.0.0.1', '-p', '1', '-t', 'a', '-m', 'x'];
    expect(await pubCommand(argv, terminal)).toBe(1);
    expect(terminal.stderr.text).toBe(
      'shoal pub: cannot connect to 127.0.0.1:1: connection refused\n',
    );
    const quiet = new FakeTerminal();
    expect(await pubCommand([...argv, '--quiet'], quiet)).toBe(1);
    expect(quiet.stderr.text).toBe('');
  });

  test('1 when the file is not there, without connecting', async () => {
    expect(await pub(['-t', 'a', '-f', join(directory, 'no')])).toMatchObject({ code: 1 });
  });

  test.each([
    ['pub', ['-t', 'a'], 'both topic (-t) and message (-m, -f, -n, -s or -l) must be given'],
    ['pub', ['-m', 'a'], 'both topic (-t) and message (-m, -f, -n, -s or -l) must be given'],
    ['pub', ['-t', 'a', '-m', 'a', '-n'], 'only one of -m, -f, -n, -s and -l can be given'],
    ['pub', ['-t', 'a/#', '-m', 'a'], 'the topic (-t) must not contain + or #'],
    ['pub', ['-t', 'a', '-m'], '-m needs a value'],
    ['pub', ['-t', 'a', '-m', 'a', '-q', '3'], '-q must be an integer from 0 to 2'],
    ['pub', ['-t', 'a', '-m', 'a', '--foo'], "unknown option '--foo'"],
    ['pub', ['-t', 'a', '-m', 'a', '-c'], '-c needs a client id (-i)'],
    ['pub', ['-t', 'a', '-m', 'a', '-V', '6'], '-V must be mqttv5, mqttv311 or mqttv31'],
    ['pub', ['-t', 'a', '-m', 'a', '--will-qos', '1'], '--will-qos needs --will-topic'],
    ['pub', ['-t', 'a', '-m', 'a', '-D', 'publish', 'foo', 'x'], '-D: unknown property name'],
    [
      'pub',
      ['-t', 'a', '-m', 'a', '-D', 'publish', 'will-delay-interval', '1'],
      '-D: publish has no will-delay-interval',
    ],
    ['pub', ['-t', 'a', '-m', 'a', '-x', '5', '-V', '311'], '-D and -x need -V mqttv5'],
    [
      'pub',
      ['-m', 'a', '-L', 'http://x/y'],
      '-L must be mqtt://[user[:password]@]host[:port]/topic',
    ],
    ['sub', [], 'a topic (-t) must be given'],
    ['sub', ['-t', 'a/#/b'], '-t must be a topic filter: + for one level, # as the last one'],
    ['sub', ['-t', 'a', '-C', '0'], `-C must be an integer from 1 to ${Number.MAX_SAFE_INTEGER}`],
    [
      'sub',
      ['-t', 'a', '-R', '--retained-only'],
      'only one of -R and --retained-only can be given',
    ],
  ] as const)('1 for wrong usage: %s %j', async (command, argv, problem) => {
    const { code, err } = command === 'pub' ? await pub([...argv]) : await sub([...argv]);
    expect([code, err]).toEqual([1, `shoal ${command}: ${problem}; see shoal ${command} --help\n`]);
  });
});

test('-L names broker, user and topic', async () => {
  const url = `mqtt://ann:0123@127.0.0.1:${broker.port}/by%20url`;
  const { out } = await sub(['-t', '#', '-C', '1', '-v'], async () => {
    const terminal = new FakeTerminal();
    expect(await pubCommand(['-L', url, '-m', 'x', '-q', '1'], terminal)).toBe(0);
  });
  expect(out).toBe('by url x\n');
});
