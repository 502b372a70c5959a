/** The panel beside the image: classes, segmentation, take, points and regions. */

import type { Annotating } from "./annotating";
import { type ImageInfo, sentence } from "./api";
import { button, h, swatch } from "./dom";
import { share } from "./outlines";
import { classes, classOf, foreground, openImage, type Segmented, store } from "./state";

const LARGE = 2048; // pixels of the longer side up to which the server answers for the whole image

export interface SideActions {
  show(x: number, y: number): void;
  seen(): { x: number; y: number; width: number; height: number };
  next(): void;
}

export function side(annotating: Annotating, actions: SideActions): HTMLElement {
  return h(
    "aside",
    { class: "side", "aria-label": "Tools" },
    classList(annotating),
    segmentation(annotating, actions),
    finish(annotating, actions),
    list(annotating, actions),
  );
}

function section(title: string, ...children: (HTMLElement | null)[]): HTMLElement {
  return h("section", {}, h("h2", {}, title), ...children);
}

function classList(annotating: Annotating): HTMLElement {
  const box = h("div", { class: "classes", role: "radiogroup", "aria-label": "Class of the next point" });
  const counts = new Map<number, HTMLElement>();
  store.on(["project"], () => {
    counts.clear();
    box.replaceChildren(
      ...classes().map((one, i) => {
        const count = h("span", { class: "count" });
        counts.set(one.number, count);
        const mark = swatch(one.colour);
        if (one.number === 0) mark.classList.add("square");
        return h(
          "button",
          { type: "button", role: "radio", class: "class", "data-label": one.number, click: () => store.set({ label: one.number }) },
          mark,
          h("span", { class: "name", title: one.name }, one.name),
          count,
          i < 9 ? h("kbd", {}, String(i + 1)) : null,
        );
      }),
    );
  });
  store.on(["project", "label"], () => {
    for (const row of box.children) row.setAttribute("aria-checked", String(Number((row as HTMLElement).dataset["label"]) === store.state.label));
  });
  store.on(["marks"], () => {
    const points = annotating.journal?.points() ?? [];
    for (const [number, count] of counts) {
      const many = points.filter((point) => point.label === number).length;
      count.textContent = many ? String(many) : "";
    }
  });
  return section("Class", box);
}

function slider(text: string, range: { min: number; max: number; step: number }, use: (value: number) => void): { row: HTMLElement; show(value: number, shown: string): void } {
  const input = h("input", { type: "range", ...range, "aria-label": text });
  const output = h("output", {});
  input.addEventListener("input", () => use(Number(input.value)));
  const row = h("label", { class: "slider" }, h("span", {}, text), output, input);
  return {
    row,
    show(value, shown) {
      input.value = String(value);
      const part = (100 * (value - range.min)) / (range.max - range.min);
      input.style.setProperty("--part", `${part}%`);
      output.textContent = shown;
      input.setAttribute("aria-valuetext", shown);
    },
  };
}

function toggle<K extends "kind" | "whose">(key: K, name: string, choices: [(typeof store.state)[K], string, string?][]): HTMLElement {
  const buttons = choices.map(([value, text, title]) => button({ text, title, "data-value": value, click: () => store.set({ [key]: value }) }));
  store.on([key], () => buttons.forEach((one, i) => one.setAttribute("aria-pressed", String(choices[i]![0] === store.state[key]))));
  return h("div", { class: "toggle", role: "group", "aria-label": name }, ...buttons);
}

/** `lam` doubles with each step of the slider away from smooth; 0 is the project's own. */
export function lamOf(smoothness: number, standard: number): number {
  return Number((standard * 2 ** -smoothness).toPrecision(3));
}

function segmentation(annotating: Annotating, actions: SideActions): HTMLElement {
  const whose = toggle("whose", "From", [
    ["both", "Both", "Your clicks correct the trained network's answer"],
    ["clicks", "Clicks", "Your clicks on pretrained features, as before the training: the network is left out"],
    ["network", "Network", "The trained network alone"],
  ]);
  const opacity = slider("Opacity", { min: 0.1, max: 1, step: 0.05 }, (value) => store.set({ opacity: value }));
  const threshold = slider("Threshold", { min: 0.02, max: 0.98, step: 0.01 }, (value) => store.set({ threshold: value }));
  const standard = () => store.state.project?.settings.lam ?? 1;
  const smooth = slider("Smoothness", { min: -4, max: 4, step: 0.25 }, (value) => {
    store.set({ lam: lamOf(value, standard()) });
    annotating.segmentLater();
  });
  store.on(["opacity"], () => opacity.show(store.state.opacity, `${Math.round(store.state.opacity * 100)} %`));
  store.on(["threshold"], () => threshold.show(store.state.threshold, store.state.threshold.toFixed(2)));
  store.on(["lam", "project"], () => smooth.show(Math.log2(standard() / store.state.lam), `λ ${store.state.lam}`));
  store.on(["project"], () => {
    whose.hidden = store.state.project?.model == null;
  });
  store.on(["whose"], () => {
    smooth.row.hidden = store.state.whose === "network";
  });
  const kind = toggle("kind", "Show as", [["outline", "Outline"], ["heat", "Heat"]]);
  const eye = h("label", { class: "switch" }, h("input", { type: "checkbox", change: () => store.set({ visible: !store.state.visible }) }), h("span", {}, "Show"));
  eye.title = "Show or hide all that lies on the image (space)";
  store.on(["visible"], () => {
    eye.querySelector("input")!.checked = store.state.visible;
  });
  return section("Segmentation", whose, h("div", { class: "row" }, kind, eye), opacity.row, threshold.row, smooth.row, answer(annotating, actions));
}

