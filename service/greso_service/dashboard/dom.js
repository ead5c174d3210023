// Elements made from code. Text is always a text node: names of runs and prompts are never parsed as HTML.

/** An element; `props` are attributes, with `on` for listeners; children are nodes, text, or null for none. */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [attribute, value] of Object.entries(props)) {
    if (attribute === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else set(made, attribute, value);
  }
  fill(made, ...children);
  return made;
}

/** Set an attribute, or remove it for null and false; leaves alone what is right already. */
export function set(element, attribute, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(attribute);
  else if (element.getAttribute(attribute) !== String(value)) element.setAttribute(attribute, value === true ? "" : value);
}

/** Replace the children. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

/** Set the text; leaves alone what is right already, so that nothing is announced or selected anew. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The same children for the same keys: what has the focus or is being read stays where it is. */
export function keyed(container, items, keyOf, make, update) {
  const old = new Map([...container.children].map((child) => [child.dataset.key, child]));
  let place = container.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = old.get(key);
    if (child) old.delete(key);
    else {
      child = make(item);
      child.dataset.key = key;
    }
    update?.(child, item);
    if (child === place) place = place.nextElementSibling;
    else {
      const focused = child.contains(document.activeElement) ? document.activeElement : null;
      container.insertBefore(child, place);
      focused?.focus({ preventScroll: true });
    }
  }
  for (const child of old.values()) child.remove();
}

/** Others' text, kept from turning the line around it right to left. */
export function name(text) {
  return h("bdi", { class: "name" }, text);
}

/** Terms and figures: `entries` are [term, figure, remark]; figures and remarks may be nodes. */
export function facts(entries) {
  const made = entries.map(([term, figure, remark]) =>
    h(
      "div",
      {},
      h("dt", {}, term),
      h("dd", {}, h("span", { class: "figure" }, figure), remark ? h("small", {}, remark) : null),
    ),
  );
  return h("dl", { class: "facts" }, ...made);
}

/** The head of a column of figures. */
export const number = (text) => h("th", { scope: "col", class: "number" }, text);

/** A table; `heads` are texts, or nodes made by `number`. */
export function table(caption, heads, rows, props = {}) {
  const head = h("tr", {}, ...heads.map((text) => (text instanceof Node ? text : h("th", { scope: "col" }, text))));
  return h("table", props, h("caption", { class: "unseen" }, caption), h("thead", {}, head), h("tbody", {}, ...rows));
}
