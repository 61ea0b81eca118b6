import { connect } from 'mqtt';
import { expect, test } from '@jest/globals';
import { startBrokerProcess } from '../src/broker-process.ts';
import type { BrokerProcess } from '../src/broker-process.ts';
import { parseConfig } from '../src/config/load-config.ts';
import type { ConfigInput } from '../src/config/schema.ts';
import { createLogger } from '../src/telemetry/logger.ts';

async function start(config: ConfigInput) {
  const lines: string[] = [];
  const { logger } = createLogger({
    level: 'debug',
    format: 'json',
    nodeId: 'n1',
    destination: { write: (line) => void lines.push(line) },
  });
  const off = { mqtt: { port: 0 }, http: { port: 0 } };
  return { lines, running: await startBrokerProcess(parseConfig({ ...off, ...config }), logger) };
}

/** Connects, subscribes to `$SYS/#` and resolves with the first `count` topics. */
async function sysTopics({ broker }: BrokerProcess, count: number): Promise<Map<string, string>> {
  const client = connect({ host: '127.0.0.1', port: broker.port, reconnectPeriod: 0 });
  const topics = new Map<string, string>();
  const complete = new Promise<void>((resolve) => {
    client.on('message', (topic, payload) => {
      topics.set(topic, payload.toString());
      if (topics.size === count) resolve();
    });
  });
  await client.subscribeAsync('$SYS/#', { qos: 1 });
  if (count > 0) await complete;
  await client.endAsync();
  return topics;
}

test('the $SYS topics are there, retained, as soon as clients may connect', async () => {
  const { running } = await start({});
  try {
    const topics = await sysTopics(running, 49);
    expect(topics.get('$SYS/broker/version')).toMatch(/^shoal version \d/);
    expect(topics.get('$SYS/broker/clients/connected')).toBe('0');
  } finally {
    await running.stop();
  }
});

test('sys.intervalSeconds 0 turns the $SYS topics off', async () => {
  const { running } = await start({ sys: { intervalSeconds: 0 } });
  try {
    await sysTopics(running, 0);
    expect(running.broker.levels().retainedMessages).toBe(0);
  } finally {
    await running.stop();
  }
});

test('what happens to connections is logged at debug, each by its event', async () => {
  const { running, lines } = await start({});
  await sysTopics(running, 1);
  await running.stop();
  const events = lines.map((line) => JSON.parse(line) as { event: string; level: string });
  expect(events).toContainEqual(
    expect.objectContaining({ event: 'client.connected', level: 'debug' }),
  );
  expect(events).toContainEqual(
    expect.objectContaining({ event: 'client.disconnected', reason: 'client_disconnect' }),
  );
});

test('stop can be called again', async () => {
  const { running } = await start({});
  await Promise.all([running.stop(), running.stop()]);
  await running.stop();
});
