/** The open image: its annotations, its u, and the questions put to the server about both. */

import { api, ApiError, type Rectangle, type Segmentation, Unreachable } from "./api";
import { unpack } from "./heat";
import { Journal } from "./journal";
import { Latest } from "./latest";
import { foreground, openImage, replaceImage, store } from "./state";
import { complain, say } from "./toasts";

const SLIDER_WAIT = 120;

export class Annotating {
  journal: Journal | null = null;
  private readonly latest = new Latest();
  private window: Rectangle | null = null;
  private readonly left = new Map<string, Journal>(); // of images left with unsaved edits

  constructor(private readonly lost: () => void) {}

  /** Open an image, or none. */
  async open(id: string | null): Promise<void> {
    this.latest.cancel();
    this.window = null;
    if (this.journal?.unsaved) this.left.set(this.journal.image, this.journal);
    const journal = id === null ? null : (this.left.get(id) ?? this.begin(id));
    this.journal = journal;
    store.set({ image: id, selected: null, segmented: null, computing: false, unsaved: this.unsaved(), marks: store.state.marks + 1 });
    if (journal === null) return;
    await this.asked(async () => {
      await journal.load();
      if (journal === this.journal) this.segment();
    });
  }

  private begin(id: string): Journal {
    const journal: Journal = new Journal(id, {
      changed: () => this.changed(journal),
      saved: () => journal === this.journal && this.segment(),
      say: (sentence) => say(sentence, "problem"),
      lost: this.lost,
    });
    return journal;
  }

  /** The connection is back. */
  async recover(): Promise<void> {
    await this.asked(async () => {
      for (const journal of new Set([...this.left.values(), ...(this.journal ? [this.journal] : [])])) await journal.recover();
      this.segment();
    });
  }

  private unsaved(): number {
    const journals = new Set([...this.left.values(), ...(this.journal ? [this.journal] : [])]);
    return [...journals].reduce((sum, journal) => sum + journal.unsaved, 0);
  }

  /** Another window, or another program, has changed the annotations. */
  async changedElsewhere(id: string, revision: number): Promise<void> {
    const { journal } = this;
    if (!journal || journal.image !== id || journal.unsaved > 0 || revision === journal.annotations.revision) return;
    await this.asked(async () => {
      await journal.load();
      if (journal === this.journal) this.segment();
    });
  }

  place(x: number, y: number): void {
    if (!this.journal?.loaded) return;
    performance.mark("click");
    this.leaveWindow(x, y);
    const id = this.journal.add(round(x), round(y), store.state.label);
    store.set({ selected: id });
  }

  move(id: string, x: number, y: number): void {
    performance.mark("click");
    this.leaveWindow(x, y);
    this.journal?.push({ op: "move", id, x: round(x), y: round(y) });
  }

  removeSelected(): void {
    const { selected } = store.state;
    if (!this.journal || selected === null) return;
    store.set({ selected: null });
    this.journal.push({ op: "remove", id: selected });
  }

  relabelSelected(): void {
    const { selected, label } = store.state;
    if (selected !== null) this.journal?.push({ op: "relabel", id: selected, label });
  }

  removeRegion(id: string): void {
    this.journal?.push({ op: "remove_region", id });
  }

  /** Ask for u; of several questions in short order only the last is answered. */
  segment(wait = 0): void {
    const { image, project, whose, threshold, lam } = store.state;
    const { journal } = this;
    if (image === null || !journal?.loaded) return;
    const alone = whose === "network" && project?.model != null;
    if (!alone && journal.points().length === 0 && (whose === "clicks" || !project?.model)) {
      this.latest.cancel();
      store.set({ segmented: null, computing: false });
      return;
    }
    store.set({ computing: true });
    const request = { window: this.window, lam, threshold, label: foreground().number, features: whose === "clicks" ? ("pretrained" as const) : ("network" as const) };
    const ask = async (signal: AbortSignal) => {
      const answer = alone ? await api.prediction(image, request, signal) : await api.segment(image, request, signal);
      return { answer, grid: answer.u ? await unpack(answer.u) : null };
    };
    this.latest.run(ask, wait).then(
      (segmented) => {
        if (!segmented) return;
        store.set({ segmented, computing: false });
        timed();
      },
      (error: unknown) => {
        store.set({ computing: false });
        this.refused(error);
      },
    );
  }

  segmentLater(): void {
    this.segment(SLIDER_WAIT);
  }

  /** From now on compute u on this part of the image; null leaves the choice to the server. */
  lookAt(window: Rectangle | null): void {
    this.window = window;
    this.segment();
  }

  // A click beside the part that was asked for: the server chooses a part around the clicks again.
  private leaveWindow(px: number, py: number): void {
    if (!this.window) return;
    const { x, y, width, height } = this.window;
    if (px < x || py < y || px >= x + width || py >= y + height) this.window = null;
  }

  async take(): Promise<void> {
    const { journal } = this;
    const { segmented, threshold } = store.state;
    if (!journal || !segmented?.grid) return;
    await this.asked(async () => {
      await journal.flush();
      const before = journal.annotations.regions.length;
      const { window } = segmented.answer satisfies Segmentation;
      const request = { revision: journal.annotations.revision, window, threshold, label: foreground().number };
      journal.accept(await api.take(journal.image, request));
      const taken = journal.annotations.regions.length - before;
      say(`${taken} ${taken === 1 ? "outline" : "outlines"} taken as regions of ${foreground().name}: they train with the next training.`);
      this.segment();
    });
  }

  async check(): Promise<void> {
    const image = openImage();
    if (!image) return;
    await this.asked(async () => replaceImage(await api.checked(image.id, image.state !== "checked")));
  }

  /** Do something the server may refuse, and say so if it does. */
  private async asked(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (error) {
      this.refused(error);
    }
  }

  private refused(error: unknown): void {
    if (error instanceof Unreachable) this.lost();
    else if (error instanceof ApiError && error.status === 409 && this.journal) {
      void this.journal.load();
      say("These annotations were changed elsewhere and have been loaded anew; please try again.", "problem");
    } else complain(error);
  }

  private changed(journal: Journal): void {
    if (journal.unsaved === 0) this.left.delete(journal.image);
    store.set({ unsaved: this.unsaved() });
    if (journal !== this.journal) return;
    const { selected, marks } = store.state;
    store.set({
      marks: marks + 1,
      selected: selected === null ? null : journal.named(selected),
    });
    const image = openImage();
    const { points, regions } = journal.annotations;
    if (!image || !journal.loaded || (image.points === points.length && image.regions === regions.length)) return;
    const state = image.state === "untouched" && points.length + regions.length > 0 ? "clicked" : image.state;
    replaceImage({ ...image, points: points.length, regions: regions.length, state });
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

// For tests and for those who look into the browser's performance panel: from the click to the drawn outline.
function timed(): void {
  requestAnimationFrame(() => {
    if (performance.getEntriesByName("click", "mark").length === 0) return;
    performance.measure("click to outline", "click");
    performance.clearMarks("click");
  });
}
