// Loaded into a node with `node --expose-gc --import`: on SIGUSR2 it prints what is in use.
process.on('SIGUSR2', () => {
  // Once is not enough: weak references and array buffers go a collection later.
  for (let round = 0; round < 3; round += 1) globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  process.stderr.write(`used bytes ${String(heapUsed + arrayBuffers)}\n`);
});
