// A broker inside a Node.js program, with hooks. Run it after `npm run build`: node examples/embedded-broker.js
import { createBroker } from '@shoalmq/broker';

const broker = await createBroker({
  config: { mqtt: { port: 0 } }, // any setting of docs/configuration.md
  hooks: {
    authenticate: ({ username, password }) =>
      username === 'sensor' && password?.toString() === 'secret',
    authorize: ({ action, topic }) => action === 'subscribe' || topic.startsWith('sensors/'),
    connected: ({ clientId }) => console.log(`${clientId} connected`),
    disconnected: ({ clientId }, reason) => console.log(`${clientId} disconnected: ${reason}`),
    published: ({ topic, payload }) => console.log(`${topic}: ${payload}`),
  },
});
console.log(`listening on port ${broker.port}`);

await broker.publish({ topic: 'sensors/status', payload: 'broker is up', qos: 1, retain: true });

process.once('SIGTERM', () => broker.close());
