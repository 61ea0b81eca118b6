import { Counters } from '@shoalmq/core';
import { createRegistry } from './metrics.ts';

/** The text of docs/metrics.md. */
export function metricsDocument(): string {
  const registry = createRegistry({
    counters: new Counters(),
    levels: () => {
      throw new Error('nothing is scraped here');
    },
    version: '',
    commit: '',
    configHash: '',
  });
  const metrics = registry.getMetricsAsArray().map(({ name, help, type, ...rest }) => {
    const { labelNames = [] } = rest as { labelNames?: readonly string[] };
    const labels = labelNames.map((label) => `\`${label}\``).join(', ');
    const kind = String(type);
    const facts = labels === '' ? kind : `${kind} by ${labels}`;
    return { name, line: `- \`${name}\` (${facts}): ${help}` };
  });
  const section = (title: string, prefix: RegExp) => [
    `## ${title}`,
    metrics
      .filter(({ name }) => prefix.test(name))
      .map(({ line }) => line)
      .join('\n'),
  ];
  return `${[
    '<!-- Generated from packages/broker/src/telemetry/metrics.ts by `npm run docs -w @shoalmq/broker`. Do not edit. -->',
    '# Metrics',
    'Prometheus scrapes `/metrics` on the operations port (`http.port`). Labels come from closed sets: never a client id, a topic, a user or an address. Counters start at 0 with the process.',
    ...section('Protocol', /^mqtt_/),
    ...section('Shoal', /^shoal_/),
    ...section('Process', /^(process|nodejs)_/),
  ].join('\n\n')}\n`;
}
