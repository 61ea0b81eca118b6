import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from '@jest/globals';
import { ByteClient } from '@shoalmq/testkit';

const root = join(import.meta.dirname, '..');
const example = join(root, 'examples/embedded-broker.js');

test('the README shows the example as it is', () => {
  const [, code] = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8')) ?? [];

  expect(readFileSync(example, 'utf8')).toBe(
    `// A broker inside a Node.js program, with hooks. Run it after \`npm run build\`: node examples/embedded-broker.js\n${code ?? ''}`,
  );
});

test('the example of the README runs, and its hooks decide', async () => {
  const child = spawn(process.execPath, [example], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const line = async () => (await lines.next()).value as string;
    const port = Number(/listening on port (\d+)/.exec(await line())?.[1]);

    await using stranger = await ByteClient.connect(port, { clientId: 'stranger' });
    expect(stranger.connack.reasonCode).toBe(0x87);

    await using sensor = await ByteClient.connect(port, {
      clientId: 's1',
      username: 'sensor',
      password: 'secret',
    });
    expect(await line()).toBe('s1 connected');
    await sensor.subscribe('sensors/#', { qos: 1 });
    await sensor.expectPublish({ topic: 'sensors/status', retain: true });
    sensor.publish({ topic: 'sensors/t', payload: '21', qos: 1 });
    expect(await line()).toBe('sensors/t: 21');
    await sensor.expectPublish({ topic: 'sensors/t', payload: '21' });
    sensor.publish({ topic: 'elsewhere', payload: 'no', qos: 1 });
    const [accepted, refused] = [
      await sensor.expectPacket('puback'),
      await sensor.expectPacket('puback'),
    ];
    expect([accepted.reasonCode ?? 0, refused.reasonCode]).toEqual([0, 0x87]);
  } finally {
    child.kill('SIGTERM');
    if (child.exitCode === null) await once(child, 'exit');
  }
  expect(child.exitCode).toBe(0);
});
