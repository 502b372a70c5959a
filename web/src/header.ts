/** The bar above all: where one is, whether all is saved, and the ways on. */

import { button, h, icon } from "./dom";
import { openImage, store } from "./state";
import { isBusy } from "./training";

export interface HeaderActions {
  gallery(): void;
  undo(): void;
  redo(): void;
  export(): void;
  help(): void;
}

export function header(actions: HeaderActions, history: () => { canUndo: boolean; canRedo: boolean }): HTMLElement {
  const back = button({ icon: "grid", title: "All images (g)", class: "quiet", click: actions.gallery });
  const undo = button({ icon: "undo", title: "Undo (z)", class: "quiet", click: actions.undo });
  const redo = button({ icon: "redo", title: "Redo (shift z)", class: "quiet", click: actions.redo });
  store.on(["image"], () => {
    for (const one of [back, undo, redo]) one.hidden = store.state.image === null;
  });
  store.on(["marks"], () => {
    const { canUndo, canRedo } = history();
    undo.disabled = !canUndo;
    redo.disabled = !canRedo;
  });
  return h(
    "header",
    { class: "top" },
    h("span", { class: "logo", "aria-hidden": "true" }),
    back,
    place(),
    saved(),
    undo,
    redo,
    h("span", { class: "space" }),
    trainButton(),
    button({ icon: "download", text: "Export", click: actions.export }),
    button({ icon: "help", title: "Help (?)", class: "quiet", click: actions.help }),
  );
}

function place(): HTMLElement {
  const folder = h("span", { class: "folder" });
  const name = h("strong", {});
  const size = h("small", {});
  store.on(["project", "image", "images"], () => {
    const image = openImage();
    const path = store.state.project?.folder ?? "";
    folder.textContent = path.split(/[\\/]/).filter(Boolean).at(-1) ?? "";
    folder.title = path;
    name.textContent = image?.name ?? "";
    size.textContent = image ? `${image.width} × ${image.height} px${image.mpp ? `, ${Number(image.mpp.toPrecision(3))} µm/px` : ""}` : "";
    document.title = image ? `${image.name} – cvm-monai annotate` : "cvm-monai annotate";
  });
  return h("div", { class: "place" }, folder, name, size);
}

function saved(): HTMLElement {
  const text = h("span", {});
  const pill = h("span", { class: "saved", role: "status", hidden: true }, h("i", { "aria-hidden": "true" }, icon("check")), text);
  store.on(["unsaved", "image", "connection", "marks"], () => {
    const { unsaved, image, connection } = store.state;
    pill.hidden = image === null;
    const lost = connection === "lost" || connection === "refused";
    pill.dataset["state"] = unsaved === 0 ? "saved" : lost ? "unsaved" : "saving";
    text.textContent = unsaved === 0 ? "Saved" : lost ? `${unsaved} not saved` : "Saving…";
  });
  return pill;
}

function trainButton(): HTMLElement {
  const train = button({ icon: "train", text: "Train", class: "train", click: () => store.set({ trainingOpen: !store.state.trainingOpen }) });
  const text = train.querySelector("span")!;
  store.on(["training", "trainingOpen"], () => {
    const { training, trainingOpen } = store.state;
    train.setAttribute("aria-expanded", String(trainingOpen));
    train.classList.toggle("busy", isBusy(training));
    text.textContent = isBusy(training) ? `Training ${training!.epoch}/${training!.max_epochs}` : "Train";
  });
  return train;
}

/** The line that says that the server does not answer, and that nothing saved is lost. */
export function connectionBanner(): HTMLElement {
  const text = h("span", {});
  const banner = h("div", { class: "banner", role: "alert", hidden: true }, icon("warning"), text);
  store.on(["connection", "unsaved"], () => {
    const { connection, unsaved } = store.state;
    banner.hidden = connection === "online" || connection === "connecting";
    const left = unsaved === 0 ? "" : ` ${unsaved === 1 ? "One change is" : `${unsaved} changes are`} not saved yet and will be sent then.`;
    if (connection === "lost") text.textContent = `Connection lost, retrying; your last saved click is safe.${left}`;
    if (connection === "refused") text.textContent = `The server was started anew and no longer knows this window: open the address that it printed. Your last saved click is safe.${left}`;
  });
  return banner;
}
