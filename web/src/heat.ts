/** Colours u by viridis, transparent where it is low; unpacks the picture in which the server sends it. */

import type { Grid } from "./outlines";

// Viridis at equal steps: even to the eye, and readable by those who confuse red and green.
const VIRIDIS = [
  [68, 1, 84],
  [71, 45, 123],
  [59, 82, 139],
  [44, 114, 142],
  [33, 145, 140],
  [40, 174, 128],
  [94, 201, 98],
  [173, 220, 48],
  [253, 231, 37],
] as const;

/** Red, green, blue, alpha for each value 0 to 255 of u. */
export function heatColours(): Uint8ClampedArray {
  const colours = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value++) {
    const place = (value / 255) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [a, b] = [VIRIDIS[low]![channel]!, VIRIDIS[low + 1]![channel]!];
      colours[value * 4 + channel] = a + (b - a) * (place - low);
    }
    colours[value * 4 + 3] = 255 * Math.min(1, 0.25 + value / 160);
  }
  return colours;
}

/** Paint u on a canvas of its grid's size. */
export function heatPicture(grid: Grid, canvas: HTMLCanvasElement): void {
  const colours = new Uint32Array(heatColours().buffer);
  canvas.width = grid.width;
  canvas.height = grid.height;
  const context = canvas.getContext("2d");
  if (!context) return;
  const picture = context.createImageData(grid.width, grid.height);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[grid.values[i]!]!;
  context.putImageData(picture, 0, 0);
}

/** Unpack u from the base64 of a grey PNG. */
export async function unpack(base64: string): Promise<Grid> {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser draws no pictures.");
  context.drawImage(picture, 0, 0);
  picture.close();
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i++) values[i] = data[i * 4]!;
  return { width, height, values };
}
