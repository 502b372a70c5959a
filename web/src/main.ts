/** Puts the page together: its parts, the keys, the server's events. */

import "./style.css";

import { Annotating } from "./annotating";
import { api, ApiError, sentence, type ServerEvent, Unreachable } from "./api";
import { type Connection, Events } from "./connection";
import { h } from "./dom";
import { exportDialog } from "./exporting";
import { gallery, strip } from "./gallery";
import { connectionBanner, header } from "./header";
import { helpDialog } from "./help";
import { listen, type Shortcut } from "./keys";
import { goWhereNext, side } from "./side";
import { stage, type Stage } from "./stage";
import { classes, foreground, openImage, shownImages, store } from "./state";
import { complain, say, toasts } from "./toasts";
import { registerDialog, trainingPanel } from "./training";

const events = new Events(received, connected);
const annotating = new Annotating(() => events.lost());
const theStage: Stage = stage(annotating);

/** The address's part behind # names the open image, so that a reload and the browser's back button keep it. */
function go(id: string | null): void {
  location.hash = id === null ? "" : `image/${encodeURIComponent(id)}`;
}

async function followAddress(): Promise<void> {
  const found = /^#image\/(.+)$/.exec(location.hash);
  const id = found ? decodeURIComponent(found[1]!) : null;
  const image = store.state.images.find((one) => one.id === id);
  if (id !== null && !image) return go(null);
  if (id === store.state.image && id !== null) return;
  if (image && image.width === 0) {
    say(sentence(image.problem ?? "this image cannot be read"), "problem");
    return go(null);
  }
  await Promise.all([annotating.open(id), theStage.open(image ?? null)]);
}

function step(by: number): void {
  const images = shownImages().filter((image) => image.width > 0);
  const at = images.findIndex((image) => image.id === store.state.image);
  const next = images[at + by] ?? (at < 0 ? images[0] : undefined);
  if (next) go(next.id);
  else say(by > 0 ? "This is the last image." : "This is the first image.");
}

async function mostUseful(): Promise<void> {
  try {
    const { id, reason } = await api.next(store.state.image);
    if (reason) say(sentence(reason));
    if (id !== null) go(id);
  } catch (error) {
    complain(error);
  }
}

let loading: Promise<void> | null = null;

async function loadProject(): Promise<void> {
  const project = await api.project();
  const first = store.state.project === null;
  store.set({ project, images: project.images });
  if (first) store.set({ threshold: project.settings.threshold, lam: project.settings.lam, label: classes()[0]?.number ?? 1 });
}

function reload(): Promise<void> {
  loading ??= loadProject().finally(() => {
    loading = null;
  });
  return loading;
}

let soon: ReturnType<typeof setTimeout> | undefined;

// States and counts of other images: once for the many events of a change of many.
function reloadSoon(): void {
  clearTimeout(soon);
  soon = setTimeout(() => quietly(reload()), 400);
}

async function loadTraining(): Promise<void> {
  store.set({ training: await api.training() });
}

function quietly(task: Promise<unknown>): void {
  task.catch((error: unknown) => (error instanceof Unreachable ? events.lost() : complain(error)));
}

function received(event: ServerEvent): void {
  if (event.type === "annotations") {
    if (event.image === store.state.image) quietly(annotating.changedElsewhere(event.image, event.revision));
    else reloadSoon();
  } else if (event.type === "image") reloadSoon();
  else if (event.type === "training") quietly(loadTraining());
  else quietly(reload().then(() => annotating.segment()));
}

// Also after a restart of the server: everything may have changed meanwhile.
function connected(connection: Connection): void {
  const before = store.state.connection;
  store.set({ connection });
  if (connection !== "online" || before === "online") return;
  quietly(Promise.all([reload(), loadTraining()]).then<unknown>(() => (before === "connecting" ? followAddress() : Promise.all([annotating.recover(), theStage.recover()]))));
}

const help = helpDialog(shortcuts());
const exporting = exportDialog();
const register = registerDialog();

