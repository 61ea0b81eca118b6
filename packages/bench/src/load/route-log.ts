import { Redis } from 'ioredis';

import type { RunningRedis } from '../brokers/broker-driver.ts';

/** All logs of facts that the nodes share: whatever changes a route is written to one of them first. */
const COUNT_SCRIPT = `
local total = 0
for _, key in ipairs(redis.call('KEYS', '*:log')) do
  local info = redis.call('XINFO', 'STREAM', key)
  for index = 1, #info, 2 do
    if info[index] == 'entries-added' then total = total + info[index + 1] end
  end
end
return total`;

/** How many changes of routes the cluster has made since its Redis started, by the logs in Redis. */
export async function countLoggedRoutes(redis: RunningRedis): Promise<number> {
  const connection = new Redis({ host: '127.0.0.1', port: redis.port });
  try {
    return Number(await connection.eval(COUNT_SCRIPT, 0));
  } finally {
    connection.disconnect();
  }
}
