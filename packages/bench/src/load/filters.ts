const ROTATING_TOPICS = 500;

/** Ten filters, each of which matches every one of `rotatingTopics`. */
export const ROTATING_FILTERS: readonly string[] = [
  'plant/#',
  'plant/+/line/#',
  'plant/+/line/press/#',
  'plant/+/line/press/temperature',
  'plant/+/+/press/temperature',
  'plant/+/+/+/temperature',
  'plant/+/line/+/temperature',
  '+/+/line/press/temperature',
  '+/+/+/+/temperature',
  '+/+/line/press/#',
];

/** Topics of equal length that a publisher uses in turn, so that no match is repeated at once. */
export function rotatingTopics(): string[] {
  return Array.from(
    { length: ROTATING_TOPICS },
    (_, index) => `plant/${String(index).padStart(4, '0')}/line/press/temperature`,
  );
}

/** `count` different filters that match none of `rotatingTopics`: near misses and strangers. */
export function otherFilters(count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const id = String(index);
    switch (index % 5) {
      case 0:
        return `plant/${id.padStart(6, '0')}/line/press/temperature`;
      case 1:
        return `plant/+/line/press/humidity${id}`;
      case 2:
        return `site/${id}/+/temperature`;
      case 3:
        return `site/${id}/line/#`;
      default:
        return `plant/${id.padStart(6, '0')}/+/press/temperature`;
    }
  });
}
