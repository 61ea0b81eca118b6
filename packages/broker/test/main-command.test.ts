import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import { mainCommand } from '../src/cli/main-command.ts';
import { FakeTerminal } from './fake-terminal.ts';

async function run(argv: string[], terminal = new FakeTerminal()) {
  const code = await mainCommand(argv, terminal);
  return { code, out: terminal.stdout.text, err: terminal.stderr.text };
}

const ports = ['--port', '0', '--http-port', '0'];

test('--version prints one line', async () => {
  expect(await run(['--version'])).toEqual({
    code: 0,
    out: expect.stringMatching(/^shoal \d+\.\d+\.\d+\n$/),
    err: '',
  });
});

test.each([
  [['--help'], 'Usage: shoal COMMAND'],
  [['help', 'start'], 'Usage: shoal start'],
  [['start', '--help'], 'Usage: shoal start'],
  [['config', '--help'], 'Usage: shoal config check'],
  [['pub', '--help'], 'Usage: shoal pub'],
  [['sub', '--help'], 'Usage: shoal sub'],
])('%j prints help', async (argv, beginning) => {
  const { code, out } = await run(argv);
  expect([code, out.startsWith(beginning)]).toEqual([0, true]);
});

test('no command, or an unknown one, is wrong usage', async () => {
  expect((await run([])).code).toBe(2);
  expect(await run(['strat'])).toEqual({
    code: 2,
    out: '',
    err: "shoal: unknown command 'strat'; see shoal --help\n",
  });
});

describe('config check', () => {
  test('says that a file is fine', async () => {
    const terminal = new FakeTerminal({ files: { 'a.yaml': 'mqtt: { port: 1 }' } });
    expect(await run(['config', 'check', 'a.yaml'], terminal)).toEqual({
      code: 0,
      out: 'a.yaml: ok\n',
      err: '',
    });
  });

  test('prints every problem on a line of its own', async () => {
    const terminal = new FakeTerminal({ files: { 'a.yaml': 'mqtt: { port: x, prot: 1 }' } });
    expect(await run(['config', 'check', 'a.yaml'], terminal)).toEqual({
      code: 2,
      out: '',
      err:
        'shoal: mqtt.port: must be an integer from 0 to 65535 (a.yaml)\n' +
        'shoal: mqtt.prot: unknown setting (a.yaml)\n',
    });
  });

  test('needs a file', async () => {
    expect((await run(['config', 'check'])).code).toBe(2);
    expect((await run(['config'])).code).toBe(2);
  });
});

describe('start', () => {
  test('refuses a configuration it cannot use, in one line for each problem', async () => {
    expect(await run(['start', '--port', 'x', '--host', '0.0.0.0'])).toEqual({
      code: 2,
      out: '',
      err: 'shoal: mqtt.port: must be an integer from 0 to 65535 (--port)\n',
    });
    const { code, err } = await run(['start', '--host', '0.0.0.0']);
    expect(code).toBe(2);
    expect(err).toMatch(/^shoal: mqtt\.allowAnonymous: .*--allow-anonymous.*\n$/);
  });

  test.each([
    ['MQTT', (port: number) => ['--port', `${port}`, '--http-port', '0'], 'mqtt.port (--port)'],
    [
      'HTTP',
      (port: number) => ['--port', '0', '--http-port', `${port}`],
      'http.port (--http-port)',
    ],
  ])('says which setting to change when the %s port is in use', async (_, flags, setting) => {
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    const { port } = server.address() as AddressInfo;
    try {
      const { code, err } = await run(['start', ...flags(port)]);
      expect([code, err]).toEqual([
        1,
        `shoal: cannot listen on 127.0.0.1:${port}: the port is in use; change ${setting}\n`,
      ]);
    } finally {
      server.close();
    }
  });

  test.each(['SIGTERM', 'SIGINT'])('runs until %s and ends with 0', async (signal) => {
    const terminal = new FakeTerminal();
    const ended = run(['start', ...ports, '--node-id', 'n1'], terminal);
    await terminal.stdout.until(/"event":"broker.listening"/);
    terminal.signals.emit(signal);
    const { code, out, err } = await ended;
    expect([code, err, terminal.exits]).toEqual([0, '', []]);
    const events = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; nodeId: string });
    expect(events.map(({ event }) => event)).toEqual([
      'config.loaded',
      'store.ready',
      'broker.listening',
      'broker.stopping',
      'broker.stopped',
    ]);
    expect(events.every(({ nodeId }) => nodeId === 'n1')).toBe(true);
    expect(terminal.signals.eventNames()).toEqual([]);
  });

  test('the second signal does not wait', async () => {
    const terminal = new FakeTerminal();
    const ended = run(['start', ...ports], terminal);
    await terminal.stdout.until(/"event":"broker.listening"/);
    terminal.signals.emit('SIGTERM');
    terminal.signals.emit('SIGTERM');
    expect(terminal.exits).toEqual([143]);
    await ended;
  });

  test('logs where it listens and what to try, for programs', async () => {
    const terminal = new FakeTerminal();
    const ended = run(['start', ...ports], terminal);
    const [line] = await terminal.stdout.until(/^.*broker\.listening.*$/m);
    terminal.signals.emit('SIGTERM');
    await ended;
    const { mqtt, try: tryIt } = JSON.parse(line) as { mqtt: string; try: string[] };
    const port = mqtt.split(':')[1];
    expect(tryIt).toEqual([
      `mosquitto_sub -p ${port} -t 'hello/#' -v`,
      `mosquitto_pub -p ${port} -t hello/world -m hi`,
    ]);
  });

  test('prints where it listens and what to try, for people', async () => {
    const terminal = new FakeTerminal();
    terminal.stdout.isTTY = true;
    const ended = run(['start', '--port', '0', '--set', 'http.host=127.0.0.1', ...ports], terminal);
    await terminal.stdout.until(
      /Shoal \S+ listens on 127\.0\.0\.1:\d+\nTry it:\n {2}mosquitto_sub -p/,
    );
    terminal.signals.emit('SIGTERM');
    expect((await ended).out).not.toMatch(/^\{/m);
  });

  test('never shows a password', async () => {
    const terminal = new FakeTerminal({
      env: { SHOAL_AUTH__USERS: '[{"username":"ann","password":"hunter2"}]' },
    });
    const ended = run(['start', ...ports, '--log-level', 'trace'], terminal);
    await terminal.stdout.until(/broker\.listening/);
    terminal.signals.emit('SIGTERM');
    const { out, err } = await ended;
    expect(out + err).toContain('[redacted]');
    expect(out + err).not.toContain('hunter2');
    expect(out).toContain('-u USER -P PASSWORD');
  });

  test('serves health and metrics while it runs', async () => {
    const blocker = createServer();
    await new Promise<void>((resolve) => {
      blocker.listen(0, '127.0.0.1', resolve);
    });
    const { port } = blocker.address() as AddressInfo;
    await new Promise((resolve) => blocker.close(resolve));
    const terminal = new FakeTerminal();
    const ended = run(['start', '--port', '0', '--http-port', `${port}`], terminal);
    await terminal.stdout.until(/broker\.listening/);
    const get = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return [response.status, await response.text()] as const;
    };
    for (const path of ['/livez', '/readyz', '/startupz', '/lb']) {
      expect((await get(path))[0]).toBe(200);
    }
    expect((await get('/metrics'))[1]).toContain('shoal_build_info{version=');
    terminal.signals.emit('SIGTERM');
    expect((await ended).code).toBe(0);
    await expect(get('/livez')).rejects.toThrow();
  });
});
