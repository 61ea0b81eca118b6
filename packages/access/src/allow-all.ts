import type { Access } from '@shoalmq/core';

/**
 * Everybody may connect, and may do everything. The user name is kept for logs; a password is not looked at.
 */
export function allowAll(): Access {
  return {
    authenticate: (packet) =>
      Promise.resolve({
        outcome: 'accepted',
        principal: { username: packet.username ?? '', unrestricted: true },
      }),
    enhanced: () => undefined,
    authorize: () => true,
    revision: 0,
  };
}
