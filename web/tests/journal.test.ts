import { beforeEach, describe, expect, it } from "vitest";

import { type Annotations, ApiError, type Edit, Unreachable } from "../src/api";
import { Journal, type Listener } from "../src/journal";

/** A server with one image; `fail` makes the next answers errors, `deaf` stores but does not answer. */
class Server {
  stored: Annotations = { revision: 0, points: [], regions: [], can_undo: false, can_redo: false, checked: false };
  requests: { revision: number; edits: Edit[] }[] = [];
  failures: Error[] = [];
  deaf = 0;
  gates: Promise<void>[] = [];
  private made = 0;

  async annotations(): Promise<Annotations> {
    return structuredClone(this.stored);
  }

  async edit(_image: string, revision: number, edits: Edit[]): Promise<Annotations> {
    this.requests.push({ revision, edits });
    await this.gates.shift();
    const failure = this.failures.shift();
    if (failure) throw failure;
    if (revision !== this.stored.revision) throw new ApiError(409, "stale", { detail: "stale", current: structuredClone(this.stored) });
    for (const edit of edits) this.apply(edit);
    this.stored.revision++;
    this.stored.can_undo = true;
    if (this.deaf-- > 0) throw new Unreachable();
    return structuredClone(this.stored);
  }

  apply(edit: Edit): void {
    if (edit.op === "add") this.stored.points.push({ id: `${++this.made}`, x: edit.x, y: edit.y, label: edit.label });
    if (edit.op === "remove") this.stored.points = this.stored.points.filter((point) => point.id !== edit.id);
    if (edit.op === "move") Object.assign(this.stored.points.find((point) => point.id === edit.id)!, { x: edit.x, y: edit.y });
  }

  async undo(_image: string, revision: number): Promise<Annotations> {
    if (revision !== this.stored.revision) throw new ApiError(409, "stale", { current: structuredClone(this.stored) });
    this.stored.points.pop();
    this.stored.revision++;
    return structuredClone(this.stored);
  }

  redo = this.undo;
}

class Heard implements Listener {
  savings = 0;
  losses = 0;
  sentences: string[] = [];
  changed(): void {}
  saved(): void {
    this.savings++;
  }
  lost(): void {
    this.losses++;
  }
  say(sentence: string): void {
    this.sentences.push(sentence);
  }
}

function gate(): { open: () => void; promise: Promise<void> } {
  let open = () => {};
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, promise };
}

describe("the journal of edits", () => {
  let server: Server;
  let heard: Heard;
  let journal: Journal;

  beforeEach(async () => {
    server = new Server();
    heard = new Heard();
    journal = new Journal("a", heard, server);
    await journal.load();
  });

  it("shows a point as unsaved until the server has answered", async () => {
    const { open, promise } = gate();
    server.gates.push(promise);
    journal.add(10, 20, 1);
    expect(journal.points()).toMatchObject([{ x: 10, y: 20, label: 1, saved: false }]);
    expect(journal.unsaved).toBe(1);
    open();
    await journal.flush();
    expect(journal.points()).toEqual([{ id: "1", x: 10, y: 20, label: 1, saved: true }]);
    expect(heard.savings).toBe(1);
  });

  it("sends what was clicked during a request in one more, with the new revision", async () => {
    const { open, promise } = gate();
    server.gates.push(promise);
    journal.add(1, 1, 1);
    journal.add(2, 2, 0);
    journal.add(3, 3, 0);
    open();
    await journal.flush();
    expect(server.requests.map((request) => [request.revision, request.edits.length])).toEqual([[0, 1], [1, 2]]);
    expect(journal.points().map((point) => point.saved)).toEqual([true, true, true]);
  });

  it("removes the stored point when it was removed before the answer came", async () => {
    const { open, promise } = gate();
    server.gates.push(promise);
    const id = journal.add(1, 1, 1);
    journal.push({ op: "remove", id });
    expect(journal.points()).toEqual([]);
    open();
    await journal.flush();
    expect(server.stored.points).toEqual([]);
    expect(journal.named(id)).toBe("1");
  });

  it("loads anew on a conflict, says so and adds the click to what is there", async () => {
    server.stored = { ...server.stored, revision: 7, points: [{ id: "elsewhere", x: 5, y: 5, label: 0 }] };
    journal.add(1, 1, 1);
    await journal.flush();
    expect(server.stored.points.map((point) => point.x)).toEqual([5, 1]);
    expect(heard.sentences).toEqual(["These annotations were changed elsewhere and have been loaded anew; your click was added to them."]);
  });

  it("drops a change of a point that is gone, and says so", async () => {
    journal.add(1, 1, 1);
    await journal.flush();
    server.stored = { ...server.stored, revision: 9, points: [] };
    journal.push({ op: "move", id: "1", x: 3, y: 3 });
    await journal.flush();
    expect(journal.unsaved).toBe(0);
    expect(heard.sentences[0]).toMatch(/gone and was dropped/);
  });

  it("keeps unsaved clicks while the server is away and sends them once when it is back", async () => {
    server.failures.push(new Unreachable());
    journal.add(1, 1, 1);
    await journal.flush();
    expect([heard.losses, heard.savings, journal.unsaved]).toEqual([1, 0, 1]);
    await journal.recover();
    expect(server.stored.points).toHaveLength(1);
    expect(journal.points()[0]!.saved).toBe(true);
  });

  it("does not store a click twice whose answer was lost", async () => {
    server.deaf = 1;
    journal.add(1, 1, 1);
    await journal.flush();
    expect(journal.unsaved).toBe(1);
    await journal.recover();
    expect(server.stored.points).toHaveLength(1);
    expect(journal.points()).toEqual([{ id: "1", x: 1, y: 1, label: 1, saved: true }]);
  });

  it("drops what the server refuses, with the server's sentence", async () => {
    server.failures.push(new ApiError(400, "the point lies outside", null));
    journal.add(-5, 1, 1);
    await journal.flush();
    expect(journal.points()).toEqual([]);
    expect(heard.sentences).toEqual(["the point lies outside"]);
  });

  it("undoes an unsent click without the server, and a stored one with it", async () => {
    journal.add(1, 1, 1);
    await journal.flush();
    server.failures.push(new Unreachable());
    journal.add(2, 2, 1);
    await journal.flush();
    await journal.undo();
    expect(journal.points().map((point) => point.x)).toEqual([1]);
    await journal.undo();
    expect(journal.points()).toEqual([]);
    expect(server.stored.points).toEqual([]);
  });

  it("undoes what another window did since only after loading it", async () => {
    server.stored = { ...server.stored, revision: 3, points: [{ id: "9", x: 5, y: 5, label: 0 }] };
    await journal.undo();
    expect(journal.points().map((point) => point.id)).toEqual(["9"]);
    expect(heard.sentences).toEqual(["These annotations were changed elsewhere and have been loaded anew."]);
  });
});
