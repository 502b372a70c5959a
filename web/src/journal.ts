/** The edits of one image on their way to the disk: shown at once as unsaved, saved once the server has answered. */

import { type Annotations, api, ApiError, type Edit, type Point, Unreachable } from "./api";

export interface ShownPoint extends Point {
  saved: boolean;
}

type Sent = Edit & { id: string };

/** What the journal calls when something happened. */
export interface Listener {
  changed(): void;
  saved(): void;
  say(sentence: string): void;
  lost(): void;
}

const EMPTY: Annotations = { revision: 0, points: [], regions: [], can_undo: false, can_redo: false, checked: false };
const ATTEMPTS = 4;

let made = 0;

/** Annotations as the server last gave them, with the edits it has not yet confirmed. */
export class Journal {
  private stored: Annotations = EMPTY;
  private pending: Sent[] = [];
  private sending = 0;
  private running: Promise<void> | null = null;
  loaded = false;

  constructor(
    readonly image: string,
    private readonly listener: Listener,
    private readonly server: Pick<typeof api, "annotations" | "edit" | "undo" | "redo"> = api,
  ) {}

  get annotations(): Annotations {
    return this.stored;
  }

  get unsaved(): number {
    return this.pending.length;
  }

  get canUndo(): boolean {
    return this.pending.length > 0 || this.stored.can_undo;
  }

  /** All points, the unsaved edits applied. */
  points(): ShownPoint[] {
    const points = new Map<string, ShownPoint>(this.stored.points.map((point) => [point.id, { ...point, saved: true }]));
    for (const edit of this.pending) {
      const before = points.get(edit.id);
      if (edit.op === "add") points.set(edit.id, { id: edit.id, x: edit.x, y: edit.y, label: edit.label, saved: false });
      else if (edit.op === "remove") points.delete(edit.id);
      else if (edit.op === "move" && before) points.set(edit.id, { ...before, x: edit.x, y: edit.y, saved: false });
      else if (edit.op === "relabel" && before) points.set(edit.id, { ...before, label: edit.label, saved: false });
    }
    return [...points.values()];
  }

  regions(): Annotations["regions"] {
    const gone = new Set(this.pending.filter((edit) => edit.op === "remove_region").map((edit) => edit.id));
    return this.stored.regions.filter((region) => !gone.has(region.id));
  }

  /** Place a point and return the identifier that it has until it is saved. */
  add(x: number, y: number, label: number): string {
    const id = `unsaved-${++made}`;
    this.push({ op: "add", id, x, y, label } as Sent);
    return id;
  }

  push(edit: Sent): void {
    const unsent = this.pending.findIndex((other, i) => i >= this.sending && other.op === "add" && other.id === edit.id);
    const add = this.pending[unsent];
    if (add?.op === "add" && edit.op === "remove") this.pending.splice(unsent, 1);
    else if (add?.op === "add" && edit.op === "move") this.pending[unsent] = { ...add, x: edit.x, y: edit.y };
    else if (add?.op === "add" && edit.op === "relabel") this.pending[unsent] = { ...add, label: edit.label };
    else this.pending.push(edit);
    this.listener.changed();
    void this.flush();
  }

  async load(): Promise<void> {
    const annotations = await this.server.annotations(this.image);
    this.loaded = true;
    this.accept(annotations);
  }

  /** Take the annotations of an answer to another request. */
  accept(annotations: Annotations): void {
    this.stored = annotations;
    this.listener.changed();
  }

  /** Send what is unsaved, all of it in one request, until nothing is left. */
  flush(): Promise<void> {
    this.running ??= this.sendAll().finally(() => {
      this.running = null;
    });
    return this.running;
  }

  /** After a lost connection: read again, leave out what had been stored although no answer came, send the rest. */
  async recover(): Promise<void> {
    await this.running?.catch(() => undefined);
    const known = new Set(this.stored.points.map((point) => point.id));
    await this.load();
    this.pending = this.pending.filter((edit) => edit.op !== "add" || !this.created(edit, known));
    this.keepApplicable();
    this.listener.changed();
    await this.flush();
  }

