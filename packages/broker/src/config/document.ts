import { SETTING_FLAGS, valuesOf } from './load-config.ts';
import { environmentName, sections } from './setting.ts';
import type { Setting } from './setting.ts';

/** The text of docs/configuration.md. */
export function configurationDocument(): string {
  return [
    '<!-- Generated from packages/broker/src/config/schema.ts by `npm run docs -w @shoalmq/broker`. Do not edit. -->',
    '# Configuration',
    INTRODUCTION,
    ...sections().flatMap(({ name, description, settings }) => [
      `## ${name}`,
      description,
      ...settings.flatMap(describe),
    ]),
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n');
}

const INTRODUCTION = `Every setting has a default. From weakest to strongest they come from

1. the defaults below,
2. a YAML file, named by \`--config FILE\` or by the environment variable \`SHOAL_CONFIG\`,
3. environment variables: \`SHOAL_MQTT__PORT=1884\`,
4. the command line: \`--port 1884\`, or for any setting \`--set mqtt.port=1884\`.

Unknown settings are errors, in the file and everywhere else. \`shoal config check FILE\` says everything that is wrong
with a file at once. At start the configuration in effect is logged once, without secrets.

\`\`\`yaml
mqtt:
  host: 0.0.0.0
  port: 1883
auth:
  users:
    - username: ann
      password: 0123
limits:
  packetBytesMax: 65536
\`\`\``;

function describe(setting: Setting): string[] {
  const path = setting.path.join('.');
  const flag = Object.entries(SETTING_FLAGS).find(([, target]) => target === path)?.[0];
  const facts = [
    values(setting),
    `default: ${defaultText(setting.defaultValue)}`,
    `\`${environmentName(setting.path)}\``,
    ...(flag === undefined ? [] : [`\`--${flag}\``]),
  ];
  return [`### \`${path}\``, setting.description, facts.join(' · ')];
}

function values(setting: Setting): string {
  if (setting.type === 'choice') return setting.choices.map((choice) => `\`${choice}\``).join(', ');
  return valuesOf(setting);
}

function defaultText(value: unknown): string {
  if (value === undefined) return 'not set';
  if (value === '') return 'empty';
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}
