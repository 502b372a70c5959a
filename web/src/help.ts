/** The help sheet: what a click does, and the keys. */

import { button, h } from "./dom";
import type { Shortcut } from "./keys";

export function helpDialog(shortcuts: Shortcut[]): HTMLDialogElement {
  const dialog: HTMLDialogElement = h("dialog", { class: "help", "aria-label": "Help" });
  dialog.append(
    h("header", {}, h("h2", {}, "Click, see, correct"), button({ icon: "close", title: "Close", class: "quiet", click: () => dialog.close() })),
    h(
      "ol",
      {},
      h("li", {}, "Click on the target, then choose the background and click beside it. The outline appears after the second click."),
      h("li", {}, "Where it is wrong, click once more: “Where next?” shows the place where a click helps most."),
      h("li", {}, "Take the outline where it is right, and train after a few images. The network then draws on all the others."),
    ),
    h("p", { class: "note" }, "A point is hollow until it is on the disk, in the folder's points: QuPath opens it from there."),
    h("dl", {}, ...shortcuts.map(({ shown, text }) => h("div", {}, h("dt", {}, ...shown.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, text)))),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return dialog;
}
