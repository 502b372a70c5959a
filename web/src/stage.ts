/** The image with all that lies on it, and what the pointer does there. */

import type { Annotating } from "./annotating";
import { api, type ImageInfo, sentence } from "./api";
import { h } from "./dom";
import { Latest } from "./latest";
import { Overlay } from "./overlay";
import { classes, classOf, foreground, openImage, store } from "./state";
import { Viewer } from "./viewer";

const REACH = 11; // screen pixels from a point that still hit it

export interface Stage {
  element: HTMLElement;
  viewer: Viewer;
  open(image: ImageInfo | null): Promise<void>;
  /** Open the image if it could not be opened before. */
  recover(): Promise<void>;
  placeInMiddle(): void;
}

export function stage(annotating: Annotating): Stage {
  let held: { id: string; x: number; y: number; moved: boolean } | null = null;
  const colourOf = (label: number) => classOf(label).colour;

  const hit = (x: number, y: number): string | null => {
    const reach = REACH / viewer.placement().scale;
    let best: string | null = null;
    let distance = reach;
    for (const point of annotating.journal?.points() ?? []) {
      const away = Math.hypot(point.x - x, point.y - y);
      if (away <= distance) [best, distance] = [point.id, away];
    }
    return best;
  };

  const drawPoints = () => {
    const points = (annotating.journal?.points() ?? []).map((point) =>
      held?.moved && point.id === held.id ? { ...point, x: held.x, y: held.y, saved: false } : point,
    );
    overlay.showPoints(points, store.state.selected, colourOf);
  };

  const viewer = new Viewer({
    press(x, y) {
      const id = store.state.visible ? hit(x, y) : null;
      held = id === null ? null : { id, x, y, moved: false };
      return held !== null;
    },
    drag(x, y) {
      if (!held || !viewer.contains(x, y)) return;
      held = { ...held, x, y, moved: true };
      store.set({ selected: held.id });
      drawPoints();
    },
    drop() {
      if (held?.moved) annotating.move(held.id, held.x, held.y);
      held = null;
      drawPoints();
    },
    click(x, y) {
      const id = store.state.visible ? hit(x, y) : null;
      if (id !== null) store.set({ selected: id });
      else if (viewer.contains(x, y)) annotating.place(x, y);
    },
    moved: (placement) => overlay.moved(placement),
    hover(x, y) {
      viewer.element.classList.toggle("over-point", store.state.visible && hit(x, y) !== null);
    },
  });
  const overlay = new Overlay(viewer.layer);
  const tiles = new Latest();
  draw(annotating, overlay, drawPoints);
  let shown: string | null = null;
  const open = async (image: ImageInfo | null) => {
    shown = null;
    if (image === null) return viewer.close();
    const found = await tiles.run((signal) => api.tiles(image.id, signal));
    if (!found) return;
    viewer.open(image.id, found, image.mpp);
    shown = image.id;
  };

  return {
    element: h("div", { class: "stage" }, viewer.element, hint(annotating)),
    viewer,
    open,
    async recover() {
      if (store.state.image !== shown) await open(openImage() ?? null);
    },
    placeInMiddle() {
      const { x, y } = viewer.centre();
      if (viewer.contains(x, y)) annotating.place(x, y);
    },
  };
}

// What to do first, until there are points of the target and of the background.
function hint(annotating: Annotating): HTMLElement {
  const element = h("div", { class: "hint", role: "status", hidden: true });
  store.on(["marks", "project", "label", "segmented", "image"], () => {
    const problem = openImage()?.problem ?? null;
    element.classList.toggle("problem", problem !== null);
    if (problem !== null) {
      element.hidden = false;
      element.textContent = sentence(problem);
      return;
    }
    const points = annotating.journal?.points() ?? [];
    const inside = points.some((point) => point.label !== 0);
    const outside = points.some((point) => point.label === 0);
    const [target, background] = [foreground(), classOf(0)];
    const keyOf = (label: number) => classes().findIndex((one) => one.number === label) + 1;
    element.hidden = !annotating.journal?.loaded || (inside && outside) || store.state.segmented?.grid != null;
    if (!inside && !outside) element.textContent = `Click on ${store.state.label === 0 ? background.name : target.name}`;
    else if (inside && store.state.label === 0) element.textContent = `Now click on ${background.name}`;
    else if (inside) element.textContent = `Now press ${keyOf(0)} for ${background.name} and click beside it`;
    else if (store.state.label !== 0) element.textContent = `Now click on ${target.name}`;
    else element.textContent = `Now press ${keyOf(target.number)} for ${target.name} and click on it`;
  });
  return element;
}

// Each part of the overlay is drawn anew when what it shows has changed.
function draw(annotating: Annotating, overlay: Overlay, drawPoints: () => void): void {
  store.on(["segmented"], () => {
    const { segmented } = store.state;
    const image = openImage();
    const window = segmented?.answer.window ?? { x: 0, y: 0, width: 1, height: 1 };
    overlay.showU(segmented?.grid ?? null, window, !image || window.width * window.height >= 0.99 * image.width * image.height);
  });
  store.on(["segmented", "kind", "visible", "opacity", "threshold", "label", "project"], () => {
    const { kind, visible, opacity, threshold } = store.state;
    overlay.style({ kind, visible, opacity, threshold, colour: foreground().colour });
  });
  store.on(["segmented", "visible"], () => overlay.showNext(store.state.segmented?.answer.where_next ?? null, store.state.visible));
  store.on(["marks", "selected", "project"], drawPoints);
  store.on(["marks", "project"], () => overlay.showRegions(annotating.journal?.regions() ?? [], (label) => classOf(label).colour));
}
