import { ProtocolError } from '../errors.ts';
import type { Node } from '../node.ts';
import type { AuthPacket, ConnectPacket } from '../packet.ts';
import type {
  AuthenticateResult,
  ConnectionFacts,
  EnhancedAuthentication,
} from '../ports/access.ts';
import { ReasonCode } from '../reason-code.ts';

/** Rounds of AUTH in one exchange; a method that needs more is refused. */
const ROUNDS_MAX = 16;

/**
 * Authentication of one connection, simple or enhanced (MQTT 5.0 §4.12). Every failure of a provider is a refusal.
 */
export class Authentication {
  readonly #node: Node;
  readonly #packet: ConnectPacket;
  readonly #facts: ConnectionFacts;
  readonly #method: string | undefined;
  #exchange: EnhancedAuthentication | undefined = undefined;
  #rounds = 0;

  constructor(node: Node, packet: ConnectPacket, facts: ConnectionFacts) {
    this.#node = node;
    this.#packet = packet;
    this.#facts = facts;
    this.#method = packet.properties.authenticationMethod;
  }

  /** The CONNECT named an Authentication Method. */
  get enhanced(): boolean {
    return this.#method !== undefined;
  }

  /** Answers the CONNECT. */
  start(): Promise<AuthenticateResult> {
    if (this.#method === undefined) {
      return this.#guard('simple', () =>
        this.#node.parts.access.authenticate(this.#packet, this.#facts),
      );
    }
    return this.step(this.#packet.properties.authenticationData);
  }

  /** Answers an AUTH of the client; the first one of an exchange begins it. */
  step(data: Uint8Array | undefined): Promise<AuthenticateResult> {
    return this.#guard('enhanced', async () => {
      this.#exchange ??= this.#node.parts.access.enhanced(
        this.#method ?? '',
        this.#packet,
        this.#facts,
      );
      this.#rounds += 1;
      if (this.#exchange === undefined || this.#rounds > ROUNDS_MAX) {
        return { outcome: 'rejected', reasonCode: ReasonCode.BadAuthenticationMethod };
      }
      const result = await this.#exchange.step(data);
      if (result.outcome !== 'continue') {
        this.#exchange = undefined;
        this.#rounds = 0;
      }
      return result;
    });
  }

  /** What is wrong with an AUTH of the client; `undefined`: nothing. */
  problemWith(packet: AuthPacket, connected: boolean): ProtocolError | undefined {
    if (packet.authenticationMethod !== this.#method) {
      return new ProtocolError(
        // No DISCONNECT may have the reason that CONNACK has for it.
        connected ? ReasonCode.ProtocolError : ReasonCode.BadAuthenticationMethod,
        'MQTT-4.12.0-5',
        'the Authentication Method differs from that of CONNECT',
      );
    }
    const expected =
      connected && this.#exchange === undefined
        ? ReasonCode.ReAuthenticate
        : ReasonCode.ContinueAuthentication;
    if (packet.reasonCode !== expected) {
      return new ProtocolError(
        ReasonCode.ProtocolError,
        'MQTT-4.12.0-3',
        'AUTH with the wrong reason code',
      );
    }
    return undefined;
  }

  /** The properties of AUTH and CONNACK in an enhanced authentication [MQTT-4.12.0-5]. */
  properties(data: Uint8Array | undefined): {
    authenticationMethod?: string;
    authenticationData?: Uint8Array;
  } {
    return {
      ...(this.#method === undefined ? {} : { authenticationMethod: this.#method }),
      ...(data === undefined ? {} : { authenticationData: data }),
    };
  }

  abandon(): void {
    this.#exchange?.abandon();
    this.#exchange = undefined;
  }

  async #guard(
    kind: 'simple' | 'enhanced',
    ask: () => Promise<AuthenticateResult>,
  ): Promise<AuthenticateResult> {
    const { counters, clock } = {
      counters: this.#node.counters,
      clock: this.#node.parts.clock,
    };
    const startedMs = clock.monotonicMs();
    let result: AuthenticateResult;
    try {
      result = await ask();
      if (result.outcome !== 'continue') counters.authResults[kind][result.outcome] += 1;
    } catch {
      counters.authResults[kind].failed += 1;
      result = { outcome: 'rejected', reasonCode: ReasonCode.NotAuthorized };
    }
    counters.authDuration[kind].observe(clock.monotonicMs() - startedMs);
    return result;
  }
}
