/** The export dialog: what, of which images, from whose segmentation. */

import { api, type ExportChoice } from "./api";
import { button, h } from "./dom";
import { store } from "./state";
import { complain } from "./toasts";

function choice(name: string, title: string, options: [string, string, string?][]): HTMLFieldSetElement {
  return h(
    "fieldset",
    {},
    h("legend", {}, title),
    ...options.map(([value, text, note], i) =>
      h("label", { class: "option" }, h("input", { type: "radio", name, value, checked: i === 0 }), h("span", {}, text, note ? h("small", {}, note) : null)),
    ),
  );
}

export function exportDialog(): HTMLDialogElement {
  const which = choice("images", "Images", [["all", "All"], ["this", "The open one"]]);
  const whose = choice("source", "From", [["annotations", "My annotations"], ["prediction", "The network"]]);
  const dialog: HTMLDialogElement = h("dialog", { class: "small-dialog", "aria-label": "Export" });
  const submit = async (event: Event) => {
    event.preventDefault();
    dialog.close();
    const form = new FormData(event.target as HTMLFormElement);
    const images = form.get("images") === "this" ? (store.state.image ?? "all") : "all";
    try {
      const { blob, name } = await api.export({ what: form.get("what"), images, source: form.get("source") } as ExportChoice);
      save(blob, name);
    } catch (error) {
      complain(error);
    }
  };
  dialog.append(
    h(
      "form",
      { method: "dialog", submit: (event: Event) => void submit(event) },
      h("h2", {}, "Export"),
      choice("what", "What", [
        ["geojson", "Points and outlines", "GeoJSON for QuPath; of my annotations: what was taken"],
        ["labels", "Label images", "one number for each class"],
        ["areas", "Areas of each class", "CSV"],
      ]),
      which,
      whose,
      h("div", { class: "actions" }, button({ text: "Cancel", click: () => dialog.close() }), h("button", { type: "submit", class: "primary" }, "Download")),
    ),
  );
  store.on(["image", "project"], () => {
    enable(which, "this", store.state.image !== null);
    enable(whose, "prediction", store.state.project?.model != null);
  });
  return dialog;
}

function enable(set: HTMLFieldSetElement, value: string, possible: boolean): void {
  const option = [...set.querySelectorAll("input")].find((input) => input.value === value);
  if (!option) return;
  option.disabled = !possible;
  if (!possible && option.checked) set.querySelector("input")!.checked = true;
}

function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
