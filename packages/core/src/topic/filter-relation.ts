import { isSystemTopic } from './name.ts';

/**
 * Every topic that `inner` matches is matched by `outer`, both being valid filters. What rules about topics mean for a
 * SUBSCRIBE: `a/+/b` allows `a/x/b` and not `a/#`.
 */
export function containsFilter(outer: string, inner: string): boolean {
  if (outer === inner) return true;
  if (isSystemTopic(inner) && !isSystemTopic(outer)) return false;
  const outerLevels = levelsOf(outer);
  const innerLevels = levelsOf(inner);
  for (let i = 0; ; i++) {
    const level = innerLevels[i];
    if (outerLevels[i] === '#') return true;
    if (level === undefined) return outerLevels[i] === undefined;
    if (level === '#') return false;
    if (outerLevels[i] !== '+' && outerLevels[i] !== level) return false;
  }
}

/** There is a topic that both valid filters match. */
export function filtersOverlap(first: string, second: string): boolean {
  if (isSystemTopic(first) !== isSystemTopic(second)) return false;
  const firstLevels = levelsOf(first);
  const secondLevels = levelsOf(second);
  for (let i = 0; ; i++) {
    const a = firstLevels[i];
    const b = secondLevels[i];
    if (a === '#' || b === '#') return true;
    if (a === undefined || b === undefined) return a === b;
    if (a !== '+' && b !== '+' && a !== b) return false;
  }
}

/** `#` stands for no level, too; but where that leaves the empty name, which no topic has, it stands for one at least. */
function levelsOf(filter: string): string[] {
  if (filter === '#') return ['+', '#'];
  if (filter === '/#') return ['', '+', '#'];
  return filter.split('/');
}
