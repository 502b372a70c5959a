/** Which key does what. */

export interface Shortcut {
  keys: string[]; // as KeyboardEvent.key, in lower case unless shift matters
  shown: string;
  text: string;
  run(event: KeyboardEvent): void;
}

/** Call the shortcuts, save where the user types, moves a slider or reads a dialog. */
export function listen(shortcuts: Shortcut[]): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    if (target instanceof HTMLElement && keepsKey(target, event.key)) return;
    const found = shortcuts.find((shortcut) => shortcut.keys.includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.run(event);
  });
}

/** Whether the focused element needs the key for itself. */
export function keepsKey(target: HTMLElement, key: string): boolean {
  if (target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) return true;
  if (target instanceof HTMLInputElement) return target.type !== "range" || key.startsWith("Arrow");
  const presses = target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement;
  return presses && (key === " " || key === "Enter");
}
