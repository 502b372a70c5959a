/** What the page shows: one store that all its parts read. */

import type { ImageInfo, ImageState, Project, Segmentation, Training } from "./api";
import type { ClassOfMap } from "./api";
import type { Connection } from "./connection";
import type { Grid } from "./outlines";
import { Store } from "./store";

export type OverlayKind = "outline" | "heat";

/** The last answer about u, its picture unpacked. */
export interface Segmented {
  answer: Segmentation;
  grid: Grid | null;
}

export interface State {
  project: Project | null;
  images: readonly ImageInfo[];
  image: string | null; // the open one; null is the gallery
  filter: ImageState | "all";
  search: string;
  label: number;
  selected: string | null;
  marks: number; // counts changes of the open image's annotations
  unsaved: number;
  segmented: Segmented | null;
  computing: boolean;
  whose: "both" | "clicks" | "network"; // with a trained network: u of both, of the clicks on pretrained features, or of it alone
  kind: OverlayKind;
  visible: boolean;
  opacity: number;
  threshold: number;
  lam: number;
  training: Training | null;
  trainingOpen: boolean;
  connection: Connection;
}

export const store = new Store<State>({
  project: null,
  images: [],
  image: null,
  filter: "all",
  search: "",
  label: 1,
  selected: null,
  marks: 0,
  unsaved: 0,
  segmented: null,
  computing: false,
  whose: "both",
  kind: "outline",
  visible: true,
  opacity: 0.7,
  threshold: 0.5,
  lam: 1,
  training: null,
  trainingOpen: false,
  connection: "connecting",
});

/** Classes in the order of their keys: the foreground by number, the background last. */
export function classes(): ClassOfMap[] {
  const all = store.state.project?.classes ?? [];
  return [...all].sort((a, b) => (a.number || Infinity) - (b.number || Infinity));
}

const EXCLUSION: ClassOfMap = { number: 255, name: "exclusion", colour: "#999999" }; // neither learnt nor scored

export function classOf(label: number): ClassOfMap {
  if (label === EXCLUSION.number) return EXCLUSION;
  return store.state.project?.classes.find((one) => one.number === label) ?? { number: label, name: `class ${label}`, colour: "#888888" };
}

/** The class whose outlines are shown: the current one, or the first of the foreground while the background is current. */
export function foreground(): ClassOfMap {
  const { label } = store.state;
  return label !== 0 ? classOf(label) : (classes()[0] ?? classOf(1));
}

export function openImage(): ImageInfo | undefined {
  return store.state.images.find((image) => image.id === store.state.image);
}

/** Images that pass the filter and the search. */
export function shownImages(): ImageInfo[] {
  const { images, filter, search } = store.state;
  const sought = search.trim().toLowerCase();
  return images.filter((image) => (filter === "all" || image.state === filter) && image.name.toLowerCase().includes(sought));
}

export function replaceImage(image: ImageInfo): void {
  store.set({ images: store.state.images.map((other) => (other.id === image.id ? image : other)) });
}
