export { allowAll } from './allow-all.ts';
export { hooksAccess } from './hooks-access.ts';
export type {
  AccessHooks,
  AuthenticateHook,
  AuthenticateHookResult,
  AuthorizeHook,
  AuthorizingClient,
  ConnectingClient,
} from './hooks-access.ts';
export { userList } from './user-list.ts';
export type { User, UserListOptions } from './user-list.ts';