  async undo(): Promise<void> {
    if (this.pending.length > this.sending && this.running === null) {
      this.pending.pop();
      this.listener.changed();
      return;
    }
    await this.step("undo");
  }

  async redo(): Promise<void> {
    await this.step("redo");
  }

  private async step(way: "undo" | "redo"): Promise<void> {
    await this.flush();
    try {
      this.accept(await this.server[way](this.image, this.stored.revision));
      this.listener.saved();
    } catch (error) {
      this.failed(error);
    }
  }

  private async sendAll(): Promise<void> {
    for (let attempt = 0; this.pending.length > 0 && attempt < ATTEMPTS; ) {
      const batch = this.pending.slice();
      this.sending = batch.length;
      this.listener.changed();
      try {
        const known = new Set(this.stored.points.map((point) => point.id));
        const answer = await this.server.edit(this.image, this.stored.revision, batch.map(withoutNewId));
        this.pending.splice(0, batch.length);
        this.stored = answer;
        for (const edit of batch) if (edit.op === "add") this.rename(edit, this.created(edit, known));
        this.sending = 0;
        this.listener.changed();
        this.listener.saved();
        attempt = 0;
      } catch (error) {
        this.sending = 0;
        if (!this.failed(error, batch.length)) return;
        attempt++;
      }
    }
  }

  /** Deal with a failed request; true if the rest may be sent again at once. */
  private failed(error: unknown, batch = 0): boolean {
    if (error instanceof Unreachable || (error instanceof ApiError && (error.status === 401 || error.status >= 500))) {
      this.listener.lost();
      this.listener.changed();
      return false;
    }
    if (!(error instanceof ApiError)) throw error;
    const current = (error.body as { current?: Annotations } | null)?.current;
    if (error.status === 409 && current) {
      this.stored = current;
      const left = this.keepApplicable();
      this.listener.changed();
      this.listener.say(conflict(left, this.pending.length));
      return true;
    }
    this.pending.splice(0, batch);
    this.listener.changed();
    this.listener.say(error.message);
    return true;
  }

  /** Drop edits of points and regions that are gone; return how many. */
  private keepApplicable(): number {
    const before = this.pending.length;
    const there = new Set([...this.stored.points, ...this.stored.regions].map((item) => item.id));
    this.pending = this.pending.filter((edit) => {
      if (edit.op === "add") there.add(edit.id);
      return there.has(edit.id);
    });
    return before - this.pending.length;
  }

  /** The stored point that came of an add: one that was not known before, of its class, at its place. */
  private created(add: Sent & { op: "add" }, known: Set<string>): Point | undefined {
    const near = (point: Point) => Math.abs(point.x - add.x) <= 1 && Math.abs(point.y - add.y) <= 1;
    const found = this.stored.points.find((point) => !known.has(point.id) && point.label === add.label && near(point));
    if (found) known.add(found.id);
    return found;
  }

  private rename(add: Sent, point: Point | undefined): void {
    if (!point) return;
    this.names.set(add.id, point.id);
    for (const edit of this.pending) if (edit.id === add.id) edit.id = point.id;
  }

  private readonly names = new Map<string, string>();

  /** The present identifier of a point that had another until it was saved. */
  named(id: string): string {
    return this.names.get(id) ?? id;
  }
}

function withoutNewId(edit: Sent): Edit {
  if (edit.op !== "add") return edit;
  return { op: "add", x: edit.x, y: edit.y, label: edit.label };
}

function conflict(dropped: number, kept: number): string {
  const changed = "These annotations were changed elsewhere and have been loaded anew";
  if (dropped > 0) return `${changed}; your last change concerned something that is gone and was dropped.`;
  return kept > 0 ? `${changed}; your click was added to them.` : `${changed}.`;
}
