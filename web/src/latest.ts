/** Requests of which only the last one counts. */

import { isAbort } from "./api";

/** Runs tasks so that a new one aborts the one before; an aborted task gives undefined. */
export class Latest {
  private controller: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Run the task after `wait` milliseconds in which no other was given. */
  run<T>(task: (signal: AbortSignal) => Promise<T>, wait = 0): Promise<T | undefined> {
    this.cancel();
    const controller = new AbortController();
    this.controller = controller;
    return new Promise((resolve, reject) => {
      controller.signal.addEventListener("abort", () => resolve(undefined));
      const start = () =>
        task(controller.signal).then(
          (value) => resolve(controller.signal.aborted ? undefined : value),
          (error: unknown) => (isAbort(error) || controller.signal.aborted ? resolve(undefined) : reject(error)),
        );
      if (wait > 0) this.timer = setTimeout(start, wait);
      else void start();
    });
  }

  cancel(): void {
    clearTimeout(this.timer);
    this.controller?.abort();
    this.controller = null;
  }
}
