import type { Topic } from '../topic/topic.ts';

/** How a PUBLISH names its topic. `known`: the client has the mapping, the name is left out. */
interface OutboundAlias {
  readonly number: number;
  known: boolean;
}

/**
 * Topic aliases towards one client: given out to topics in the order of their first message, up to the client's
 * Topic Alias Maximum [MQTT-3.1.2-26]; later topics are sent by name. Lives as long as the connection
 * [MQTT-3.3.2-7].
 */
export class OutboundAliases {
  readonly #maximum: number;
  readonly #byTopic = new Map<string, OutboundAlias>();

  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** The alias for the next PUBLISH of this topic; `undefined` when all are taken by other topics. */
  use(topic: Topic): OutboundAlias | undefined {
    const alias = this.#byTopic.get(topic.name);
    if (alias === undefined) {
      if (this.#byTopic.size >= this.#maximum) return undefined;
      const created = { number: this.#byTopic.size + 1, known: true };
      this.#byTopic.set(topic.name, created);
      return { number: created.number, known: false };
    }
    if (alias.known) return alias;
    alias.known = true;
    return { number: alias.number, known: false };
  }

  /** The packet that `use` was called for was not sent: the next one must carry the name again. */
  forget(topic: Topic): void {
    const alias = this.#byTopic.get(topic.name);
    if (alias !== undefined) alias.known = false;
  }
}
