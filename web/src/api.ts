/** Calls of the server's interface (`/api/openapi.json` documents it), with its types. */

export interface ClassOfMap {
  number: number;
  name: string;
  colour: string;
}

export type ImageState = "untouched" | "clicked" | "predicted" | "checked";

export interface ImageInfo {
  id: string;
  name: string;
  width: number;
  height: number;
  mpp: number | null;
  state: ImageState;
  points: number;
  regions: number;
  revision: number;
  problem: string | null;
  patient: string;
}

export interface Model {
  name: string;
  source: "training" | "given";
  trained_at: string | null;
  tested: boolean; // whether images were kept for a test, without which it cannot be registered
}

export interface Project {
  folder: string;
  classes: ClassOfMap[];
  model: Model | null;
  features: "imagenet" | "density" | "network";
  pretrained: boolean;
  settings: { lam: number; eta: number; threshold: number };
  tested_from: number; // annotated patients from which a training keeps some for a test
  images: ImageInfo[];
}

export interface Tiles {
  width: number;
  height: number;
  tile_size: number;
  overlap: number;
  max_level: number;
}

export interface Point {
  id: string;
  x: number;
  y: number;
  label: number;
}

export type Ring = [number, number][];

export interface Outline {
  exterior: Ring;
  holes: Ring[];
}

export interface Region extends Outline {
  id: string;
  label: number;
}

export interface Annotations {
  revision: number;
  points: Point[];
  regions: Region[];
  can_undo: boolean;
  can_redo: boolean;
  checked: boolean;
}

export type Edit =
  | { op: "add"; x: number; y: number; label: number }
  | { op: "move"; id: string; x: number; y: number }
  | { op: "remove"; id: string }
  | { op: "relabel"; id: string; label: number }
  | { op: "remove_region"; id: string };

/** A rectangle in level-0 pixels. */
export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface SegmentRequest {
  window: Rectangle | null;
  lam: number;
  threshold: number;
  label: number;
  features: "network" | "pretrained";
}

export interface Segmentation {
  window: Rectangle;
  width: number;
  height: number;
  source: "clicks" | "clicks+network" | "network";
  features: string;
  seconds: number;
  first: boolean;
  u: string | null;
  outlines: Outline[];
  reason: string | null;
  where_next: { x: number; y: number; reason: string } | null;
}

/** What a training fits: the U-Net of the configuration, or one layer on pretrained features. */
export type Learner = "network" | "pretrained";

export type TrainingState = "none" | "preparing" | "running" | "stopping" | "stopped" | "finished" | "failed";

export interface Training {
  state: TrainingState;
  run: string | null;
  epoch: number;
  max_epochs: number;
  seconds: number;
  remaining_seconds: number | null;
  curves: Record<string, [number, number][]>;
  previews: string[];
  message: string | null;
  can_resume: boolean;
}

export type ServerEvent =
  | { type: "annotations"; image: string; revision: number }
  | { type: "image"; image: string }
  | { type: "training" }
  | { type: "project" };

export interface ExportChoice {
  what: "geojson" | "labels" | "areas";
  images: string;
  source: "annotations" | "prediction";
}

/** The server answered that the request cannot be fulfilled; the message is its sentence. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly body: unknown,
  ) {
    super(message);
  }
}

/** The server did not answer at all. */
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer.");
  }
}

/** The server's messages are written for a terminal, without capital and full stop. */
export function sentence(message: string): string {
  const begun = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

async function send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const options: RequestInit = { method, headers: { Accept: "application/json" }, cache: "no-store" };
  if (signal) options.signal = signal;
  if (body !== undefined) {
    options.headers = { ...options.headers, "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Unreachable();
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response: Response): Promise<ApiError> {
  let body: unknown = null;
  try {
    body = await response.json();
  } catch {
    // Not JSON: the status has to do.
  }
  const detail = (body as { detail?: unknown } | null)?.detail;
  return new ApiError(response.status, sentence(typeof detail === "string" ? detail : `The server answered ${response.status}`), body);
}

async function json<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await send(method, path, body, signal);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Unreachable(); // the connection broke within the answer
  }
}

function ofImage(id: string, rest: string): string {
  return `/api/images/${encodeURIComponent(id)}/${rest}`;
}

export const api = {
  project: () => json<Project>("GET", "/api/project"),
  tiles: (id: string, signal?: AbortSignal) => json<Tiles>("GET", ofImage(id, "tiles"), undefined, signal),
  thumbnail: (id: string) => ofImage(id, "thumbnail.jpg"),
  tile: (id: string, level: number, column: number, row: number) => ofImage(id, `tiles/${level}/${column}_${row}.jpg`),
  annotations: (id: string) => json<Annotations>("GET", ofImage(id, "annotations")),
  edit: (id: string, revision: number, edits: Edit[]) => json<Annotations>("POST", ofImage(id, "edits"), { revision, edits }),
  undo: (id: string, revision: number) => json<Annotations>("POST", ofImage(id, "undo"), { revision }),
  redo: (id: string, revision: number) => json<Annotations>("POST", ofImage(id, "redo"), { revision }),
  segment: (id: string, request: SegmentRequest, signal: AbortSignal) =>
    json<Segmentation>("POST", ofImage(id, "segment"), request, signal),
  prediction: (id: string, { window, threshold, label }: Omit<SegmentRequest, "lam" | "features">, signal: AbortSignal) => {
    const query = Object.entries({ threshold, label, ...window }).map(([name, value]) => `${name}=${value}`);
    return json<Segmentation>("GET", ofImage(id, `prediction?${query.join("&")}`), undefined, signal);
  },
  take: (id: string, request: { revision: number; window: Rectangle | null; threshold: number; label: number }) =>
    json<Annotations>("POST", ofImage(id, "take"), request),
  checked: (id: string, checked: boolean) => json<ImageInfo>("POST", ofImage(id, "checked"), { checked }),
  next: (id: string | null) =>
    json<{ id: string | null; reason: string }>("GET", id === null ? "/api/next" : `/api/next?after=${encodeURIComponent(id)}`),
  training: () => json<Training>("GET", "/api/training"),
  train: (choice: { max_epochs?: number; learner: Learner }) => json<Training>("POST", "/api/training", choice),
  stop: () => json<Training>("POST", "/api/training/stop", {}),
  resume: () => json<Training>("POST", "/api/training/resume", {}),
  register: (name: string) => json<{ name: string; version: string | number }>("POST", "/api/register", { name }),
  async export(choice: ExportChoice): Promise<{ blob: Blob; name: string }> {
    const response = await send("GET", `/api/export?${new URLSearchParams({ ...choice })}`);
    const given = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") ?? "");
    return { blob: await response.blob(), name: given?.[1] ?? `${choice.what}.zip` };
  },
};
