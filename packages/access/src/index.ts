export { Acl } from './acl.ts';
export type { AclAction, AclRule, AclSubject } from './acl.ts';
export { allowAll } from './allow-all.ts';
export type { ConnectingClient } from './connecting-client.ts';
export type {
  EnhancedAuthenticationHook,
  EnhancedClient,
  EnhancedExchange,
  EnhancedStepResult,
} from './enhanced-authentication-hook.ts';
export { hooksAccess } from './hooks-access.ts';
export type {
  AccessHooks,
  AuthenticateHook,
  AuthenticateHookResult,
  AuthorizeHook,
  AuthorizingClient,
  HookName,
} from './hooks-access.ts';
export { AclFileError, parseMosquittoAcl } from './mosquitto-acl.ts';
export {
  PasswordFile,
  PasswordFileError,
  changePasswordFile,
  parsePasswordFile,
} from './password-file.ts';
export type { PasswordHash } from './password-hash.ts';
export { userList } from './user-list.ts';
export type { User, UserListOptions } from './user-list.ts';
