/** Short messages that go by themselves; screen readers read them out. */

import { button, h } from "./dom";

const LASTS = 7000;

const box = h("div", { class: "toasts", role: "status", "aria-live": "polite" });

export function toasts(): HTMLElement {
  return box;
}

export function say(sentence: string, kind: "note" | "problem" = "note"): void {
  const known = [...box.children].find((other) => other.firstChild?.textContent === sentence);
  known?.remove();
  const toast: HTMLElement = h(
    "div",
    { class: `toast ${kind}` },
    h("span", {}, sentence),
    button({ icon: "close", title: "Dismiss", class: "quiet", click: () => toast.remove() }),
  );
  box.append(toast);
  setTimeout(() => toast.remove(), LASTS);
}

/** Say what went wrong with something the user asked for. */
export function complain(error: unknown): void {
  say(error instanceof Error ? error.message : String(error), "problem");
}
