import type { AuthenticateResult, EnhancedAuthentication } from '@shoalmq/core';
import type { ConnectingClient } from './connecting-client.ts';
import { refusal } from './refusal.ts';

/** What the enhanced authentication hook gets to see of a client. */
export interface EnhancedClient extends ConnectingClient {
  /** The Authentication Method of its CONNECT: `SCRAM-SHA-256`. */
  readonly method: string;
}

/** One exchange of enhanced authentication with one client: at CONNECT, or when it authenticates once more. */
export interface EnhancedExchange {
  /**
   * Answers the Authentication Data of CONNECT or AUTH; `undefined`: there was none. Called again for each AUTH until
   * the answer is not `continue`. An exception or a rejected promise is a "no".
   */
  step(data: Buffer | undefined): EnhancedStepResult | Promise<EnhancedStepResult>;
  /** The client has gone, or will not be asked further. */
  abandon?(): void;
}

export type EnhancedStepResult =
  /** AUTH 0x18 with this data is sent to the client, which has to answer. */
  | { readonly outcome: 'continue'; readonly data?: Uint8Array }
  /** `username` replaces the one that the client sent, for authorize. */
  | { readonly outcome: 'accepted'; readonly username?: string; readonly data?: Uint8Array }
  /** @default reasonCode 0x87 (Not authorized) */
  | { readonly outcome: 'rejected'; readonly reasonCode?: number };

/** Begins an exchange; `undefined`: the method is not supported, and the client is refused with 0x8C. */
export type EnhancedAuthenticationHook = (client: EnhancedClient) => EnhancedExchange | undefined;

/** What `exchange` says, as the core understands it. `failed` hears what the exchange throws. */
export function exchangeOfHook(
  exchange: EnhancedExchange,
  client: EnhancedClient,
  failed: (error: unknown) => void,
): EnhancedAuthentication {
  return {
    async step(data) {
      try {
        const result = await exchange.step(data === undefined ? undefined : Buffer.from(data));
        return authenticateResult(result, client);
      } catch (error) {
        failed(error);
        return { outcome: 'rejected', reasonCode: refusal(undefined) };
      }
    },
    abandon: () => {
      try {
        exchange.abandon?.();
      } catch (error) {
        failed(error);
      }
    },
  };
}

function authenticateResult(
  result: EnhancedStepResult,
  client: EnhancedClient,
): AuthenticateResult {
  switch (result.outcome) {
    case 'accepted':
      return {
        outcome: 'accepted',
        principal: { username: result.username ?? client.username ?? '', unrestricted: true },
        ...(result.data === undefined ? {} : { authenticationData: result.data }),
      };
    case 'continue':
      return {
        outcome: 'continue',
        ...(result.data === undefined ? {} : { authenticationData: result.data }),
      };
    case 'rejected':
      return { outcome: 'rejected', reasonCode: refusal(result.reasonCode) };
    default:
      // Whatever a hook without types answered, it is not a yes.
      return { outcome: 'rejected', reasonCode: refusal(undefined) };
  }
}
