import { createServer } from 'node:net';

import { Aedes } from 'aedes';

/**
 * Aedes with the concurrency raised and higher bounds on queued packets, and
 * with TCP_NODELAY, which is the way its documentation serves it plus what load asks for.
 */
const broker = await Aedes.createBroker({
  concurrency: 1000,
  queueLimit: 1000,
  maxInflightInbound: 0,
});
const server = createServer({ noDelay: true }, broker.handle);
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 1024 });
process.once('SIGTERM', () => {
  process.exit(0);
});
