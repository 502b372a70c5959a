/** The training panel: start, progress, curves, pictures of u, stop, resume, register. */

import { api, type ImageInfo, type Learner, sentence, type Training } from "./api";
import { chart } from "./chart";
import { button, h } from "./dom";
import { store } from "./state";
import { complain, say } from "./toasts";

const BUSY = new Set<Training["state"]>(["preparing", "running", "stopping"]);

export function isBusy(training: Training | null): boolean {
  return training !== null && BUSY.has(training.state);
}

async function asked(task: Promise<Training>): Promise<void> {
  try {
    store.set({ training: await task });
  } catch (error) {
    complain(error);
  }
}

export function trainingPanel(actions: { next(): void; register(): void }): HTMLElement {
  const body = h("div", { class: "training-body" });
  const panel = h(
    "aside",
    { class: "training", "aria-label": "Training", hidden: true },
    h("header", {}, h("h2", {}, "Training"), button({ icon: "close", title: "Close", class: "quiet", click: () => store.set({ trainingOpen: false }) })),
    body,
  );
  const epochs = h("input", { type: "number", min: 1, max: 10000, placeholder: "as configured", "aria-label": "Epochs" });
  const learner = h(
    "select",
    { "aria-label": "What learns" },
    h("option", { value: "network" }, "A U-Net"),
    h("option", { value: "pretrained" }, "One layer on pretrained features"),
  );
  const begin = () => {
    const choice = { learner: learner.value as Learner };
    void asked(api.train(epochs.value ? { ...choice, max_epochs: Number(epochs.value) } : choice));
  };
  store.on(["trainingOpen"], () => {
    panel.hidden = !store.state.trainingOpen;
  });
  store.on(["training", "project", "images"], () => {
    const { training } = store.state;
    const busy = isBusy(training);
    body.replaceChildren(
      ...[
        progress(training),
        training && Object.values(training.curves).some((curve) => curve.length) ? chart(training.curves, training.max_epochs) : null,
        busy ? null : start({ learner, epochs }, begin, training),
        busy ? running(training!) : null,
        training?.previews.length ? previews(training.previews) : null,
        busy || !store.state.project?.model ? null : afterwards(actions),
      ].filter((part) => part !== null),
    );
  });
  return panel;
}

/** Annotated images below which the page advises against a training. */
const FEW = 3;

/** What the annotated images are too few for: said before a training, since it cannot be mended after it. */
export function untested(images: readonly ImageInfo[], tested_from: number): string | null {
  const annotated = images.filter((image) => image.points + image.regions > 0);
  const patients = new Set(annotated.map((image) => image.patient)).size;
  if (patients === 0 || patients >= tested_from) return null;
  const needed = patients === annotated.length ? `${tested_from} annotated images` : `annotated images of ${tested_from} patients`;
  return `No test yet: from ${needed} on (now ${patients}) some are kept to score the network, and it can be registered. With fewer all of them train.`;
}

function progress(training: Training | null): HTMLElement {
  const { images } = store.state;
  if (!training || training.state === "none") {
    const clicked = images.filter((image) => image.points + image.regions > 0).length;
    const few = clicked < FEW ? ` A network of fewer than ${FEW} seldom does better than the clicks alone.` : "";
    const text = clicked === 0 ? "Click on a few images first." : `${clicked} of ${images.length} images ${clicked === 1 ? "has" : "have"} clicks or regions to learn from.${few}`;
    return h("p", { class: "lead" }, text);
  }
  const done = training.max_epochs > 0 ? training.epoch / training.max_epochs : 0;
  const bar = h("progress", { max: 1, "aria-label": "Progress of the training" });
  if (training.state !== "preparing") bar.value = done;
  return h(
    "div",
    { class: `progress ${training.state}` },
    h("p", { class: "lead", "aria-live": "polite" }, headline(training)),
    bar,
    h("p", { class: "facts" }, h("span", {}, `Epoch ${training.epoch} of ${training.max_epochs}`), h("span", {}, time(training))),
    training.message ? h("p", { class: training.state === "failed" ? "failure" : "note" }, sentence(training.message)) : null,
    training.run ? h("p", { class: "run" }, `Run ${training.run}`) : null,
  );
}

