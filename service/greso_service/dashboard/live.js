// Keeps the view that is shown up to date, and says so when that fails.

import { Away, Problem } from "./api.js";
import { fill, h, say } from "./dom.js";

const EVERY_MS = 3_000;
const LONGEST_WAIT_MS = 30_000;

export class Live {
  #view = null;
  #cancel = new AbortController();
  #timer = 0;
  #failures = 0;

  constructor(banner, pulse) {
    this.banner = banner;
    this.pulse = pulse;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#pause() : this.now()));
    window.addEventListener("online", () => this.now());
  }

  /** Show this view from now on. */
  show(view) {
    this.#view = view;
    return this.now();
  }

  /** Refresh now and then every few seconds; what is under way is called off. */
  async now() {
    clearTimeout(this.#timer);
    this.#cancel.abort();
    this.#cancel = new AbortController();
    const { signal } = this.#cancel;
    let wait = EVERY_MS;
    try {
      await this.#view.refresh(signal);
      if (signal.aborted) return;
      this.#failures = 0;
      this.#back();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) {
        this.#back();
        this.#view.refused(error);
        wait = LONGEST_WAIT_MS; // a run may yet be created under this name
      } else if (error instanceof Away) {
        wait = Math.min(LONGEST_WAIT_MS, EVERY_MS * 2 ** this.#failures);
        this.#failures += 1;
        this.#away(error, wait);
      } else reportError(error); // a mistake of ours: the console shows it, and the next try may do
    }
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.now(), wait);
  }

  #pause() {
    clearTimeout(this.#timer);
    say(this.pulse, "Paused");
  }

  #back() {
    if (this.banner.firstChild) fill(this.banner);
    this.pulse.dataset.state = "live";
    say(this.pulse, "Live");
  }

  #away(error, wait) {
    this.pulse.dataset.state = "away";
    say(this.pulse, "Not live");
    const seconds = `Next try in ${Math.round(wait / 1000)} s.`;
    const shown = this.banner.querySelector(".next");
    if (shown) {
      say(shown, seconds);
      say(this.banner.querySelector(".why"), error.message);
      return;
    }
    fill(
      this.banner,
      h(
        "div",
        { class: "away", "data-code": "service_away" },
        h("strong", {}, "The service does not answer. "),
        h("span", { class: "why" }, error.message),
        " What you see is the last that was known. Training goes on: trainers roll out everything meanwhile and hand in their reports later. Look whether ",
        h("code", {}, "greso serve"),
        " still runs, at its log, and at Redis. ",
        h("span", { class: "next" }, seconds),
        " ",
        h("button", { type: "button", on: { click: () => this.now() } }, "Try now"),
      ),
    );
  }
}
