const cleanups = new Set<() => void>();

process.on('exit', () => {
  for (const cleanup of cleanups) cleanup();
});

/**
 * Has `cleanup` called when this process ends in whatever way but SIGKILL, for what must not stay
 * behind: processes, directories. It runs synchronously. The returned function takes it back.
 */
export function onExit(cleanup: () => void): () => void {
  cleanups.add(cleanup);
  return () => {
    cleanups.delete(cleanup);
  };
}
