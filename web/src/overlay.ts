/** Draws over the image: u as heat or outline, regions, points, the place to click next. */

import type { Rectangle, Region } from "./api";
import { h, svg } from "./dom";
import type { ShownPoint } from "./journal";
import { type Grid, pathOf, placed, trace } from "./outlines";
import { heatPicture } from "./heat";
import type { Placement } from "./viewer";

const LABEL = 90; // pixels above the lower border within which the label would lie on the scale bar

export interface OverlayStyle {
  kind: "outline" | "heat";
  visible: boolean;
  opacity: number;
  threshold: number;
  colour: string;
}

export class Overlay {
  private readonly heat = h("canvas", { class: "heat" });
  private readonly outline = svg("g", { class: "outline" });
  private readonly regions = svg("g", { class: "regions" });
  private readonly points = svg("g", { class: "points" });
  private readonly frame = svg("rect", { class: "frame" });
  private readonly group = svg("g", {}, this.frame, this.regions, this.outline, this.points);
  private readonly next = h("div", { class: "where-next", hidden: true, "aria-hidden": "true" }, h("span", {}, "Where next?"));
  private place: { x: number; y: number } | null = null;
  private placement: Placement = { scale: 1, x: 0, y: 0 };
  private grid: Grid | null = null;
  private window: Rectangle = { x: 0, y: 0, width: 1, height: 1 };
  private coloured: Grid | null = null;

  constructor(private readonly layer: HTMLElement) {
    layer.append(this.heat, svg("svg", { class: "shapes", "aria-hidden": "true" }, this.group), this.next);
  }

  /** Follow the image as it is moved and zoomed. */
  moved(placement: Placement): void {
    this.placement = placement;
    const { scale, x, y } = placement;
    this.group.setAttribute("transform", `matrix(${scale} 0 0 ${scale} ${x} ${y})`);
    if (this.grid) {
      const [sx, sy] = [(this.window.width / this.grid.width) * scale, (this.window.height / this.grid.height) * scale];
      this.heat.style.transform = `matrix(${sx}, 0, 0, ${sy}, ${x + this.window.x * scale}, ${y + this.window.y * scale})`;
    }
    if (this.place) this.next.classList.toggle("low", this.place.y * scale + y > this.layer.clientHeight - LABEL);
    if (this.place) this.next.style.transform = `translate(${this.place.x * scale + x}px, ${this.place.y * scale + y}px)`;
  }

  /** Show u on its window; null shows none. `whole` leaves out the frame around the window. */
  showU(grid: Grid | null, window: Rectangle, whole: boolean): void {
    this.grid = grid;
    this.window = window;
    for (const [name, value] of Object.entries(window)) this.frame.setAttribute(name, String(value));
    this.frame.toggleAttribute("hidden", whole || grid === null);
  }

  /** Draw u anew, for another threshold or look. */
  style({ kind, visible, opacity, threshold, colour }: OverlayStyle): void {
    const shown = visible && this.grid !== null;
    this.group.classList.toggle("hidden-overlay", !visible);
    this.next.hidden = !visible || this.place === null;
    this.heat.hidden = !(shown && kind === "heat");
    this.outline.replaceChildren();
    if (!shown || !this.grid) return;
    if (kind === "heat") {
      this.heat.style.opacity = String(opacity * 0.8); // the tissue stays visible
      if (this.coloured !== this.grid) heatPicture(this.grid, this.heat);
      this.coloured = this.grid;
    }
    const path = pathOf(placed(trace(this.grid, threshold), this.grid, this.window));
    if (path) this.outline.append(...outlined(path, colour, kind === "outline" ? opacity : 0, kind === "outline" ? 1 : opacity));
    this.moved(this.placement);
  }

  showNext(place: { x: number; y: number } | null, visible: boolean): void {
    this.place = place;
    this.next.hidden = !visible || place === null;
    this.moved(this.placement);
  }

  showRegions(regions: Region[], colourOf: (label: number) => string): void {
    this.regions.replaceChildren(
      ...regions.map((region) => {
        const shape = svg("path", { class: "region", "fill-rule": "evenodd", d: pathOf([region.exterior, ...region.holes]) });
        shape.style.setProperty("--colour", colourOf(region.label));
        return shape;
      }),
    );
  }

  /** Draw the points: filled once saved, hollow until then, ringed if selected; those of the background are square. */
  showPoints(points: ShownPoint[], selected: string | null, colourOf: (label: number) => string): void {
    this.points.replaceChildren(
      ...points.map((point) => {
        // A line of no length with round or square ends: a dot that keeps its size on the screen at every zoom.
        const d = `M${point.x} ${point.y}h0`;
        const mark = svg("g", {
          class: `point${point.saved ? "" : " unsaved"}${point.id === selected ? " selected" : ""}`,
          "data-id": point.id,
          "data-label": point.label,
          "data-x": point.x,
          "data-y": point.y,
        });
        mark.style.setProperty("--colour", colourOf(point.label));
        mark.append(...["halo", "rim", "dot", "core"].map((part) => svg("path", { class: part, d })));
        return mark;
      }),
    );
  }
}

function outlined(d: string, colour: string, fill: number, line: number): SVGPathElement[] {
  const casing = svg("path", { class: "casing", d });
  const edge = svg("path", { class: "edge", d, "fill-rule": "evenodd" });
  edge.style.stroke = colour;
  edge.style.fill = colour;
  edge.style.fillOpacity = String(fill * 0.32);
  casing.style.opacity = String(line * 0.8);
  edge.style.strokeOpacity = String(line);
  return [casing, edge];
}