function shortcuts(): Shortcut[] {
  const viewer = theStage.viewer;
  const inImage = (run: () => void) => () => store.state.image !== null && run();
  const choose = (event: KeyboardEvent) => {
    const one = classes()[Number(event.key) - 1];
    if (one) store.set({ label: one.number });
  };
  const arrows: Record<string, [number, number]> = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] };
  return [
    { keys: [..."123456789"], shown: "1 … 9", text: "class of the next point", run: choose },
    { keys: ["z"], shown: "z", text: "undo", run: inImage(() => void annotating.journal?.undo()) },
    { keys: ["Z"], shown: "shift z", text: "redo", run: inImage(() => void annotating.journal?.redo()) },
    { keys: ["r"], shown: "r", text: "give the selected point this class", run: inImage(() => annotating.relabelSelected()) },
    { keys: ["Delete", "Backspace"], shown: "Delete", text: "remove the selected point", run: inImage(() => annotating.removeSelected()) },
    { keys: [" "], shown: "space", text: "hide or show the overlay", run: () => store.set({ visible: !store.state.visible }) },
    { keys: ["h"], shown: "h", text: "outline or heat", run: () => store.set({ kind: store.state.kind === "heat" ? "outline" : "heat" }) },
    { keys: ["w"], shown: "w", text: "where next?", run: inImage(() => goWhereNext(viewer)) },
    { keys: ["t"], shown: "t", text: "take the outline", run: inImage(() => void annotating.take()) },
    { keys: ["c"], shown: "c", text: "checked", run: inImage(() => void annotating.check()) },
    { keys: ["n"], shown: "n", text: "next image", run: () => step(1) },
    { keys: ["p"], shown: "p", text: "previous image", run: () => step(-1) },
    { keys: ["u"], shown: "u", text: "image where clicks help most", run: () => void mostUseful() },
    { keys: ["g"], shown: "g", text: "all images", run: () => go(null) },
    { keys: ["+", "="], shown: "+", text: "zoom in", run: inImage(() => viewer.zoom(1.5)) },
    { keys: ["-"], shown: "-", text: "zoom out", run: inImage(() => viewer.zoom(1 / 1.5)) },
    { keys: ["0"], shown: "0", text: "whole image", run: inImage(() => viewer.fit()) },
    { keys: Object.keys(arrows), shown: "← → ↑ ↓", text: "move the image", run: (event) => inImage(() => viewer.pan(...arrows[event.key]!))() },
    { keys: ["Enter"], shown: "Enter", text: "point in the middle of the image", run: inImage(() => theStage.placeInMiddle()) },
    { keys: ["?"], shown: "?", text: "this sheet", run: () => help.showModal() },
    { keys: ["Escape"], shown: "Esc", text: "unselect; close", run: () => store.set({ selected: null, trainingOpen: false }) },
  ];
}

function build(): HTMLElement[] {
  const history = () => ({ canUndo: annotating.journal?.canUndo ?? false, canRedo: annotating.journal?.annotations.can_redo ?? false });
  const top = header(
    {
      gallery: () => go(null),
      undo: () => void annotating.journal?.undo(),
      redo: () => void annotating.journal?.redo(),
      export: () => exporting.showModal(),
      help: () => help.showModal(),
    },
    history,
  );
  const images = gallery(go);
  const tools = side(annotating, { show: (x, y) => theStage.viewer.show(x, y), seen: () => theStage.viewer.seen(), next: () => void mostUseful() });
  const work = h("main", { class: "work", hidden: true }, strip(go), theStage.element, tools);
  store.on(["image"], () => {
    images.hidden = store.state.image !== null;
    work.hidden = store.state.image === null;
  });
  const training = trainingPanel({ next: () => void mostUseful(), register: () => register.showModal() });
  return [top, connectionBanner(), h("div", { class: "views" }, images, work, training), toasts(), help, exporting, register];
}

document.getElementById("app")!.append(...build());
listen(shortcuts());
addEventListener("hashchange", () => quietly(followAddress()));
addEventListener("beforeunload", (event) => {
  if (store.state.unsaved > 0) event.preventDefault(); // the browser asks whether to leave
});
// A mouse click on a tool gives the keys back to the image.
document.addEventListener("click", (event) => {
  const tool = event.target instanceof Element && event.target.closest(".side button, .side input, .top button");
  if (event.detail > 0 && tool && openImage() && !document.querySelector("dialog[open]")) theStage.viewer.element.focus({ preventScroll: true });
});
let asked = "";
store.on(["whose", "label"], () => {
  const question = `${store.state.whose} ${foreground().number}`;
  if (question !== asked) annotating.segment();
  asked = question;
});
events.open();
api.project().catch((error: unknown) => {
  if (error instanceof ApiError && error.status === 401) store.set({ connection: "refused" });
});
