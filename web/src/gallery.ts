/** Thumbnails with their state: the gallery, and the strip beside the open image. */

import { api, type ImageInfo, type ImageState } from "./api";
import { button, h, icon } from "./dom";
import { classOf, shownImages, store } from "./state";

const STATES: { state: ImageState | "all"; text: string }[] = [
  { state: "all", text: "All" },
  { state: "untouched", text: "Untouched" },
  { state: "clicked", text: "Clicked" },
  { state: "predicted", text: "Predicted" },
  { state: "checked", text: "Checked" },
];

function filters(): HTMLElement {
  const chips = STATES.map(({ state, text }) => {
    const count = h("span", { class: "count" });
    const chip = h("button", { type: "button", class: `chip ${state}`, click: () => store.set({ filter: state }) }, badge(state), h("span", {}, text), count);
    store.on(["images", "filter"], () => {
      const { images, filter } = store.state;
      const all = state === "all" ? images.length : images.filter((image) => image.state === state).length;
      count.textContent = String(all);
      chip.setAttribute("aria-pressed", String(filter === state));
    });
    return chip;
  });
  return h("div", { class: "chips", role: "group", "aria-label": "Show images that are" }, ...chips);
}

const NONE: Record<ImageState | "all", string> = {
  all: "No image of this name.",
  untouched: "Every image is clicked on, predicted or checked.",
  clicked: "No image with clicks here yet: open one and click.",
  predicted: "Nothing is predicted yet. After a training the network draws on every image without clicks.",
  checked: "No image is marked as checked yet: key c in an open image.",
};

/** Why the gallery shows no image. */
export function nothing(filter: ImageState | "all", search: string): string {
  return search.trim() !== "" ? NONE.all : NONE[filter];
}

function badge(state: ImageState | "all"): HTMLElement | null {
  if (state === "all") return null;
  return h("span", { class: `badge ${state}`, "aria-hidden": "true" }, state === "checked" ? icon("check") : null);
}

/** The whole window's gallery; `open` is called with the chosen image. */
export function gallery(open: (id: string) => void): HTMLElement {
  const grid = h("div", { class: "grid" });
  const why = h("p", {});
  const showAll = () => {
    search.value = "";
    store.set({ filter: "all", search: "" });
  };
  const empty = h("div", { class: "empty", hidden: true }, why, button({ text: "Show all images", click: showAll }));
  const search = h("input", { type: "search", placeholder: "Find by name", "aria-label": "Find by name" });
  search.addEventListener("input", () => store.set({ search: search.value }));
  const cards = new Cards(grid, open, "card");
  store.on(["images", "filter", "search", "image"], () => {
    if (store.state.image !== null) return;
    const images = shownImages();
    cards.show(images);
    why.textContent = nothing(store.state.filter, store.state.search);
    empty.hidden = images.length > 0 || store.state.images.length === 0;
  });
  return h("section", { class: "gallery", "aria-label": "Images" }, introduction(), h("div", { class: "bar" }, filters(), search), grid, empty);
}

function introduction(): HTMLElement {
  const text = h("p", {});
  const title = h("h1", {}, "Reading the folder…");
  store.on(["project", "images"], () => {
    const { project, images } = store.state;
    if (!project) return;
    title.textContent = images.length === 1 ? "1 image" : `${images.length} images`;
    const target = project.classes.find((one) => one.number === 1) ?? classOf(1);
    text.textContent = project.model
      ? "The trained network has drawn on all of them. Open one, correct it with a click, and train again."
      : `Open one, click once on ${target.name} and once beside it: the outline follows each click. A few images with clicks are enough to train.`;
  });
  return h("header", { class: "introduction" }, title, text);
}

/** The strip of the same images beside the viewer. */
export function strip(open: (id: string) => void): HTMLElement {
  const list = h("div", { class: "strip", role: "group", "aria-label": "Images" });
  const cards = new Cards(list, open, "slip");
  store.on(["images", "filter", "search", "image"], () => {
    if (store.state.image === null) return;
    cards.show(shownImages());
    cards.mark(store.state.image);
  });
  return list;
}

/** Cards kept from one showing to the next, so that thumbnails are not loaded anew. */
class Cards {
  private readonly known = new Map<string, { image: ImageInfo; card: HTMLElement }>();

  constructor(
    private readonly box: HTMLElement,
    private readonly open: (id: string) => void,
    private readonly kind: "card" | "slip",
  ) {}

  show(images: ImageInfo[]): void {
    const cards = images.map((image) => this.card(image));
    if (cards.length === this.box.children.length && cards.every((card, i) => card === this.box.children[i])) return;
    this.box.replaceChildren(...cards);
  }

  mark(id: string): void {
    for (const [other, { card }] of this.known) {
      if (other === id) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
    }
    this.known.get(id)?.card.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  private card(image: ImageInfo): HTMLElement {
    const known = this.known.get(image.id);
    if (known?.image === image) return known.card;
    const card = known?.card ?? h("button", { type: "button", class: this.kind, "data-id": image.id, click: () => this.open(image.id) });
    this.known.set(image.id, { image, card });
    const picture = card.querySelector("img") ?? h("img", { src: api.thumbnail(image.id), alt: "", loading: "lazy", decoding: "async", load: (event: Event) => (event.target as HTMLElement).setAttribute("data-loaded", "") });
    card.title = image.problem ?? image.name;
    card.classList.toggle("unreadable", image.width === 0);
    card.dataset["state"] = image.state;
    card.replaceChildren(
      h("span", { class: "picture" }, picture, badge(image.state), image.problem ? icon("warning") : null),
      h("span", { class: "name" }, image.name),
      h("span", { class: "facts" }, facts(image)),
    );
    return card;
  }
}

function facts(image: ImageInfo): string {
  if (image.problem) return image.problem;
  const parts = [`${image.state[0]!.toUpperCase()}${image.state.slice(1)}`];
  if (image.points) parts.push(image.points === 1 ? "1 point" : `${image.points} points`);
  if (image.regions) parts.push(image.regions === 1 ? "1 region" : `${image.regions} regions`);
  return parts.join(" · ");
}
