/** Listens to the server's events and finds out whether it is there, again and again until it is. */

import { api, ApiError, type ServerEvent } from "./api";

export type Connection = "connecting" | "online" | "lost" | "refused";

const SHORTEST = 500;
const LONGEST = 4000;

export class Events {
  private source: EventSource | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wait = SHORTEST;

  constructor(
    private readonly received: (event: ServerEvent) => void,
    private readonly became: (connection: Connection) => void,
  ) {}

  open(): void {
    clearTimeout(this.timer);
    this.source?.close();
    const source = new EventSource("/api/events");
    this.source = source;
    source.addEventListener("open", () => {
      this.wait = SHORTEST;
      this.became("online");
    });
    source.addEventListener("message", (message: MessageEvent<string>) => this.received(JSON.parse(message.data) as ServerEvent));
    source.addEventListener("error", () => this.lost());
  }

  /** Something got no answer: close, say so, try again after a wait that doubles. */
  lost(): void {
    if (this.source === null) return; // a try is already due
    this.source.close();
    this.source = null;
    this.became("lost");
    this.retryLater();
  }

  private retryLater(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.retry(), this.wait);
    this.wait = Math.min(this.wait * 2, LONGEST);
  }

  // An EventSource cannot say why it failed; an ordinary request can.
  private async retry(): Promise<void> {
    try {
      await api.training();
      this.open();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.became("refused");
      else this.became("lost");
      this.retryLater();
    }
  }
}
