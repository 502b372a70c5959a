import { describe, expect, it } from "vitest";

import type { Ring } from "../src/api";
import { type Grid, pathOf, placed, share, trace } from "../src/outlines";

function grid(width: number, height: number, value: (x: number, y: number) => number): Grid {
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) values[y * width + x] = value(x, y);
  return { width, height, values };
}

function area(ring: Ring): number {
  const sum = ring.reduce((all, [x, y], i) => all + x * ring[(i + 1) % ring.length]![1] - y * ring[(i + 1) % ring.length]![0], 0);
  return sum / 2;
}

describe("outlines of u", () => {
  it("finds no ring where u is below the threshold everywhere", () => {
    expect(trace(grid(8, 6, () => 100), 0.5)).toEqual([]);
  });

  it("runs along the window's border where u is above the threshold everywhere", () => {
    const [ring, ...others] = trace(grid(8, 6, () => 255), 0.5);
    expect(others).toEqual([]);
    expect(Math.abs(area(ring!))).toBeCloseTo(47.5);
    expect(Math.min(...ring!.map(([x]) => x))).toBe(0);
    expect(Math.max(...ring!.map(([x]) => x))).toBe(8);
    expect(Math.max(...ring!.map(([, y]) => y))).toBe(6);
  });

  it("encloses a disc with its area, at the place of its pixels", () => {
    const [ring, ...others] = trace(grid(64, 64, (x, y) => (Math.hypot(x + 0.5 - 40, y + 0.5 - 24) < 15 ? 255 : 0)), 0.5);
    expect(others).toEqual([]);
    expect(Math.abs(area(ring!)) / (Math.PI * 15 ** 2)).toBeCloseTo(1, 1);
    const middle = ring!.reduce(([sx, sy], [x, y]) => [sx + x / ring!.length, sy + y / ring!.length], [0, 0]);
    expect(middle[0]).toBeCloseTo(40, 0);
    expect(middle[1]).toBeCloseTo(24, 0);
  });

  it("gives a hole a ring of its own that runs the other way", () => {
    const rings = trace(grid(40, 40, (x, y) => (Math.hypot(x - 20, y - 20) < 16 && Math.hypot(x - 20, y - 20) > 6 ? 255 : 0)), 0.5);
    expect(rings).toHaveLength(2);
    expect(Math.sign(area(rings[0]!))).toBe(-Math.sign(area(rings[1]!)));
  });

  it("keeps pixels that touch at a corner apart", () => {
    expect(trace(grid(4, 4, (x, y) => ((x === 1 && y === 1) || (x === 2 && y === 2) ? 255 : 0)), 0.5)).toHaveLength(2);
  });

  it("shrinks as the threshold grows", () => {
    const cone = grid(60, 60, (x, y) => Math.max(0, 255 - 8 * Math.hypot(x - 30, y - 30)));
    const areas = [0.1, 0.4, 0.7, 0.95].map((threshold) => Math.abs(area(trace(cone, threshold)[0]!)));
    expect([...areas].sort((a, b) => b - a)).toEqual(areas);
    expect(share(cone, 0.4)).toBeCloseTo(areas[1]! / 3600, 1);
  });

  it("moves rings to level-0 pixels and writes them as a path", () => {
    const rings = placed([[[0, 0], [4, 0], [4, 2]]], { width: 4, height: 2 }, { x: 100, y: 50, width: 8, height: 4 });
    expect(rings).toEqual([[[100, 50], [108, 50], [108, 54]]]);
    expect(pathOf(rings)).toBe("M100 50L108 50L108 54Z");
  });
});
