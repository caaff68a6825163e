/**
 * One store: the page's state, and who wants to hear of which part of it.
 *
 * @template {object} S
 */
export class Store {
  /** @param {S} state */
  constructor(state) {
    /** @type {S} */
    this.state = state;
    /** @type {Set<{keys: Set<keyof S>, listener: (state: S) => void}>} */
    this.listeners = new Set();
    /** @type {Set<keyof S>} */
    this.changed = new Set();
    this.telling = false;
  }

  /** @returns {Readonly<S>} */
  get() {
    return this.state;
  }

  /**
   * Change some of the state. Listeners hear of it at once, each once, after all of it is in place;
   * what they set in turn is told in another round.
   *
   * @param {Partial<S>} changes
   */
  set(changes) {
    for (const key of /** @type {(keyof S)[]} */ (Object.keys(changes))) {
      const value = changes[key];
      if (Object.is(this.state[key], value)) continue;
      this.state = { ...this.state, [key]: value };
      this.changed.add(key);
    }
    if (this.telling) return;
    this.telling = true;
    try {
      while (this.changed.size) {
        const changed = this.changed;
        this.changed = new Set();
        for (const { keys, listener } of [...this.listeners])
          if ([...keys].some((key) => changed.has(key))) listener(this.state);
      }
    } finally {
      this.telling = false;
    }
  }

  /**
   * Call `listener` now and whenever one of `keys` changes, until the given function is called.
   *
   * @param {(keyof S)[]} keys
   * @param {(state: S) => void} listener
   * @returns {() => void}
   */
  subscribe(keys, listener) {
    const entry = { keys: new Set(keys), listener };
    this.listeners.add(entry);
    listener(this.state);
    return () => this.listeners.delete(entry);
  }
}
