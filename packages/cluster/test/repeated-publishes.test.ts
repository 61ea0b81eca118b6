import { expect, test } from '@jest/globals';
import { TestCluster, until } from './cluster-harness.ts';
import type { ClusterClient } from './cluster-harness.ts';

const PERSISTENT = { clean: false, properties: { sessionExpiryInterval: 3_600 } };
const COUNT = 20;

test('P2: what a publisher repeats because its node died comes once to clean sessions and to shared groups', async () => {
  await using cluster = await TestCluster.start(3);
  const [one, two, three] = cluster.nodes;
  const plain = [await two!.connect(), await three!.connect()];
  for (const client of plain) await client.subscribe('t', 2);
  const members = [
    await two!.connect(),
    await two!.connect(),
    await three!.connect(),
    await three!.connect({ clientId: 'member', ...PERSISTENT }),
  ];
  for (const member of members) await member.subscribe('$share/g/t', 2);
  const before = await one!.connect({ clientId: 'publisher', ...PERSISTENT });

  // Everybody has the messages, and nobody has told the store so.
  const { store } = cluster;
  const finish = store.finishIncoming.bind(store);
  store.finishIncoming = () => new Promise(() => undefined);
  const numbers = Array.from({ length: COUNT }, (_, index) => index + 1);
  for (const number of numbers) send(before, number, false);
  const got = [...plain, ...members].map(() => [] as string[]);
  const take = () => {
    for (const [index, client] of [...plain, ...members].entries()) {
      for (const { payload, messageId = 0 } of client.came('publish')) {
        got[index]!.push(payload.toString());
        client.send({ cmd: 'pubrec', messageId });
      }
      for (const { messageId } of client.came('pubrel')) client.send({ cmd: 'pubcomp', messageId });
    }
    return got.flat().length;
  };
  await until('every message, three times', () => take() === 3 * COUNT);
  expect(before.came('pubrec')).toEqual([]);
  await one!.kill();
  store.finishIncoming = finish;

  const after = await two!.connect({ clientId: 'publisher', ...PERSISTENT });
  for (const number of numbers) send(after, number, true);
  let acknowledged = 0;
  await until('every PUBREC', () => (acknowledged += after.came('pubrec').length) === COUNT);
  // What comes after it has overtaken nothing.
  await after.publish({ topic: 't', payload: 'last', qos: 2 });
  await until('the last message', () => {
    take();
    return got.flat().filter((payload) => payload === 'last').length === 3;
  });

  const all = numbers.map(String);
  for (const payloads of got.slice(0, 2)) expect(payloads).toEqual([...all, 'last']);
  const ofGroup = got.slice(2).flat();
  expect(ofGroup.filter((payload) => payload !== 'last').sort(byNumber)).toEqual(all);
});

function send(client: ClusterClient, number: number, dup: boolean): void {
  const message = {
    topic: 't',
    payload: Buffer.from(String(number)),
    qos: 2,
    retain: false,
  } as const;
  client.send({ cmd: 'publish', ...message, dup, messageId: 1_000 + number });
}

function byNumber(a: string, b: string): number {
  return Number(a) - Number(b);
}
