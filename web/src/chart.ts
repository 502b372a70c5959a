/** A small line chart of curves over epochs. */

import { h, svg } from "./dom";

const [WIDTH, HEIGHT] = [360, 150];
const MARGIN = { left: 38, right: 10, top: 8, bottom: 20 };
const WORDS: Record<string, string> = { train: "training", val: "validation", ce: "CE", kl: "KL" };

export type Curves = Record<string, [number, number][]>;

/** The chart with its legend; each curve's colour is the page's `--curve-N`. */
export function chart(curves: Curves, epochs: number): HTMLElement {
  const drawn = Object.entries(curves).filter(([, values]) => values.length > 0);
  const values = drawn.flatMap(([, points]) => points.map(([, value]) => value)).filter(Number.isFinite);
  const [low, high] = range(values);
  const last = Math.max(epochs, 1, ...drawn.flatMap(([, points]) => points.map(([epoch]) => epoch)));
  const x = (epoch: number) => MARGIN.left + (epoch / last) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (value: number) => MARGIN.top + ((high - value) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": described(drawn) });
  for (const value of ticks(low, high)) {
    picture.append(svg("line", { class: "gridline", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(value), y2: y(value) }));
    picture.append(svg("text", { class: "tick", x: MARGIN.left - 6, y: y(value) + 3.5, "text-anchor": "end" }, short(value)));
  }
  for (const epoch of [...new Set([0, Math.round(last / 2), last])]) {
    picture.append(svg("text", { class: "tick", x: x(epoch), y: HEIGHT - 5, "text-anchor": epoch === last ? "end" : "middle" }, String(epoch)));
  }
  drawn.forEach(([, points], i) => picture.append(...curve(points.filter(([, value]) => Number.isFinite(value)), x, y, i)));
  return h("figure", { class: "curves" }, picture, legend(drawn));
}

function curve(points: [number, number][], x: (v: number) => number, y: (v: number) => number, i: number): SVGElement[] {
  const end = points.at(-1);
  if (!end) return [];
  const d = points.map(([epoch, value], k) => `${k ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  return [svg("path", { class: `curve curve-${i % 4}`, d }), svg("circle", { class: `end curve-${i % 4}`, cx: x(end[0]), cy: y(end[1]), r: 3 })];
}

function legend(drawn: [string, [number, number][]][]): HTMLElement {
  return h(
    "figcaption",
    {},
    ...drawn.map(([name, points], i) =>
      h("span", { class: `key curve-${i % 4}` }, h("i", { "aria-hidden": "true" }), named(name), h("b", {}, short(points.at(-1)![1]))),
    ),
  );
}

function named(name: string): string {
  return name
    .split("_")
    .map((word) => WORDS[word] ?? word)
    .join(" ");
}

function described(drawn: [string, [number, number][]][]): string {
  const ends = drawn.map(([name, points]) => `${named(name)} ${short(points.at(-1)![1])} at epoch ${points.at(-1)![0]}`);
  return `Curves over epochs: ${ends.join(", ") || "none yet"}`;
}

/** The lowest and highest value with a little room; never an empty range. */
export function range(values: number[]): [number, number] {
  if (values.length === 0) return [0, 1];
  const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.5;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

/** Three to six round values within a range. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= 0.75 * rough) ?? rough;
  const found: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step || 0);
  return found;
}

function short(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "–";
}
