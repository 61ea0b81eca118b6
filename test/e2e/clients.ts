import { describe, jest, test } from '@jest/globals';
import type { ClientKind, Version } from './client-kind.ts';
import { mosquittoClients } from './mosquitto-clients.ts';
import { mqttJs } from './mqtt-js.ts';
import { paho } from './paho.ts';

// Each test starts processes, which takes its time on a busy machine.
jest.setTimeout(30_000);

const KINDS: readonly ClientKind[] = [mosquittoClients, mqttJs, paho];

const VERSION_NAMES: Readonly<Record<Version, string>> = { 3: '3.1', 4: '3.1.1', 5: '5.0' };

/** A client and the version it is to speak. */
export interface Client {
  readonly kind: ClientKind;
  readonly version: Version;
  /** Not used before: for topics and client identifiers. */
  unique(name: string): string;
}

let names = 0;

/** Defines tests for each client that is installed, in each version it has; says once which is not installed. */
export function describeClients(define: (client: Client) => void): void {
  for (const kind of KINDS) {
    const missing = kind.missing();
    if (missing !== undefined) {
      test.skip(`${kind.name}: ${missing}`, () => undefined);
      continue;
    }
    for (const version of kind.versions) {
      describe(`${kind.name}, MQTT ${VERSION_NAMES[version]}`, () => {
        define({ kind, version, unique });
      });
    }
  }
}

/** Every client that is installed, in every version it has. */
export function installedClients(): readonly Client[] {
  return KINDS.filter((kind) => kind.missing() === undefined).flatMap((kind) =>
    kind.versions.map((version) => ({ kind, version, unique })),
  );
}

/** At most 23 characters, as 3.1 has it, of which the number is the last. */
export function unique(name: string): string {
  names += 1;
  return `${name}-${process.pid.toString(36)}-${String(names)}`;
}
