/** The share name and filter of `$share/...`, which names the group; `undefined` for any other filter. */
export function groupOf(filter: string): string | undefined {
  return filter.startsWith('$share/') ? filter : undefined;
}

const expressions = new Map<string, RegExp>();

/** The filter, shared or not, matches the topic. An implementation of its own, to judge the broker's. */
export function filterMatches(filter: string, topic: string): boolean {
  let expression = expressions.get(filter);
  if (expression === undefined) expressions.set(filter, (expression = expressionOf(filter)));
  return expression.test(topic);
}

function expressionOf(filter: string): RegExp {
  const inner = filter.startsWith('$share/') ? filter.split('/').slice(2).join('/') : filter;
  const levels = inner.split('/').map((level) => {
    if (level === '+') return '[^/]*';
    if (level === '#') return '.*';
    return level.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  });
  const text = levels.join('/').replace(/\/\.\*$/, '(/.*)?');
  return new RegExp(`^${/^[+#]/.test(inner) ? '(?!\\$)' : ''}${text}$`, 's');
}
