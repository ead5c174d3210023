// Keeps the view that is shown up to date, and says so when that fails.

import { Away, Locked, Problem, Slow } from "./api.js";
import { fill, h, say } from "./dom.js";
import { ask, known } from "./key.js";

const EVERY_MS = 3_000;
const LONGEST_WAIT_MS = 30_000;

const AWAY =
  " What you see is the last that was known. Training goes on: trainers roll out everything meanwhile and hand in their reports later. Look whether ";
const SLOW =
  " After a restart it reads the runs from their histories first: seconds for one of a million prompts. If this goes on, look whether ";

export class Live {
  /** Called after each answer. */
  onChange = () => {};

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
      if (error instanceof Locked) {
        this.#locked(error);
        return; // until there is a key
      }
      if (error instanceof Problem) {
        this.#back();
        this.#view.refused(error);
        wait = 3 * EVERY_MS; // a run may yet be created under this name
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
    this.onChange();
    if (this.banner.firstChild) fill(this.banner);
    this.pulse.dataset.state = "live";
    say(this.pulse, "Live");
  }

  #locked(error) {
    this.onChange();
    this.#view.refused(error);
    this.pulse.dataset.state = "away";
    say(this.pulse, "Locked");
    const reason = known() ? `The one given does not do: ${error.message}.` : "";
    const shown = this.banner.querySelector("[data-code=key_wanted] .reason");
    if (shown) {
      say(shown, reason);
      return;
    }
    fill(this.banner, ask(reason, () => this.now()));
    this.banner.querySelector("input").focus();
  }

  #away(error, wait) {
    this.pulse.dataset.state = "away";
    say(this.pulse, "Not live");
    const seconds = `Next try in ${Math.round(wait / 1000)} s.`;
    const code = error instanceof Slow ? "service_slow" : "service_away";
    const shown = this.banner.querySelector(`[data-code=${code}] .next`);
    if (shown) {
      say(shown, seconds);
      say(this.banner.querySelector(".reason"), error.message);
      return;
    }
    fill(
      this.banner,
      h(
        "div",
        { class: "away", "data-code": code },
        h("strong", {}, error instanceof Slow ? "The service is still at work. " : "The service does not answer. "),
        h("span", { class: "reason" }, error.message),
        error instanceof Slow ? SLOW : AWAY,
        h("code", {}, "greso serve"),
        " still runs, at its log, and at Redis. ",
        h("span", { class: "next" }, seconds),
        " ",
        h("button", { type: "button", on: { click: () => this.now() } }, "Try now"),
      ),
    );
  }
}
