/** The sum of the series of a metric of a node, by its operations port; see `sumOfMetric`. */
export async function readMetric(
  httpPort: number | undefined,
  name: string,
  label = '',
): Promise<number> {
  if (httpPort === undefined) return Number.NaN;
  const response = await fetch(`http://127.0.0.1:${String(httpPort)}/metrics`);
  return sumOfMetric(await response.text(), name, label);
}

/**
 * Adds up the series of a metric in the text format of Prometheus, of those with `label`, as in `kind="clean"`, if one is
 * given; NaN when there is none.
 */
export function sumOfMetric(text: string, name: string, label = ''): number {
  const values = text
    .split('\n')
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    .filter((line) => line.includes(label))
    .map((line) => Number(line.slice(line.lastIndexOf(' ') + 1)));
  return values.length === 0 ? Number.NaN : values.reduce((total, value) => total + value, 0);
}
