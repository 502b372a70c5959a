import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, it, vi } from "vitest";

import { type ImageInfo, sentence } from "../src/api";
import { range, ticks } from "../src/chart";
import { button, h } from "../src/dom";
import { nothing } from "../src/gallery";
import { heatColours } from "../src/heat";
import { keepsKey } from "../src/keys";
import { Latest } from "../src/latest";
import { barFor } from "../src/scalebar";
import { lamOf } from "../src/side";
import { Store } from "../src/store";
import { duration, untested } from "../src/training";

const SOURCES = join(import.meta.dirname, "..", "src");

describe("text stays text", () => {
  it("puts markup into elements as characters", () => {
    const element = h("span", { title: '"><img>' }, "<img src=x onerror=alert(1)>");
    expect(element.children).toHaveLength(0);
    expect(element.textContent).toBe("<img src=x onerror=alert(1)>");
    expect(button({ text: "<b>x</b>" }).querySelector("b")).toBeNull();
  });

  it("is never parsed: no source uses an interface that does", () => {
    for (const name of readdirSync(SOURCES).filter((file) => file.endsWith(".ts"))) {
      expect(readFileSync(join(SOURCES, name), "utf8"), name).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/);
    }
  });

  it("comes with a page that has no inline script, no inline style and no address of another server", () => {
    const page = readFileSync(join(SOURCES, "..", "index.html"), "utf8");
    expect(page).not.toMatch(/<style|style=|https?:|<script(?![^>]*src=)/);
  });
});

describe("of several requests", () => {
  it("only the last is answered, and the others are aborted", async () => {
    const latest = new Latest();
    const signals: AbortSignal[] = [];
    const ask = (value: number) => (signal: AbortSignal) => {
      signals.push(signal);
      return new Promise<number>((resolve) => setTimeout(() => resolve(value), 5));
    };
    expect(await Promise.all([latest.run(ask(1)), latest.run(ask(2)), latest.run(ask(3))])).toEqual([undefined, undefined, 3]);
    expect(signals.map((signal) => signal.aborted)).toEqual([true, true, false]);
  });

  it("those within the wait are never sent", async () => {
    vi.useFakeTimers();
    const latest = new Latest();
    const ask = vi.fn(async () => 1);
    const answers = [latest.run(ask, 100), latest.run(ask, 100)];
    await vi.advanceTimersByTimeAsync(200);
    vi.useRealTimers();
    expect(await Promise.all(answers)).toEqual([undefined, 1]);
    expect(ask).toHaveBeenCalledTimes(1);
  });

  it("an error of the last one is reported", async () => {
    await expect(new Latest().run(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  });
});

describe("the server's messages", () => {
  it("become sentences", () => {
    expect(sentence("click once more")).toBe("Click once more.");
    expect(sentence("Done.")).toBe("Done.");
  });
});

describe("the store", () => {
  it("calls readers of what changed, and no others", () => {
    const store = new Store({ a: 1, b: 1 });
    const [readA, readB] = [vi.fn(), vi.fn()];
    store.on(["a"], readA);
    store.on(["b"], readB);
    store.set({ a: 2, b: 1 });
    expect([readA.mock.calls.length, readB.mock.calls.length]).toEqual([2, 1]);
  });
});

describe("keys", () => {
  it("belong to the field in which the user types", () => {
    expect(keepsKey(h("input", { type: "text" }), "z")).toBe(true);
    expect(keepsKey(h("input", { type: "range" }), "z")).toBe(false);
    expect(keepsKey(h("input", { type: "range" }), "ArrowLeft")).toBe(true);
    expect(keepsKey(h("button"), " ")).toBe(true);
    expect(keepsKey(h("button"), "n")).toBe(false);
  });
});

describe("an empty gallery", () => {
  it("says why, and blames the name that is sought first", () => {
    expect(nothing("predicted", "")).toMatch(/^Nothing is predicted yet/);
    expect(nothing("predicted", " x ")).toBe("No image of this name.");
  });
});

describe("before a training", () => {
  const images = (...patients: string[]) => patients.map((patient) => ({ patient, points: 1, regions: 0 }) as ImageInfo);

  it("too few patients for a test are counted, by patient", () => {
    expect(untested(images("a", "b", "c"), 8)).toMatch(/^No test yet: from 8 annotated images on \(now 3\) some are kept/);
    expect(untested(images("a", "a", "b"), 8)).toMatch(/^No test yet: from annotated images of 8 patients on \(now 2\)/);
  });

  it("nothing is said without annotations, nor with enough", () => {
    expect(untested([{ patient: "a", points: 0, regions: 0 } as ImageInfo], 8)).toBeNull();
    expect(untested(images("a", "b"), 2)).toBeNull();
  });
});

describe("numbers", () => {
  it("of the scale bar are round and fit the screen", () => {
    expect(barFor(1, 0.5)).toEqual({ length: 100, text: "50 µm" });
    expect(barFor(0.01, 0.25)).toEqual({ length: 80, text: "2 mm" });
    expect(barFor(2, null)).toEqual({ length: 100, text: "50 px" });
    for (const scale of [0.003, 0.07, 0.4, 3, 16]) {
      const { length } = barFor(scale, 0.31);
      expect(length).toBeGreaterThanOrEqual(60);
      expect(length).toBeLessThanOrEqual(160);
    }
  });

  it("of the chart's axis are round and within its range", () => {
    expect(ticks(0, 1).map((tick) => tick.toFixed(1))).toEqual(["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    expect(ticks(0.2, 0.82).map((tick) => tick.toFixed(1))).toEqual(["0.2", "0.4", "0.6", "0.8"]);
    expect(range([])).toEqual([0, 1]);
    expect(range([0.5, 0.5])[0]).toBeLessThan(0.5);
  });

  it("of durations are short", () => {
    expect([7.4, 75, 3720].map(duration)).toEqual(["7 s", "1 min 15 s", "1 h 2 min"]);
  });

  it("of smoothness double lam at each step to the rough side", () => {
    expect([-1, 0, 2].map((step) => lamOf(step, 0.2))).toEqual([0.4, 0.2, 0.05]);
  });

  it("of u are coloured from dark and transparent to bright and opaque", () => {
    const colours = heatColours();
    expect([...colours.slice(0, 4)]).toEqual([68, 1, 84, 64]);
    expect([...colours.slice(255 * 4)]).toEqual([253, 231, 37, 255]);
  });
});
