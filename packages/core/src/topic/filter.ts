import { hasMoreLevels, isSystemTopic, textProblem } from './name.ts';

const SLASH = 0x2f;
const PLUS = 0x2b;
const HASH = 0x23;

/**
 * Why `filter` is not a topic filter, in words for a reason string; `undefined`: it is one. Refused: the empty
 * filter [MQTT-4.7.3-1], misplaced wildcards [MQTT-4.7.1-1] [MQTT-4.7.1-2], more than `levelsMax` levels, and what
 * `textProblem` refuses. Of a Shared Subscription, give the filter inside (`parseShare`).
 */
export function topicFilterProblem(filter: string, levelsMax: number): string | undefined {
  if (filter === '') return 'the topic filter is empty';
  for (let i = 0; i < filter.length; i++) {
    const unit = filter.charCodeAt(i);
    if (unit !== PLUS && unit !== HASH) continue;
    const starts = i === 0 || filter.charCodeAt(i - 1) === SLASH;
    const last = i === filter.length - 1;
    if (unit === HASH && !(starts && last)) return '# is not the whole of the last level';
    if (unit === PLUS && !(starts && (last || filter.charCodeAt(i + 1) === SLASH))) {
      return '+ is not the whole of a level';
    }
  }
  if (hasMoreLevels(filter, levelsMax)) return `the topic filter has more than ${levelsMax} levels`;
  return textProblem(filter);
}

/** The (valid) filter can match more than one topic. */
export function hasWildcard(filter: string): boolean {
  return filter.includes('+') || filter.charCodeAt(filter.length - 1) === HASH;
}

/**
 * The valid `filter` matches the valid topic `name`, code unit for code unit [MQTT-4.7.3-4]. A wildcard in the
 * first level does not match names that begin with `$` [MQTT-4.7.2-1]; `a/#` matches `a`. For single checks:
 * many filters are in a `RouteTable`.
 */
export function matches(filter: string, name: string): boolean {
  if (isSystemTopic(name) && !isSystemTopic(filter)) return false;
  let f = 0;
  let n = 0;
  for (;;) {
    // Both are at the start of a level.
    const first = filter.charCodeAt(f);
    if (first === HASH) return true;
    if (first === PLUS) {
      f += 1;
      while (n < name.length && name.charCodeAt(n) !== SLASH) n += 1;
    } else {
      while (n < name.length && name.charCodeAt(n) !== SLASH) {
        if (filter.charCodeAt(f) !== name.charCodeAt(n)) return false;
        f += 1;
        n += 1;
      }
    }
    // The name is at the end of a level: the filter must be, too.
    if (n === name.length) {
      if (f === filter.length) return true;
      return f === filter.length - 2 && filter.charCodeAt(f + 1) === HASH;
    }
    if (filter.charCodeAt(f) !== SLASH) return false;
    f += 1;
    n += 1;
  }
}

/**
 * Every topic name that the valid filter `inner` matches is matched by the valid filter `outer` too: whoever may
 * have `outer` may have `inner`. Exact, not an approximation; the number of levels is not taken as bounded.
 */
export function contains(outer: string, inner: string): boolean {
  // A wildcard in the first level reaches no name that begins with $ [MQTT-4.7.2-1].
  if (isSystemTopic(inner) && !isSystemTopic(outer)) return false;
  const outerLevels = outer.split('/');
  const innerLevels = inner.split('/');
  for (let i = 0; i < outerLevels.length; i++) {
    const wide = outerLevels[i];
    if (wide === '#') return true;
    const narrow = innerLevels[i];
    if (narrow === undefined) return false;
    if (narrow === '#') {
      // `a/#` matches `a`, and `a/+/#` does not. But no name is empty, so nothing stands before the first level
      // of `#`, nor before the second of `/#`: there one more `+` takes nothing away.
      const parentIsEmpty = i === 0 || (i === 1 && innerLevels[0] === '');
      return parentIsEmpty && wide === '+' && outerLevels[i + 1] === '#';
    }
    if (wide !== '+' && wide !== narrow) return false;
  }
  return innerLevels.length === outerLevels.length;
}
