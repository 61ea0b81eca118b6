import { configSchema } from './schema.ts';
import type { Config } from './schema.ts';
import { redactSecrets } from './setting.ts';

/** What stands for a secret wherever configuration is shown. */
export const REDACTED = '[redacted]';

/** A copy of the configuration that may be logged: everything the schema calls a secret is replaced. */
export function redact(config: Config): Config {
  return redactSecrets(config, configSchema, REDACTED) as Config;
}
