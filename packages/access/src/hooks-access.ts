import { ReasonCode } from '@shoalmq/core';
import type { Access, AuthenticateResult, AuthorizeRequest, QoS } from '@shoalmq/core';
import { connectingClient } from './connecting-client.ts';
import type { ConnectingClient } from './connecting-client.ts';
import { exchangeOfHook } from './enhanced-authentication-hook.ts';
import type { EnhancedAuthenticationHook, EnhancedClient } from './enhanced-authentication-hook.ts';
import { refusal } from './refusal.ts';

export type AuthenticateHookResult =
  /** `false`: rejected with 0x87 (Not authorized). */
  | boolean
  /** `username` replaces the one the client sent, for authorize. */
  | { readonly accept: true; readonly username?: string }
  /** `reasonCode`: 0x80 or above, by the numbers of MQTT 5.0; 3.x clients get the nearest they know. */
  | { readonly accept: false; readonly reasonCode: number };

/** Decides whether a client may connect. An exception or a rejected promise is a "no". */
export type AuthenticateHook = (
  client: ConnectingClient,
) => AuthenticateHookResult | Promise<AuthenticateHookResult>;

/** What the authorize hook is asked. */
export interface AuthorizingClient {
  readonly clientId: string;
  /** As authenticated; '' for an anonymous client. */
  readonly username: string;
  /** `publish` names a topic; `subscribe` a topic filter, without `$share/<group>/`; `receive` a topic. */
  readonly action: AuthorizeRequest['action'];
  readonly topic: string;
  readonly qos: QoS;
  readonly retain: boolean;
}

/** Decides whether a client may do one thing. Anything but `true`, an exception too, is a "no". */
export type AuthorizeHook = (request: AuthorizingClient) => boolean | Promise<boolean>;

export interface AccessHooks {
  readonly authenticate?: AuthenticateHook | undefined;
  readonly enhancedAuthentication?: EnhancedAuthenticationHook | undefined;
  readonly authorize?: AuthorizeHook | undefined;
  /** Told of every exception and rejected promise of a hook: the client only sees that it was refused. */
  /**
   * Milliseconds after which an authorize hook that has not answered is taken to have said no.
   * @default 10000
   */
  readonly authorizeTimeoutMs?: number | undefined;
  readonly onError?: ((error: unknown, hook: HookName) => void) | undefined;
}

/** The hooks that decide something. */
export type HookName = 'authenticate' | 'enhancedAuthentication' | 'authorize';

/**
 * An `Access` that asks the program which embeds the broker, and `fallback` for what has no hook. Without an authorize
 * hook, clients that got in by a hook may do everything.
 */
export function hooksAccess(hooks: AccessHooks, fallback: Access): Access {
  const { authenticate, enhancedAuthentication, authorize, onError } = hooks;
  const { authorizeTimeoutMs = 10_000 } = hooks;

  async function authenticateByHook(
    hook: AuthenticateHook,
    client: ConnectingClient,
  ): Promise<AuthenticateResult> {
    let answer: unknown;
    try {
      answer = await hook(client);
    } catch (error) {
      onError?.(error, 'authenticate');
      return { outcome: 'rejected', reasonCode: ReasonCode.NotAuthorized };
    }
    // Programs in plain JavaScript return anything; only what is clearly a yes is one.
    const { accept, username, reasonCode } = isObject(answer)
      ? answer
      : { accept: answer, username: undefined, reasonCode: undefined };
    if (accept !== true) return { outcome: 'rejected', reasonCode: refusal(reasonCode) };
    return {
      outcome: 'accepted',
      principal: {
        username: typeof username === 'string' ? username : (client.username ?? ''),
        unrestricted: authorize === undefined,
      },
    };
  }

  function enhancedByHook(hook: EnhancedAuthenticationHook, client: EnhancedClient) {
    const failed = (error: unknown) => onError?.(error, 'enhancedAuthentication');
    try {
      const exchange = hook(client);
      return exchange && exchangeOfHook(exchange, client, failed);
    } catch (error) {
      failed(error);
      throw error;
    }
  }

  function authorizeByHook(hook: AuthorizeHook, request: AuthorizeRequest) {
    const { principal, clientId, action, topic, qos, retain } = request;
    const failed = (error: unknown) => {
      onError?.(error, 'authorize');
      return false;
    };
    try {
      const answer: unknown = hook({
        clientId,
        username: principal.username,
        action,
        topic,
        qos,
        retain,
      });
      if (typeof answer === 'boolean') return answer;
      return inTime(answer, authorizeTimeoutMs).then((value) => value === true, failed);
    } catch (error) {
      return failed(error);
    }
  }

  return {
    async authenticate(packet, facts) {
      if (authenticate !== undefined) {
        return authenticateByHook(authenticate, connectingClient(packet, facts));
      }
      const result = await fallback.authenticate(packet, facts);
      return authorize === undefined ? result : restricted(result);
    },
    enhanced(method, packet, facts) {
      const exchange =
        enhancedAuthentication === undefined
          ? fallback.enhanced(method, packet, facts)
          : enhancedByHook(enhancedAuthentication, { ...connectingClient(packet, facts), method });
      if (exchange === undefined || authorize === undefined) return exchange;
      return {
        step: async (data) => restricted(await exchange.step(data)),
        abandon: () => {
          exchange.abandon();
        },
      };
    },
    authorize: (request) =>
      authorize === undefined ? fallback.authorize(request) : authorizeByHook(authorize, request),
    get revision() {
      return fallback.revision;
    },
  };
}

/** Waits for `answer`, but not for ever: a client is not read while somebody thinks about what it may do. */
function inTime(answer: unknown, timeoutMs: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    Promise.resolve(answer)
      .then(resolve, reject)
      .finally(() => {
        clearTimeout(timer);
      });
  });
}

/** The core asks nobody about unrestricted principals; with an authorize hook it must. */
function restricted(result: AuthenticateResult): AuthenticateResult {
  if (result.outcome !== 'accepted') return result;
  return { ...result, principal: { ...result.principal, unrestricted: false } };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
