/** What has output to send at the end of the turn. */
export interface TurnOutput {
  /** Sends what was gathered. Called once per `flushAtTurnEnd`. */
  flush(): void;
}

/*
 * Two lists that swap roles, with a count of their own: setting `length` to 0 would give the list's memory back and
 * take it again in every turn.
 */
let waiting: (TurnOutput | undefined)[] = [];
let flushing: (TurnOutput | undefined)[] = [];
let waitingCount = 0;

/**
 * Has `output.flush` called at the end of this turn of the event loop, after all sockets that were readable have
 * been read: immediates run directly after the poll phase. One immediate serves all outputs of the turn.
 */
export function flushAtTurnEnd(output: TurnOutput): void {
  if (waitingCount === 0) setImmediate(flushAll);
  waiting[waitingCount++] = output;
}

function flushAll(): void {
  const outputs = waiting;
  const count = waitingCount;
  waiting = flushing;
  flushing = outputs;
  waitingCount = 0;
  for (let index = 0; index < count; index++) {
    const output = outputs[index]!;
    outputs[index] = undefined;
    output.flush();
  }
}
