// The key, for a service that wants one. It stays in this tab, until the tab is closed.

import { h } from "./dom.js";

const PLACE = "greso-key";

export const known = () => sessionStorage.getItem(PLACE) !== null;

export const forget = () => sessionStorage.removeItem(PLACE);

/** The headers that carry it. */
export const headers = () => (known() ? { Authorization: `Bearer ${sessionStorage.getItem(PLACE)}` } : {});

/** Asks for a key; `reason` says why, `given` is called when there is one. */
export function ask(reason, given) {
  const input = h("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false", required: true });
  const take = (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!/^[!-~]+$/.test(key)) return; // what else there is can't be part of a key, nor of a header
    sessionStorage.setItem(PLACE, key);
    given();
  };
  return h(
    "form",
    { class: "away", "data-code": "key_wanted", on: { submit: take } },
    h("strong", {}, "This service wants a key. "),
    h("span", { class: "reason" }, reason),
    " ",
    h("label", { for: "key" }, "Key"),
    " ",
    input,
    " ",
    h("button", {}, "Use it"),
    h("p", { class: "quiet" }, "A key with the scope read is enough. It is kept in this tab until you close it."),
  );
}
