/** State that tells its readers when the parts they read have changed. */

export class Store<T extends object> {
  private readonly listeners: { keys: (keyof T)[]; run: () => void }[] = [];

  constructor(private value: T) {}

  get state(): Readonly<T> {
    return this.value;
  }

  /** Change some parts and call each reader of one that is now another value. */
  set(change: Partial<T>): void {
    const before = this.value;
    this.value = { ...before, ...change };
    const changed = new Set((Object.keys(change) as (keyof T)[]).filter((key) => before[key] !== this.value[key]));
    if (changed.size === 0) return;
    for (const { keys, run } of this.listeners) if (keys.some((key) => changed.has(key))) run();
  }

  /** Call `run` now and whenever one of the keys has changed. */
  on(keys: (keyof T)[], run: () => void): void {
    this.listeners.push({ keys, run });
    run();
  }
}
