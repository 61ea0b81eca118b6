import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { SHOAL_MAIN, ShoalProcess } from '@shoalmq/testkit';
import { unique } from './clients.ts';
import { LineProcess, run } from './line-process.ts';
import { Mailbox } from './mailbox.ts';
import { mosquittoClients } from './mosquitto-clients.ts';

let shoal: ShoalProcess;
beforeAll(async () => {
  shoal = await ShoalProcess.start();
});
afterAll(() => shoal.stop());

/** `shoal pub` as a process, to its end. */
function shoalPub(...args: string[]): Promise<string> {
  return run(process.execPath, [SHOAL_MAIN, 'pub', '-p', String(shoal.port), ...args]);
}

/** `shoal sub` as a process that waits until it has what it asked for. */
class ShoalSub implements AsyncDisposable {
  readonly lines = new Mailbox<string>();
  readonly process: LineProcess;

  constructor(...args: string[]) {
    this.process = new LineProcess(
      process.execPath,
      [SHOAL_MAIN, 'sub', '-p', String(shoal.port), ...args],
      (line) => {
        this.lines.put(line);
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

test('what shoal pub has published, shoal sub prints', async () => {
  const topic = unique('own');
  await shoalPub('-t', `${topic}/a`, '-m', 'kept', '-q', '1', '-r');
  await using sub = new ShoalSub('-t', `${topic}/#`, '-v', '-q', '1', '-C', '2');
  // The retained message says that the subscription holds.
  expect(await sub.lines.take()).toBe(`${topic}/a kept`);
  await shoalPub('-t', `${topic}/ü`, '-m', 'ganz neu', '-q', '2', '-V', 'mqttv5');
  expect(await sub.lines.take()).toBe(`${topic}/ü ganz neu`);
  expect(await sub.process.ended).toBe(0);
});

test('the log says where it listens, health is answered, and SIGTERM ends it with 0', async () => {
  await using other = await ShoalProcess.start();
  expect(other.lines.some((line) => line.includes(`127.0.0.1:${other.port}`))).toBe(true);
  const { status } = await fetch(`http://127.0.0.1:${other.httpPort}/readyz`);
  expect(status).toBe(200);
  expect(await other.stop()).toBe(0);
});

const missing = mosquittoClients.missing();
const testMosquitto = missing === undefined ? test : test.skip;

testMosquitto.each([3, 4, 5] as const)(
  'shoal pub and mosquitto_sub, mosquitto_pub and shoal sub understand each other (version %i)',
  async (version) => {
    const { port } = shoal;
    const topic = unique('mixed');
    const five = version === 5;
    const name = { 3: 'mqttv31', 4: 'mqttv311', 5: 'mqttv5' }[version];
    const options = { port, version };
    await using theirs = await mosquittoClients.subscribe({ ...options, filters: [topic], qos: 2 });
    await shoalPub(
      ...['-V', name, '-t', topic, '-m', 'from shoal', '-q', '2'],
      ...(five ? ['-D', 'publish', 'user-property', 'from', 'shoal'] : []),
    );
    const message = await theirs.next();
    expect([message.payload.toString(), message.qos]).toEqual(['from shoal', 2]);
    expect(message.properties.userProperties).toEqual(five ? [['from', 'shoal']] : []);

    const properties = five ? { userProperties: [['from', 'mosquitto']] as const } : {};
    await mosquittoClients.publish(options, [
      { topic, payload: 'from mosquitto', qos: 1, retain: true, properties },
    ]);
    await using ours = new ShoalSub(
      ...['-V', name, '-t', topic, '-q', '1', '-C', '1', '-F', '%t|%q|%r|%p|%P'],
    );
    expect(await ours.lines.take()).toBe(
      `${topic}|1|1|from mosquitto|${five ? 'from:mosquitto' : ''}`,
    );
    expect(await ours.process.ended).toBe(0);
  },
);
