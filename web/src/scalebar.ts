/** Chooses the scale bar's round length. */

/** A bar of 60 to 160 screen pixels for an image shown at `scale`; in um where um/px is known, else in pixels. */
export function barFor(scale: number, mpp: number | null): { length: number; text: string } {
  const unit = mpp ?? 1;
  const most = (160 / scale) * unit;
  const power = 10 ** Math.floor(Math.log10(most));
  const round = [5, 2, 1].map((step) => step * power).find((value) => value <= most) ?? power;
  return { length: (round / unit) * scale, text: mpp === null ? `${number(round)} px` : length(round) };
}

function length(um: number): string {
  return um >= 1000 ? `${number(um / 1000)} mm` : `${number(um)} µm`;
}

function number(value: number): string {
  return String(Number(value.toPrecision(3)));
}
