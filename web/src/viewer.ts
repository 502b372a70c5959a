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

// OpenSeadragon adds an inline style, which the content security policy refuses, unless it finds an element of this
// name and mark: one that is no style for the browser. The rule itself stands in style.css.
function keepFromStyling(): void {
  const mark = document.createElementNS("cvm-monai:mark", "style");
  mark.setAttribute("data-openseadragon-mobile-css", "true");
  if (!document.querySelector("style[data-openseadragon-mobile-css]")) document.head.append(mark);
}

type Drawn = OpenSeadragon.Tile & { position?: OpenSeadragon.Point; size?: OpenSeadragon.Point };

// Tiles end between two pixels of the screen at most zooms, and the ground would shine through there. OpenSeadragon draws
// tiles without overlap one pixel too large for that, which shifts what they show. Here each is first drawn out to whole
// pixels, then in its own size.
function closeSeams(event: { tile: OpenSeadragon.Tile; context: CanvasRenderingContext2D; rendered: CanvasRenderingContext2D }): void {
  const { context, rendered } = event;
  const { position, size } = event.tile as Drawn;
  if (!position || !size || size.x <= 1 || size.y <= 1) return;
  const ratio = OpenSeadragon.pixelDensityRatio;
  const [x, y, width, height] = [position.x, position.y, size.x - 1, size.y - 1].map((value) => value * ratio) as [number, number, number, number];
  const [left, top] = [Math.floor(x), Math.floor(y)];
  context.drawImage(rendered.canvas, left, top, Math.ceil(x + width) - left, Math.ceil(y + height) - top);
  context.translate(x, y); // until OpenSeadragon has drawn this tile
  context.scale(width / (size.x * ratio), height / (size.y * ratio));
  context.translate(-x, -y);
}

export class Viewer {
  readonly element = h("div", {
    class: "viewer",
    tabindex: "0",
    role: "application",
    "aria-label": "Image. Arrows move, plus and minus zoom, Enter places a point in the middle.",
  });
  readonly layer = h("div", { class: "layer" });
  private osd: OpenSeadragon.Viewer | null = null;
  private readonly canvas = h("div", { class: "osd" });
  private readonly overview = h("div", { class: "overview", id: "overview" });
  private readonly bar = h("div", { class: "scalebar", "aria-hidden": "true" });
  private size = { width: 1, height: 1 };
  private mpp: number | null = null;
  private dragging = false;

  constructor(private readonly gestures: Gestures) {
    const tools = h(
      "div",
      { class: "zoom-tools" },
      button({ icon: "plus", title: "Zoom in (+)", click: () => this.zoom(1.5) }),
      button({ icon: "minus", title: "Zoom out (−)", click: () => this.zoom(1 / 1.5) }),
      button({ icon: "fit", title: "Whole image (0)", click: () => this.fit() }),
    );
    this.element.append(this.canvas, this.layer, this.overview, this.bar, tools, h("div", { class: "crosshair", "aria-hidden": "true" }));
    this.element.addEventListener("keyup", (event) => this.element.classList.toggle("by-keys", /^(Tab|Arrow|Enter)/.test(event.key)));
    this.element.addEventListener("pointerdown", () => this.element.classList.remove("by-keys"), { capture: true });
    this.element.addEventListener("pointermove", (event) => {
      const box = this.element.getBoundingClientRect();
      const { scale, x, y } = this.placement();
      this.gestures.hover((event.clientX - box.left - x) / scale, (event.clientY - box.top - y) / scale);
    });
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
    this.osd ??= this.make();
    this.osd.open(source as object as OpenSeadragon.TileSourceSpecifier); // its types know no getTileUrl
  }

  // At the first image, not before: OpenSeadragon needs to know its size.
  private make(): OpenSeadragon.Viewer {
    keepFromStyling();
    const osd = OpenSeadragon({
      element: this.canvas,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorElement: this.overview,
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
    this.listen(osd);
    return osd;
  }

  close(): void {
    this.osd?.close();
  }

  placement(): Placement {
    const item = this.osd?.world.getItemAt(0);
    if (!item) return { scale: 1, x: 0, y: 0 };
    const [a, b] = [0, this.size.width].map((x) => item.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, 0))) as [OpenSeadragon.Point, OpenSeadragon.Point];
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
    this.osd?.viewport.zoomBy(factor);
    this.osd?.viewport.applyConstraints();
  }

  pan(dx: number, dy: number): void {
    const viewport = this.osd?.viewport;
    viewport?.panBy(viewport.deltaPointsFromPixels(new OpenSeadragon.Point(dx, dy)));
    viewport?.applyConstraints();
  }

  fit(): void {
    this.osd?.viewport.goHome();
  }

  /** Bring a place into view without changing the zoom; nothing moves where it is in view. */
  show(x: number, y: number): void {
    const viewport = this.osd?.viewport;
    const place = this.osd?.world.getItemAt(0)?.imageToViewportCoordinates(x, y);
    if (!viewport || !place || viewport.getBounds().containsPoint(place)) return;
    viewport.panTo(place);
    viewport.applyConstraints();
  }

  private listen(osd: OpenSeadragon.Viewer): void {
    const here = (event: { position: OpenSeadragon.Point }): [number, number] => {
      const { scale, x, y } = this.placement();
      return [(event.position.x - x) / scale, (event.position.y - y) / scale];
    };
    osd.addHandler("canvas-press", (event) => {
      this.dragging = this.gestures.press(...here(event));
    });
    osd.addHandler("canvas-drag", (event) => {
      if (!this.dragging) return;
      event.preventDefaultAction = true;
      this.gestures.drag(...here(event));
    });
    osd.addHandler("canvas-drag-end", (event) => {
      if (this.dragging) event.preventDefaultAction = true;
    });
    osd.addHandler("canvas-release", () => {
      if (this.dragging) this.gestures.drop();
      this.dragging = false;
    });
    osd.addHandler("canvas-click", (event) => {
      this.element.focus({ preventScroll: true });
      if (event.quick) this.gestures.click(...here(event));
    });
    osd.addHandler("tile-drawing", closeSeams);
    osd.addHandler("update-viewport", () => this.moved());
    osd.addHandler("open", () => this.moved());
    osd.addHandler("resize", () => requestAnimationFrame(() => this.moved()));
  }

  private moved(): void {
    const placement = this.placement();
    this.gestures.moved(placement);
    const { width, height } = this.seen();
    this.overview.classList.toggle("needless", width >= 0.98 * this.size.width && height >= 0.98 * this.size.height);
    const { length, text } = barFor(placement.scale, this.mpp);
    this.bar.textContent = text;
    this.bar.style.width = `${length}px`;
  }
}
