import { ReasonCode } from '@shoalmq/core';
import type {
  Access,
  AuthenticateResult,
  AuthorizeRequest,
  ProtocolVersion,
  QoS,
} from '@shoalmq/core';

/** What the authenticate hook gets to see of a client that connects. */
export interface ConnectingClient {
  /** Empty when the client left the choice of an id to the server. */
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: Buffer | undefined;
  readonly remoteAddress: string;
  readonly listener: string;
  /** 3: MQTT 3.1, 4: MQTT 3.1.1, 5: MQTT 5.0. */
  readonly protocolVersion: ProtocolVersion;
}

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
  readonly authorize?: AuthorizeHook | undefined;
  /** Told of every exception and rejected promise of a hook: the client only sees that it was refused. */
  readonly onError?: ((error: unknown, hook: 'authenticate' | 'authorize') => void) | undefined;
}

/**
 * An `Access` that asks the program which embeds the broker, and `fallback` for what has no hook. Enhanced
 * authentication is the fallback's; with an authenticate hook alone, clients may do everything.
 */
export function hooksAccess(hooks: AccessHooks, fallback: Access): Access {
  const { authenticate, authorize, onError } = hooks;

  async function authenticateByHook(
    hook: AuthenticateHook,
    client: ConnectingClient,
  ): Promise<AuthenticateResult> {
    let result: AuthenticateHookResult;
    try {
      result = await hook(client);
    } catch (error) {
      onError?.(error, 'authenticate');
      return { outcome: 'rejected', reasonCode: ReasonCode.NotAuthorized };
    }
    if (result === true || (isObject(result) && result.accept === true)) {
      const username = isObject(result) && result.accept ? result.username : undefined;
      return {
        outcome: 'accepted',
        principal: {
          username: username ?? client.username ?? '',
          unrestricted: authorize === undefined,
        },
      };
    }
    const reasonCode = isObject(result) && !result.accept ? result.reasonCode : undefined;
    return { outcome: 'rejected', reasonCode: refusal(reasonCode) };
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
      return Promise.resolve(answer).then((value) => value === true, failed);
    } catch (error) {
      return failed(error);
    }
  }

  return {
    async authenticate(packet, facts) {
      if (authenticate !== undefined) {
        const { clientId, username, password, protocolVersion } = packet;
        return authenticateByHook(authenticate, {
          clientId,
          username,
          // A copy: what the hook keeps must not change with the read buffer.
          password: password === undefined ? undefined : Buffer.from(password),
          remoteAddress: facts.remoteAddress,
          listener: facts.listener,
          protocolVersion,
        });
      }
      const result = await fallback.authenticate(packet, facts);
      return authorize === undefined ? result : restricted(result);
    },
    enhanced(method, packet, facts) {
      const exchange = fallback.enhanced(method, packet, facts);
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

/** The core asks nobody about unrestricted principals; with an authorize hook it must. */
function restricted(result: AuthenticateResult): AuthenticateResult {
  if (result.outcome !== 'accepted') return result;
  return { ...result, principal: { ...result.principal, unrestricted: false } };
}

function refusal(reasonCode: unknown): number {
  const valid =
    typeof reasonCode === 'number' &&
    Number.isInteger(reasonCode) &&
    reasonCode >= 0x80 &&
    reasonCode <= 0xff;
  return valid ? reasonCode : ReasonCode.NotAuthorized;
}

function isObject<T>(value: T): value is T & object {
  return typeof value === 'object' && value !== null;
}
