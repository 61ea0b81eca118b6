import { createRequire } from 'node:module';
import { createServer } from 'node:net';

import { Aedes } from 'aedes';
import type { AedesOptions } from 'aedes';

/**
 * aedes-server.js PORT [REDIS_PORT]: aedes with the concurrency raised and higher bounds on queued packets, and
 * with TCP_NODELAY, which is the way its documentation serves it plus what load asks for.
 */
const [port, redisPort] = process.argv.slice(2).map(Number);
const broker = await Aedes.createBroker({
  concurrency: 1000,
  queueLimit: 1000,
  maxInflightInbound: 0,
  ...(redisPort === undefined ? {} : onRedis(redisPort)),
});
const server = createServer({ noDelay: true }, broker.handle);
server.listen({ port, host: '127.0.0.1', backlog: 1024 });
process.once('SIGTERM', () => {
  process.exit(0);
});

function onRedis(redisAt: number): AedesOptions {
  // Both are CommonJS, and one has no types.
  const load = createRequire(import.meta.url);
  const at = { host: '127.0.0.1', port: redisAt };
  const persistence = load('aedes-persistence-redis') as (
    options: typeof at & { readonly maxSessionDelivery: number },
  ) => unknown;
  const emitter = load('mqemitter-redis') as (
    options: typeof at & { readonly concurrency: number },
  ) => unknown;
  return {
    // The default delivers the first 1,000 messages of a longer queue and forgets to say that there are more.
    persistence: persistence({ ...at, maxSessionDelivery: 1_000_000 }),
    mq: emitter({ ...at, concurrency: 1000 }),
  };
}
