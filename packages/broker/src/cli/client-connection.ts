import { connect } from 'mqtt';
import type { IClientOptions, MqttClient } from 'mqtt';
import type { ClientOptions } from './client-options.ts';

/** A connection failed, or the broker refused something. */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  /** Exit code of the process: the broker's code when it gave one. */
  readonly exitCode: number;
  constructor(message: string, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/**
 * Connects with MQTT.js and resolves when the broker has accepted. `prepare` gets the client before anything can
 * arrive: a resumed session's messages follow the CONNACK at once.
 *
 * @throws ClientError in one line: the address could not be reached, or the broker's return or reason code.
 */
export function openClient(
  options: ClientOptions,
  extra: IClientOptions,
  prepare: (client: MqttClient) => void = () => undefined,
): Promise<MqttClient> {
  const { host, port } = options;
  const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return new Promise((resolve, reject) => {
    const client = connect({
      ...options.connect,
      host,
      port,
      protocol: 'mqtt',
      ...extra,
    });
    prepare(client);
    const settle = (action: () => void) => {
      client.off('connect', connected);
      client.off('error', failed);
      client.off('close', closed);
      action();
    };
    const connected = () => {
      settle(() => {
        resolve(client);
      });
    };
    const refuse = (error: ClientError) => {
      settle(() => {
        // MQTT.js may still have one to emit, and nobody would listen.
        client.on('error', () => undefined);
        client.end(true);
        reject(error);
      });
    };
    const failed = (error: Error) => {
      refuse(connectError(error, address));
    };
    const closed = () => {
      refuse(new ClientError(`cannot connect to ${address}: the broker closed the connection`));
    };
    client.on('connect', connected);
    client.on('error', failed);
    client.on('close', closed);
  });
}

/** Milliseconds that a broker gets to answer the end of a connection. */
const END_MS = 2_000;

/**
 * Sends DISCONNECT and closes. Does not wait for a broker that keeps the connection open, nor for messages that
 * nobody takes any more.
 */
export async function closeClient(client: MqttClient, options: ClientOptions): Promise<void> {
  const { protocolVersion, properties } = options;
  const disconnect =
    protocolVersion === 5 ? { reasonCode: 0, properties: properties.of('disconnect') } : {};
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, END_MS);
  });
  await Promise.race([client.endAsync(false, disconnect).catch(() => undefined), late]);
  clearTimeout(timer);
  client.stream.destroy();
}

/** One line about an error of MQTT.js after the connection was made. */
export function clientError(error: Error): ClientError {
  const { code } = error as { code?: unknown };
  return new ClientError(error.message, typeof code === 'number' ? exitCodeOf(code) : 1);
}

function connectError(error: Error, address: string): ClientError {
  const { code } = error as { code?: unknown };
  if (typeof code === 'number') return new ClientError(error.message, exitCodeOf(code));
  const reason = typeof code === 'string' ? (REASONS[code] ?? code) : error.message;
  return new ClientError(`cannot connect to ${address}: ${reason}`);
}

function exitCodeOf(code: number): number {
  return code > 0 && code < 256 ? code : 1;
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the broker closed the connection',
  ENOTFOUND: 'that name is not known',
  EAI_AGAIN: 'that name cannot be looked up',
  ETIMEDOUT: 'no answer',
  EHOSTUNREACH: 'no way to that host',
  ENETUNREACH: 'no way to that network',
};
