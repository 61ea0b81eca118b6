import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ShoalProcess } from '@shoalmq/testkit';
import { connect } from 'mqtt';
import { describeClients, unique } from './clients.ts';
import { Mailbox } from './mailbox.ts';
import { connectOptions, connected, publish } from './mqtt-js.ts';

let shoal: ShoalProcess;
beforeAll(async () => {
  shoal = await ShoalProcess.start();
});
afterAll(() => shoal.stop());

describeClients(({ kind, version }) => {
  if (version !== 5) return;

  test('user properties keep their order, and a request its response topic and correlation', async () => {
    const { port } = shoal;
    const topic = unique('request');
    const properties = {
      userProperties: [
        ['zebra', '1'],
        ['zebra', '2'],
        ['ant', '3'],
      ] as const,
      responseTopic: `${topic}/answer`,
      correlationData: 'order-7',
      contentType: 'text/plain',
    };
    await using subscriber = await kind.subscribe({ port, version, filters: [topic] });
    await kind.publish({ port, version }, [{ topic, payload: 'how much?', properties }]);

    expect((await subscriber.next()).properties).toEqual(properties);
  });

  test('a message says which subscription it came by', async () => {
    const { port } = shoal;
    const topic = unique('identified');
    await using subscriber = await kind.subscribe({
      ...{ port, version },
      filters: [`${topic}/+`],
      subscriptionIdentifier: 268_435_455,
    });
    await kind.publish({ port, version }, [{ topic: `${topic}/a`, payload: '' }]);

    const { properties } = await subscriber.next();
    expect(properties.subscriptionIdentifiers).toEqual([268_435_455]);
  });

  test('a publisher may give its topic an alias', async () => {
    const { port } = shoal;
    const topic = unique('aliased');
    await using subscriber = await kind.subscribe({ port, version, filters: [topic] });
    const properties = { topicAlias: 3 };
    await kind.publish({ port, version }, [{ topic, payload: 'by name', properties }]);

    expect((await subscriber.next()).topic).toBe(topic);
  });
});

test('MQTT.js sends topic aliases by itself, and gets them when it allows for some', async () => {
  const options = connectOptions({ port: shoal.port, version: 5 });
  const received = new Mailbox<[topic: string, payload: string]>();
  const aliases: unknown[] = [];
  const subscriber = connect({ ...options, properties: { topicAliasMaximum: 1 } });
  // Before MQTT.js puts the name in the place of the alias.
  subscriber.on('packetreceive', (packet) => {
    if (packet.cmd === 'publish') aliases.push([packet.topic, packet.properties?.topicAlias]);
  });
  subscriber.on('message', (topic, payload) => {
    received.put([topic, payload.toString()]);
  });
  const publisher = connect({ ...options, autoAssignTopicAlias: true });
  const sent: unknown[] = [];
  publisher.on('packetsend', (packet) => {
    if (packet.cmd === 'publish') sent.push([packet.topic, packet.properties?.topicAlias]);
  });
  try {
    await Promise.all([connected(subscriber), connected(publisher)]);
    const topic = unique('alias');
    await subscriber.subscribeAsync(`${topic}/#`);
    for (const name of ['a', 'a', 'b', 'a']) {
      await publish(publisher, { topic: `${topic}/${name}`, payload: name, qos: 1 });
    }

    for (const name of ['a', 'a', 'b', 'a']) {
      expect(await received.take()).toEqual([`${topic}/${name}`, name]);
    }
    expect(sent).toEqual([
      [`${topic}/a`, 1],
      ['', 1],
      [`${topic}/b`, 2],
      ['', 1],
    ]);
    expect(aliases[1]).toEqual(['', 1]);
  } finally {
    await Promise.all([subscriber.endAsync(true), publisher.endAsync(true)]);
  }
});
