/** A double-ended queue in a ring that grows by doubling and shrinks when emptied. */
export class Deque<T> {
  #ring: (T | undefined)[] = [];
  #head = 0;
  length = 0;

  push(item: T): void {
    if (this.length === this.#ring.length) this.#grow();
    this.#ring[(this.#head + this.length) & (this.#ring.length - 1)] = item;
    this.length += 1;
  }

  peek(): T | undefined {
    return this.length === 0 ? undefined : this.#ring[this.#head];
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#ring[this.#head];
    this.#ring[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.length -= 1;
    if (this.length === 0 && this.#ring.length > 64) {
      this.#ring = [];
      this.#head = 0;
    }
    return item;
  }

  #grow(): void {
    const ring = new Array<T | undefined>(Math.max(8, this.#ring.length * 2)).fill(undefined);
    for (let i = 0; i < this.length; i++) {
      ring[i] = this.#ring[(this.#head + i) & (this.#ring.length - 1)];
    }
    this.#ring = ring;
    this.#head = 0;
  }
}
