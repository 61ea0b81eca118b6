import { EMPTY_MEASUREMENT } from './measurement.ts';
import type { Measurement, MeasurementField } from './measurement.ts';
import type { ResultRow } from './result-row.ts';
import type { SubscriptionFigures } from './subscriptions/subscription-figures.ts';
import { GOALS, SUBSCRIPTION_BYTES_MAX, TARGETS } from './targets.ts';
import type { Goal } from './targets.ts';

/** The measurements as a Markdown table, aligned so that it also reads well on a terminal. */
export function resultTable(rows: readonly ResultRow[]): string {
  return columnTable(
    RESULT_COLUMNS.filter(({ of }) => of !== 'cluster'),
    rows,
  );
}

/** The measurements of clusters as a Markdown table, with the columns that only they need. */
export function clusterTable(rows: readonly ResultRow[]): string {
  return columnTable(RESULT_COLUMNS, rows);
}

/** What we want of clusters beside what was measured, as a Markdown table; empty when nothing of it was. */
export function goalTable(rows: readonly ResultRow[], goals: readonly Goal[] = GOALS): string {
  const lines: string[][] = [];
  for (const { caseName, what, most, least, value } of goals) {
    const ofCase = rows.filter((row) => row.caseName === caseName);
    for (const payloadBytes of new Set(ofCase.map((row) => row.payloadBytes))) {
      const found = value(
        (setup) =>
          ofCase.find((row) => row.payloadBytes === payloadBytes && row.broker === setup)
            ?.measurement,
      );
      if (Number.isNaN(found)) continue;
      const met = found <= (most ?? Infinity) && found >= (least ?? -Infinity);
      const target =
        most === undefined
          ? `>= ${String(least)}`
          : `<= ${Number.isInteger(most) ? String(most) : shorten(most)}`;
      const verdict = met ? 'yes' : 'NO';
      lines.push([caseName, String(payloadBytes), what, shorten(found), target, verdict]);
    }
  }
  if (lines.length === 0) return '';
  return table(['case', 'payload', 'figure', 'measured', 'target', 'met'], lines);
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

interface Column {
  readonly title: string;
  /** The only table that has this column. */
  readonly of?: 'cluster';
  /** Of a row that has a measurement. */
  readonly cell: (found: Measurement, row: ResultRow) => string;
  /** Also of a row without. */
  readonly head?: true;
}

const RESULT_COLUMNS: readonly Column[] = [
  { title: 'case', head: true, cell: (_, { caseName }) => caseName },
  { title: 'payload', head: true, cell: (_, { payloadBytes }) => String(payloadBytes) },
  { title: 'broker', head: true, cell: (_, { broker }) => broker },
  { title: 'durability', of: 'cluster', head: true, cell: (_, { durability }) => durability },
  {
    title: 'msg/s',
    cell: ({ deliveredPerSecond }) =>
      Number.isNaN(deliveredPerSecond) ? '-' : deliveredPerSecond.toFixed(0),
  },
  { title: 'CPU us/msg', cell: ({ brokerCpuUs }) => shorten(brokerCpuUs) },
  {
    title: '(range)',
    cell: (_, { runs, brokerCpuUsRange: [least, most] }) =>
      runs > 1 && !Number.isNaN(least) ? `${shorten(least)}..${shorten(most)}` : '-',
  },
  { title: 'user', cell: ({ brokerUserUs }) => shorten(brokerUserUs) },
  { title: 'system', cell: ({ brokerSystemUs }) => shorten(brokerSystemUs) },
  { title: 'Redis us/msg', of: 'cluster', cell: ({ redisCpuUs }) => shorten(redisCpuUs) },
  { title: 'broker CPU %', cell: ({ brokerCpuPercent }) => shorten(brokerCpuPercent) },
  { title: 'p50 ms', cell: ({ latencyP50Us }) => shorten(latencyP50Us / 1000) },
  { title: 'p99 ms', cell: ({ latencyP99Us }) => shorten(latencyP99Us / 1000) },
  { title: 'RSS MB', cell: ({ residentBytes }) => shorten(residentBytes / 2 ** 20) },
  { title: 'lost', cell: ({ lost }) => String(lost) },
  { title: 'dup', cell: ({ duplicates }) => String(duplicates) },
  { title: 'order', cell: ({ outOfOrder }) => String(outOfOrder) },
  { title: 'gen us/msg', cell: ({ generatorCpuUs }) => shorten(generatorCpuUs) },
  { title: 'gen CPU %', cell: ({ generatorCpuPercent }) => shorten(generatorCpuPercent) },
  { title: 'others CPU %', cell: ({ otherCpuPercent }) => shorten(otherCpuPercent) },
];

function columnTable(columns: readonly Column[], rows: readonly ResultRow[]): string {
  const lines = rows.map((row) => {
    const { measurement, failures } = row;
    const found = measurement ?? EMPTY_MEASUREMENT;
    const cells = columns.map(({ cell, head }) =>
      measurement === undefined && head !== true ? '-' : cell(found, row),
    );
    const also = Object.entries(found.figures).map(([name, value]) => `${name} ${shorten(value)}`);
    const failed =
      measurement === undefined ? failures : failures.map((failure) => `FAILED RUN: ${failure}`);
    return [...cells, [...also, ...failed].join(measurement === undefined ? '; ' : ', ')];
  });
  return table([...columns.map(({ title }) => title), 'also'], lines);
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