// What the server says about u: how much of the picture it is, how long it took, or why there is none.
function answer(annotating: Annotating, actions: SideActions): HTMLElement {
  const text = h("p", { class: "answer", "aria-live": "polite" });
  const whole = button({ text: "Segment what I see", class: "wide", hidden: true, click: () => annotating.lookAt(actions.seen()) });
  store.on(["segmented", "computing", "threshold", "marks"], () => {
    const { segmented, computing, threshold } = store.state;
    text.classList.toggle("computing", computing);
    const image = openImage();
    whole.hidden = !(image && segmented && isLarge(image, segmented));
    if (!segmented) text.textContent = computing ? "Computing the first answer…" : firstStep(annotating);
    else if (!segmented.grid) text.textContent = sentence(segmented.answer.reason ?? "No segmentation yet");
    else text.textContent = `${foreground().name}: ${covered(share(segmented.grid, threshold))}, ${segmented.answer.seconds.toFixed(2)}\u00a0s`;
  });
  return h("div", {}, text, whole);
}

// Whether u can be of a part of the image only.
function isLarge(image: ImageInfo, { answer, grid }: Segmented): boolean {
  const { width, height } = answer.window;
  return Math.max(image.width, image.height) > LARGE || (grid !== null && width * height < 0.99 * image.width * image.height);
}

function firstStep(annotating: Annotating): string {
  const points = annotating.journal?.points() ?? [];
  if (!annotating.journal?.loaded) return "";
  return points.length === 0 ? `Click on ${foreground().name}, then choose ${classOf(0).name} and click beside it.` : "No segmentation yet.";
}

function covered(part: number): string {
  const image = openImage();
  const window = store.state.segmented?.answer.window;
  const percent = `${(part * 100).toFixed(part < 0.1 ? 1 : 0)}\u00a0%`;
  if (!image?.mpp || !window) return percent;
  const area = part * window.width * window.height * image.mpp ** 2;
  return `${percent}, ${area >= 1e5 ? `${(area / 1e6).toPrecision(3)}\u00a0mm²` : `${Math.round(area)}\u00a0µm²`}`;
}

function finish(annotating: Annotating, actions: SideActions): HTMLElement {
  const take = button({ icon: "region", text: "Take outline", class: "wide primary", title: "Turn the outline into regions that train (t)", click: () => void annotating.take() });
  const where = button({ icon: "target", text: "Where next?", class: "wide", title: "Go to the place where a click helps most (w)", click: () => goWhereNext(actions) });
  const check = button({ icon: "check", text: "Checked", class: "wide", title: "Mark this image as looked at and right (c)", click: () => void annotating.check() });
  const next = button({ icon: "next", text: "Next to do", class: "wide", title: "Go to the image where clicks help most (u)", click: () => actions.next() });
  store.on(["segmented", "visible"], () => {
    take.disabled = !store.state.segmented?.grid;
    where.disabled = !store.state.segmented?.answer.where_next;
    where.title = store.state.segmented?.answer.where_next?.reason ?? "No uncertain place is known yet";
  });
  store.on(["images", "image"], () => check.setAttribute("aria-pressed", String(openImage()?.state === "checked")));
  return h("section", { class: "finish" }, take, where, check, next);
}

export function goWhereNext(actions: Pick<SideActions, "show">): void {
  const place = store.state.segmented?.answer.where_next;
  if (place) actions.show(place.x, place.y);
}

function list(annotating: Annotating, actions: SideActions): HTMLElement {
  const rows = h("ul", { class: "marks" });
  const shown = section("Points and regions", rows);
  store.on(["marks", "selected", "project"], () => {
    const points = annotating.journal?.points() ?? [];
    const regions = annotating.journal?.regions() ?? [];
    shown.hidden = points.length + regions.length === 0;
    rows.replaceChildren(
      ...regions.map((region, i) => {
        const one = classOf(region.label);
        const [x, y] = region.exterior[0] ?? [0, 0];
        const remove = button({ icon: "trash", title: `Remove region ${i + 1}`, class: "quiet", click: () => annotating.removeRegion(region.id) });
        const go = h("button", { type: "button", class: "mark", click: () => actions.show(x, y) }, swatch(one.colour), h("span", { class: "name" }, one.name), h("small", {}, `region ${i + 1}`));
        return h("li", { class: "region" }, go, remove);
      }),
      ...points.slice(0, 300).map((point) => {
        const one = classOf(point.label);
        const mark = swatch(one.colour);
        if (point.label === 0) mark.classList.add("square");
        if (!point.saved) mark.classList.add("unsaved");
        const choose = () => {
          store.set({ selected: point.id });
          actions.show(point.x, point.y);
        };
        const go = h("button", { type: "button", class: "mark", "aria-pressed": String(point.id === store.state.selected), click: choose }, mark, h("span", { class: "name" }, one.name), h("small", {}, `${Math.floor(point.x)}, ${Math.floor(point.y)}`));
        return h("li", {}, go);
      }),
    );
  });
  return shown;
}
