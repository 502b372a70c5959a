/** Makes elements. Text becomes text nodes only, never markup: no annotation or file name can run anything. */

export type Child = Node | string | null | false | undefined;
type Value = string | number | boolean | null | undefined | ((event: never) => void);

const SVG = "http://www.w3.org/2000/svg";

function fill(element: Element, attributes: Record<string, Value>, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value as (event: Event) => void);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child) element.append(child);
}

/** Make an HTML element; functions among the attributes are listeners of the event of their name. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, Value> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Record<string, Value> = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  fill(element, attributes, children);
  return element;
}

const ICONS = {
  back: "M15 5l-7 7 7 7",
  check: "M5 12.500l4.500 4.500L19 7.500",
  close: "M6 6l12 12M18 6L6 18",
  download: "M12 4v11m-4.500-4.500L12 15l4.500-4.500M5 19.500h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  grid: "M4 4h6.500v6.500H4zM13.500 4H20v6.500h-6.500zM4 13.500h6.500V20H4zM13.500 13.500H20V20h-6.500z",
  help: "M9 9.500a3 3 0 1 1 4.200 2.700c-.8.4-1.200 1-1.200 1.800v.5M12 17.800v.1M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  minus: "M5 12h14",
  next: "M9 5l7 7-7 7",
  play: "M7 5l12 7-12 7z",
  plus: "M12 5v14M5 12h14",
  redo: "M15 5l4 4-4 4M19 9h-9a5 5 0 0 0 0 10h3",
  region: "M5 9l6-5 8 4-1 9-8 3-5-5z",
  stop: "M6 6h12v12H6z",
  target: "M12 3v4M12 17v4M3 12h4M17 12h4M12 6a6 6 0 1 0 0 12 6 6 0 0 0 0-12z",
  train: "M4 19V5M4 19h16M7 8c2 7 5 8 13 8.500",
  trash: "M5 7h14M10 7V4.500h4V7M7 7l1 13h8l1-13",
  undo: "M9 5L5 9l4 4M5 9h9a5 5 0 0 1 0 10h-3",
  warning: "M12 4l9 16H3zM12 10v5M12 17.500v.1",
} as const;

export type Icon = keyof typeof ICONS;

export function icon(name: Icon): SVGSVGElement {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button with an icon, a text or both; `title` names it where there is no text. */
export function button(
  { icon: name, text, ...attributes }: { icon?: Icon; text?: string } & Record<string, Value>,
  ...children: Child[]
): HTMLButtonElement {
  if (!text && typeof attributes["title"] === "string") attributes["aria-label"] ??= attributes["title"];
  return h("button", { type: "button", ...attributes }, name ? icon(name) : null, text ? h("span", {}, text) : null, ...children);
}

/** A colour swatch: through the style object, which the content security policy allows. */
export function swatch(colour: string): HTMLSpanElement {
  const element = h("span", { class: "swatch", "aria-hidden": "true" });
  element.style.backgroundColor = colour;
  return element;
}
