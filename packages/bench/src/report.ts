import type { MeasurementField } from './measurement.ts';
import type { ResultRow } from './result-row.ts';
import type { SubscriptionFigures } from './subscriptions/subscription-figures.ts';
import { SUBSCRIPTION_BYTES_MAX, TARGETS } from './targets.ts';

/** The measurements as a Markdown table, aligned so that it also reads well on a terminal. */
export function resultTable(rows: readonly ResultRow[]): string {
  const header = [
    'case',
    'payload',
    'broker',
    'msg/s',
    'CPU us/msg',
    '(range)',
    'user',
    'system',
    'broker CPU %',
    'p50 ms',
    'p99 ms',
    'RSS MB',
    'lost',
    'dup',
    'order',
    'gen us/msg',
    'gen CPU %',
    'others CPU %',
    'also',
  ];
  return table(header, rows.map(resultCells));
}

/**
 * The ratios to Shoal beside their targets, as a Markdown table; empty without Shoal. Of the cases in `paced` p99 is
 * compared with Mosquitto's too.
 */
export function ratioTable(rows: readonly ResultRow[], paced: ReadonlySet<string>): string {
  const others = [...new Set(rows.map((row) => row.broker))].filter((name) => name !== 'shoal');
  const comparesP99 = others.includes('mosquitto') && rows.some((row) => paced.has(row.caseName));
  const lines: string[][] = [];
  for (const row of rows) {
    if (row.broker !== 'shoal' || Number.isNaN(row.measurement?.brokerCpuUs ?? Number.NaN)) {
      continue;
    }
    const line = [row.caseName, String(row.payloadBytes)];
    for (const name of others) {
      const ratio = ratioTo(rows, row, name, 'brokerCpuUs');
      const target = targetFor(row.caseName, name);
      line.push(shorten(ratio), target === undefined ? '' : `>= ${String(target)}`);
      line.push(target === undefined || Number.isNaN(ratio) ? '' : ratio >= target ? 'yes' : 'NO');
    }
    if (comparesP99) line.push(...p99Cells(rows, row, paced));
    lines.push(line);
  }
  if (lines.length === 0 || others.length === 0) return '';
  const header = others.flatMap((name) => [`${name} / shoal`, 'target', 'met']);
  if (comparesP99) header.push('p99 mosquitto / shoal', '>= 1');
  return table(['case', 'payload', ...header], lines);
}

/** What a subscription costs in memory, beside the target, as a Markdown table. */
export function memoryTable(figures: readonly SubscriptionFigures[]): string {
  const lines = figures.map(({ memory }) => {
    const { subscriptions, routeBytes, storeBytes } = memory;
    const bytes = routeBytes + storeBytes;
    return [
      String(subscriptions),
      routeBytes.toFixed(0),
      storeBytes.toFixed(0),
      bytes.toFixed(0),
      `<= ${String(SUBSCRIPTION_BYTES_MAX)}`,
      bytes <= SUBSCRIPTION_BYTES_MAX ? 'yes' : 'NO',
    ];
  });
  return table(['subscriptions', 'routes B', 'store B', 'bytes each', 'target', 'met'], lines);
}

/** What a match costs among more and more filters that do not match, as a Markdown table. */
export function matchCostTable(figures: readonly SubscriptionFigures[]): string {
  const costs = figures.flatMap(({ matching }) => matching);
  const lines = costs.map(({ otherFilters, wildcardPercent, matchUs }) => [
    String(otherFilters),
    String(wildcardPercent),
    shorten(matchUs),
  ]);
  return table(['other filters', 'with wildcards %', 'us/match'], lines);
}

function resultCells(row: ResultRow): string[] {
  const head = [row.caseName, String(row.payloadBytes), row.broker];
  const found = row.measurement;
  if (found === undefined) {
    return [...head, ...Array.from({ length: 15 }, () => '-'), row.failures.join('; ')];
  }
  const [least, most] = row.brokerCpuUsRange;
  const also = Object.entries(found.figures).map(([name, value]) => `${name} ${shorten(value)}`);
  return [
    ...head,
    Number.isNaN(found.deliveredPerSecond) ? '-' : found.deliveredPerSecond.toFixed(0),
    shorten(found.brokerCpuUs),
    row.runs > 1 && !Number.isNaN(least) ? `${shorten(least)}..${shorten(most)}` : '-',
    shorten(found.brokerUserUs),
    shorten(found.brokerSystemUs),
    shorten(found.brokerCpuPercent),
    shorten(found.latencyP50Us / 1000),
    shorten(found.latencyP99Us / 1000),
    shorten(found.residentBytes / 2 ** 20),
    String(found.lost),
    String(found.duplicates),
    String(found.outOfOrder),
    shorten(found.generatorCpuUs),
    shorten(found.generatorCpuPercent),
    shorten(found.otherCpuPercent),
    [...also, ...row.failures.map((failure) => `FAILED RUN: ${failure}`)].join(', '),
  ];
}

/** A figure of another broker in the case of `row`, divided by that of `row`. */
function ratioTo(
  rows: readonly ResultRow[],
  row: ResultRow,
  broker: string,
  field: MeasurementField,
): number {
  const other = rows.find(
    (each) =>
      each.broker === broker &&
      each.caseName === row.caseName &&
      each.payloadBytes === row.payloadBytes,
  );
  return (other?.measurement?.[field] ?? Number.NaN) / (row.measurement?.[field] ?? Number.NaN);
}

function p99Cells(
  rows: readonly ResultRow[],
  row: ResultRow,
  paced: ReadonlySet<string>,
): readonly [string, string] {
  const ratio = ratioTo(rows, row, 'mosquitto', 'latencyP99Us');
  if (!paced.has(row.caseName) || Number.isNaN(ratio)) return ['', ''];
  return [shorten(ratio), ratio >= 1 ? 'no worse' : 'WORSE'];
}

function targetFor(caseName: string, broker: string): number | undefined {
  if (broker !== 'mosquitto' && broker !== 'aedes') return undefined;
  return TARGETS[caseName]?.[broker];
}

/** Three significant digits without an exponent; a dash for no figure. */
function shorten(value: number): string {
  if (!Number.isFinite(value)) return '-';
  const magnitude = Math.abs(value);
  if (magnitude >= 100) return value.toFixed(0);
  if (magnitude >= 10) return value.toFixed(1);
  return magnitude >= 1 ? value.toFixed(2) : value.toFixed(3);
}

function table(header: readonly string[], lines: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, 3, ...lines.map((line) => (line[column] ?? '').length)),
  );
  const write = (cells: readonly string[]): string =>
    `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`;
  return [write(header), write(widths.map((width) => '-'.repeat(width))), ...lines.map(write)].join(
    '\n',
  );
}
