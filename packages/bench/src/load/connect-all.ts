/** Runs `connect` for 0 to `count` - 1, at most `concurrency` at a time, and collects the results. */
export async function connectAll<T>(
  count: number,
  concurrency: number,
  connect: (index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next;
      next += 1;
      results[index] = await connect(index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, worker));
  return results;
}