function headline(training: Training): string {
  const texts: Record<Training["state"], string> = {
    none: "Nothing trained yet.",
    preparing: "Preparing folds and data list…",
    running: "Learning from your clicks",
    stopping: "Stopping after this epoch…",
    stopped: "Stopped; nothing is lost.",
    finished: "Finished. The network draws on all images.",
    failed: "The training failed.",
  };
  return texts[training.state];
}

function time(training: Training): string {
  if (isBusy(training) && training.remaining_seconds !== null) return `about ${duration(training.remaining_seconds)} left`;
  return training.seconds > 0 ? `took ${duration(training.seconds)}` : "";
}

/** Seconds in the two largest of hours, minutes and seconds. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Said of the choice of what learns. */
export const LEARNERS =
  "A U-Net draws finer borders. One layer on pretrained features is done sooner, and was better on a slide that neither had seen.";

function start({ learner, epochs }: { learner: HTMLSelectElement; epochs: HTMLInputElement }, begin: () => void, training: Training | null): HTMLElement {
  const again = training !== null && training.state !== "none";
  const { images, project } = store.state;
  const warning = untested(images, project?.tested_from ?? 0);
  const resume = training?.can_resume ? button({ icon: "play", text: "Resume", class: "wide", click: () => void asked(api.resume()) }) : null;
  return h(
    "div",
    { class: "start" },
    ...(project?.pretrained
      ? [h("label", { class: "field" }, h("span", {}, "What learns"), learner), h("p", { class: "explained" }, LEARNERS)]
      : []),
    h("label", { class: "field" }, h("span", {}, "Epochs"), epochs),
    warning ? h("p", { class: "note" }, warning) : null,
    button({ icon: "train", text: again ? "Train again" : "Train", class: "wide primary", click: begin }),
    resume,
  );
}

function running(training: Training): HTMLElement {
  const stop = button({ icon: "stop", text: "Stop", class: "wide", click: () => void asked(api.stop()) });
  stop.disabled = training.state === "stopping";
  return h("div", { class: "start" }, stop);
}

function previews(urls: string[]): HTMLElement {
  return h("div", { class: "previews" }, h("h3", {}, "u as it learns"), ...urls.map((url) => h("a", { href: url, target: "_blank", rel: "noopener", title: "Open in full size" }, h("img", { src: url, alt: "u of training images", loading: "lazy" }))));
}

function afterwards(actions: { next(): void; register(): void }): HTMLElement {
  const register = button({ icon: "check", text: "Register this network…", class: "wide", click: actions.register });
  register.disabled = store.state.project?.model?.tested === false;
  if (register.disabled) register.title = "It kept no images for a test, and a network is registered with its test";
  return h(
    "div",
    { class: "start" },
    button({ icon: "next", text: "Next most uncertain image", class: "wide", click: actions.next }),
    register,
  );
}

/** Asks for a name and registers the network under it. */
export function registerDialog(): HTMLDialogElement {
  const name = h("input", { type: "text", required: true, maxlength: 100, autocomplete: "off", "aria-label": "Name" });
  const register = h("button", { type: "submit", class: "primary" }, "Register");
  const problem = h("p", { class: "failure", hidden: true, role: "alert" });
  const dialog: HTMLDialogElement = h("dialog", { class: "small-dialog", "aria-label": "Register the network" });
  const submit = async (event: Event) => {
    event.preventDefault();
    problem.hidden = true;
    register.disabled = true;
    register.textContent = "Testing the network…";
    try {
      const registered = await api.register(name.value.trim());
      dialog.close();
      say(`Registered as ${registered.name}, version ${registered.version}.`);
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error instanceof Error ? error.message : String(error);
    }
    register.disabled = false;
    register.textContent = "Register";
  };
  dialog.append(
    h(
      "form",
      { method: "dialog", submit: (event: Event) => void submit(event) },
      h("h2", {}, "Register the network"),
      h("p", {}, "It is tested, which may take a minute, and gets a new version under this name in the model registry."),
      h("label", { class: "field" }, h("span", {}, "Name"), name),
      problem,
      h("div", { class: "actions" }, button({ text: "Cancel", click: () => dialog.close() }), register),
    ),
  );
  return dialog;
}
