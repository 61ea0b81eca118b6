import { expect, test } from '@jest/globals';
import type { StateStore } from '@shoalmq/core';
import { TestNode } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

/** A node whose store rejects every call while `down`. */
function nodeWithStore(): { node: TestNode; outage: { down: boolean } } {
  const outage = { down: false };
  const wrapStore = (store: StateStore): StateStore =>
    new Proxy(store, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]): unknown =>
          outage.down
            ? Promise.reject(new Error('the store is down'))
            : Reflect.apply(member, target, args);
      },
    });
  return { node: new TestNode({ wrapStore }), outage };
}

test.each(versions)(
  '[MQTT3-3.2.2-6] a CONNECT that meets a store that is down is not answered: the connection is closed (version %s)',
  async (version) => {
    const { node, outage } = nodeWithStore();
    outage.down = true;
    await expect(node.connect({ version, clientId: 'id' })).rejects.toThrow('no connack came');
    expect(node.node.openConnections).toBe(0);
    expect(node.counters.connectionsClosed.overload).toBe(1);
    outage.down = false;
    const client = await node.connect({ version, clientId: 'id' });
    expect(client.connack.sessionPresent).toBe(false);
  },
);

test.each(versions)(
  '[MQTT3-4.8.0-2] a SUBSCRIBE that the store cannot keep closes its connection, 5.0 with DISCONNECT 0x89, and no other (version %s)',
  async (version) => {
    const { node, outage } = nodeWithStore();
    const bystander = await node.connect({ version });
    await bystander.subscribe('b');
    const fields = {
      version,
      clientId: 'id',
      clean: false,
      ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
    };
    const client = await node.connect(fields);
    outage.down = true;
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 1 }] });
    await node.settle();
    const answers = client.packets();
    expect(client.channel.ended).toBe(true);
    if (version === 5) expect(answers).toMatchObject([{ cmd: 'disconnect', reasonCode: 0x89 }]);
    else expect(answers).toEqual([]);

    bystander.publish({ topic: 'b', payload: 'hello' });
    await node.settle();
    expect(bystander.publishes()).toHaveLength(1);
    expect(bystander.channel.ended).toBe(false);
    outage.down = false;
    // The subscription was not acknowledged and does not hold.
    bystander.publish({ topic: 'a', payload: 'nobody', qos: 1 });
    await node.settle();
    const back = await node.connect(fields);
    await node.settle();
    expect(back.publishes()).toEqual([]);
  },
);
