import fc from 'fast-check';

/** Few levels, so that names and filters meet; with those that went wrong in other brokers. */
const LEVELS = ['', 'a', 'b', '$SYS', '$x', '__proto__', 'constructor', 'größe', '\u{1f41f}'];

const level = fc.constantFrom(...LEVELS);

/** Valid topic names of at most five levels. */
export const topicName = fc
  .array(level, { minLength: 1, maxLength: 5 })
  .map((levels) => levels.join('/'))
  .filter((name) => name !== '');

/** Valid topic filters of at most five levels, two in three of them with wildcards. */
export const topicFilter = fc
  .tuple(
    fc.array(
      fc.oneof({ weight: 2, arbitrary: level }, { weight: 1, arbitrary: fc.constant('+') }),
      {
        maxLength: 4,
      },
    ),
    fc.oneof(level, fc.constant('+'), fc.constant('#')),
  )
  .map(([levels, last]) => [...levels, last].join('/'))
  .filter((filter) => filter !== '');
