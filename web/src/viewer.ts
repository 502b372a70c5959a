/** The zoomable image: OpenSeadragon on the server's tiles, overview, scale bar; tells of clicks and drags in level-0 pixels. */

import OpenSeadragon from "openseadragon";

import { api, type Rectangle, type Tiles } from "./api";
import { button, h } from "./dom";
import { barFor } from "./scalebar";

/** How level-0 pixels lie on the element: element = image * scale + (x, y). */
export interface Placement {
  scale: number;
  x: number;
  y: number;
}

export interface Gestures {
  /** A press; true takes the drag that may follow away from panning. */
  press(x: number, y: number): boolean;
  drag(x: number, y: number): void;
  drop(): void;
  click(x: number, y: number): void;
  moved(placement: Placement): void;
  hover(x: number, y: number): void;
}

export class Viewer {
  readonly element = h("div", {
    class: "viewer",
    tabindex: "0",
    role: "application",
    "aria-label": "Image. Arrows move, plus and minus zoom, Enter places a point in the middle.",
  });
  readonly layer = h("div", { class: "layer" });
  private readonly osd: OpenSeadragon.Viewer;
  private readonly bar = h("div", { class: "scalebar", "aria-hidden": "true" });
  private size = { width: 1, height: 1 };
  private mpp: number | null = null;
  private dragging = false;

  constructor(private readonly gestures: Gestures) {
    const canvas = h("div", { class: "osd" });
    const overview = h("div", { class: "overview", id: "overview" });
    const tools = h(
      "div",
      { class: "zoom-tools" },
      button({ icon: "plus", title: "Zoom in (+)", click: () => this.zoom(1.5) }),
      button({ icon: "minus", title: "Zoom out (−)", click: () => this.zoom(1 / 1.5) }),
      button({ icon: "fit", title: "Whole image (0)", click: () => this.fit() }),
    );
    this.element.append(canvas, this.layer, overview, this.bar, tools, h("div", { class: "crosshair", "aria-hidden": "true" }));
    this.osd = OpenSeadragon({
      element: canvas,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorElement: overview,
      navigatorAutoFade: false,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: false },
      gestureSettingsPen: { clickToZoom: false, dblClickToZoom: false },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: false },
      animationTime: 0.35,
      springStiffness: 9,
      visibilityRatio: 0.4,
      maxZoomPixelRatio: 16,
      minZoomImageRatio: 0.6,
      zoomPerScroll: 1.3,
      imageSmoothingEnabled: true,
      keyboardNavEnabled: false,
      tabIndex: -1,
      crossOriginPolicy: false,
    });
    this.listen();
  }

  /** Show an image; the place on it is the whole. */
  open(id: string, tiles: Tiles, mpp: number | null): void {
    this.size = { width: tiles.width, height: tiles.height };
    this.mpp = mpp;
    const source = {
      width: tiles.width,
      height: tiles.height,
      tileSize: tiles.tile_size,
      tileOverlap: tiles.overlap,
      minLevel: 0,
      maxLevel: tiles.max_level,
      getTileUrl: (level: number, column: number, row: number) => api.tile(id, level, column, row),
    };
    this.osd.open(source as object as OpenSeadragon.TileSourceSpecifier); // its types know no getTileUrl
  }

  close(): void {
    this.osd.close();
  }

  placement(): Placement {
    if (!this.osd.world.getItemCount()) return { scale: 1, x: 0, y: 0 };
    const item = this.osd.world.getItemAt(0);
    const [a, b] = [item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0)), item.imageToViewerElementCoordinates(new OpenSeadragon.Point(this.size.width, 0))];
    return { scale: (b.x - a.x) / this.size.width, x: a.x, y: a.y };
  }

  /** The part of the image that is seen. */
  seen(): Rectangle {
    const { scale, x, y } = this.placement();
    const [left, top] = [Math.max(0, -x / scale), Math.max(0, -y / scale)];
    const right = Math.min(this.size.width, (this.element.clientWidth - x) / scale);
    const bottom = Math.min(this.size.height, (this.element.clientHeight - y) / scale);
    return { x: Math.floor(left), y: Math.floor(top), width: Math.ceil(right - left), height: Math.ceil(bottom - top) };
  }

  centre(): { x: number; y: number } {
    const { scale, x, y } = this.placement();
    return { x: (this.element.clientWidth / 2 - x) / scale, y: (this.element.clientHeight / 2 - y) / scale };
  }

  contains(x: number, y: number): boolean {
    return x >= 0 && y >= 0 && x < this.size.width && y < this.size.height;
  }

  zoom(factor: number): void {
    this.osd.viewport.zoomBy(factor);
    this.osd.viewport.applyConstraints();
  }

  pan(dx: number, dy: number): void {
    this.osd.viewport.panBy(this.osd.viewport.deltaPointsFromPixels(new OpenSeadragon.Point(dx, dy)));
    this.osd.viewport.applyConstraints();
  }

  fit(): void {
    this.osd.viewport.goHome();
  }

  /** Bring a place into the middle without changing the zoom. */
  show(x: number, y: number): void {
    if (!this.osd.world.getItemCount()) return;
    this.osd.viewport.panTo(this.osd.world.getItemAt(0).imageToViewportCoordinates(x, y));
  }

  private listen(): void {
    const here = (event: { position: OpenSeadragon.Point }): [number, number] => {
      const { scale, x, y } = this.placement();
      return [(event.position.x - x) / scale, (event.position.y - y) / scale];
    };
    this.osd.addHandler("canvas-press", (event) => {
      this.dragging = this.gestures.press(...here(event));
    });
    this.osd.addHandler("canvas-drag", (event) => {
      if (!this.dragging) return;
      event.preventDefaultAction = true;
      this.gestures.drag(...here(event));
    });
    this.osd.addHandler("canvas-drag-end", (event) => {
      if (this.dragging) event.preventDefaultAction = true;
    });
    this.osd.addHandler("canvas-release", () => {
      if (this.dragging) this.gestures.drop();
      this.dragging = false;
    });
    this.osd.addHandler("canvas-click", (event) => {
      this.element.focus({ preventScroll: true });
      if (event.quick) this.gestures.click(...here(event));
    });
    this.osd.addHandler("update-viewport", () => this.moved());
    this.osd.addHandler("open", () => this.moved());
    this.osd.addHandler("resize", () => requestAnimationFrame(() => this.moved()));
    this.element.addEventListener("pointermove", (event) => {
      const box = this.element.getBoundingClientRect();
      const { scale, x, y } = this.placement();
      this.gestures.hover((event.clientX - box.left - x) / scale, (event.clientY - box.top - y) / scale);
    });
  }

  private moved(): void {
    const placement = this.placement();
    this.gestures.moved(placement);
    const { length, text } = barFor(placement.scale, this.mpp);
    this.bar.textContent = text;
    this.bar.style.width = `${length}px`;
  }
}
