/** Outlines of u at a threshold: marching squares, in level-0 pixels, fast enough for a slider. */

import type { Rectangle, Ring } from "./api";

/** u on its grid, 0 to 255; grid pixel (0, 0) is the window's upper left corner. */
export interface Grid {
  width: number;
  height: number;
  values: Uint8Array | Uint8ClampedArray;
}

const [TOP, RIGHT, BOTTOM, LEFT] = [0, 1, 2, 3];

// Directed segments of each case of (upper left, upper right, lower right, lower left), the inside at the left hand.
const SEGMENTS: readonly (readonly [number, number])[][] = [
  [],
  [[LEFT, TOP]],
  [[TOP, RIGHT]],
  [[LEFT, RIGHT]],
  [[RIGHT, BOTTOM]],
  [[LEFT, TOP], [RIGHT, BOTTOM]],
  [[TOP, BOTTOM]],
  [[LEFT, BOTTOM]],
  [[BOTTOM, LEFT]],
  [[BOTTOM, TOP]],
  [[TOP, RIGHT], [BOTTOM, LEFT]],
  [[BOTTOM, RIGHT]],
  [[RIGHT, LEFT]],
  [[RIGHT, TOP]],
  [[TOP, LEFT]],
  [],
];

/** Trace the closed rings around u > threshold (in [0, 1]); beyond the window u counts as 0, so that all rings close. */
export function trace(grid: Grid, threshold: number): Ring[] {
  const level = Math.min(Math.max(threshold * 255, 0.001), 254.999);
  const columns = grid.width + 2; // a frame of zeros around the grid
  const value = (x: number, y: number): number =>
    x < 1 || y < 1 || x > grid.width || y > grid.height ? 0 : grid.values[(y - 1) * grid.width + x - 1]!;
  const edge = (x: number, y: number, side: number): number => {
    if (side === TOP) return 2 * (y * columns + x);
    if (side === BOTTOM) return 2 * ((y + 1) * columns + x);
    return 2 * (y * columns + x + (side === RIGHT ? 1 : 0)) + 1;
  };
  const following = new Map<number, number>();
  for (let y = 0; y <= grid.height; y++) {
    for (let x = 0; x <= grid.width; x++) {
      const kind =
        (value(x, y) > level ? 1 : 0) +
        (value(x + 1, y) > level ? 2 : 0) +
        (value(x + 1, y + 1) > level ? 4 : 0) +
        (value(x, y + 1) > level ? 8 : 0);
      if (kind === 0 || kind === 15) continue;
      for (const [from, to] of SEGMENTS[kind]!) following.set(edge(x, y, from), edge(x, y, to));
    }
  }
  const crossing = (key: number): [number, number] => {
    const node = key >> 1;
    const [x, y] = [node % columns, Math.floor(node / columns)];
    const vertical = key & 1;
    const [a, b] = [value(x, y), vertical ? value(x, y + 1) : value(x + 1, y)];
    const position = vertical ? y : x;
    // Toward the frame the crossing is the window's border itself, half a pixel from the outermost centre.
    const atBorder = position === 0 || position === (vertical ? grid.height : grid.width);
    const part = atBorder ? 0.5 : (level - a) / (b - a);
    return vertical ? [x - 0.5, y - 0.5 + part] : [x - 0.5 + part, y - 0.5];
  };
  return linked(following).map((ring) => straightened(ring.map(crossing)));
}

function linked(following: Map<number, number>): number[][] {
  const rings: number[][] = [];
  for (const start of following.keys()) {
    const ring: number[] = [];
    for (let key: number | undefined = start; key !== undefined; ) {
      const next = following.get(key);
      if (next === undefined) break;
      following.delete(key);
      ring.push(key);
      key = next;
    }
    if (ring.length > 2) rings.push(ring);
  }
  return rings;
}

/** Leave out vertices less than a tenth of a grid pixel from the line between their neighbours. */
function straightened(ring: Ring): Ring {
  if (ring.length < 8) return ring;
  const kept: Ring = [ring[0]!];
  for (let i = 1; i < ring.length; i++) {
    const [before, here, after] = [kept[kept.length - 1]!, ring[i]!, ring[(i + 1) % ring.length]!];
    const [dx, dy] = [after[0] - before[0], after[1] - before[1]];
    const distance = Math.abs(dx * (here[1] - before[1]) - dy * (here[0] - before[0])) / (Math.hypot(dx, dy) || 1);
    if (distance > 0.1 || Math.hypot(here[0] - before[0], here[1] - before[1]) > 12) kept.push(here);
  }
  return kept;
}

/** Move rings from grid pixels to level-0 pixels. */
export function placed(rings: Ring[], grid: { width: number; height: number }, window: Rectangle): Ring[] {
  const [sx, sy] = [window.width / grid.width, window.height / grid.height];
  return rings.map((ring) => ring.map(([x, y]) => [window.x + x * sx, window.y + y * sy]));
}

/** Rings as the `d` of an SVG path, to a hundredth of a pixel. */
export function pathOf(rings: Ring[]): string {
  const parts: string[] = [];
  for (const ring of rings) {
    parts.push("M" + ring.map(([x, y]) => `${Math.round(x * 100) / 100} ${Math.round(y * 100) / 100}`).join("L") + "Z");
  }
  return parts.join("");
}

/** Share of the grid above the threshold. */
export function share(grid: Grid, threshold: number): number {
  const level = threshold * 255;
  let count = 0;
  for (const value of grid.values) if (value > level) count++;
  return grid.values.length ? count / grid.values.length : 0;
}
