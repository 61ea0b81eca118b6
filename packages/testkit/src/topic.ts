import { TopicTable } from '@shoalmq/core';
import type { Topic } from '@shoalmq/core';

const table = new TopicTable();

/** The interned topic of this name, which must be a valid one. */
export function topicOf(name: string): Topic {
  const bytes = new TextEncoder().encode(name);
  return table.find(bytes, 0, bytes.length) ?? table.add(name, bytes);
}
