// The selection map as a picture: which cell is where, and how it is drawn.

/** What a letter of a prompt's history stands for: [words, colour, where]. Full cells were rolled out, thin ones were not. */
export const KINDS = {
  v: ["effective group", "effective", "full"],
  e: ["easy group", "easy", "full"],
  h: ["hard group", "hard", "full"],
  u: ["undetermined group", "unknown", "dot"],
  x: ["skipped as easy", "easy", "top"],
  y: ["skipped as hard", "hard", "bottom"],
};

const GAP = 1;
const FEW = 100; // rows that may be tall
const WIDEST = 30;
const NARROWEST = 3;

/** Places every offer of every prompt in a column: by its number, or by its step. */
export class Layout {
  constructor(prompts, columns, width) {
    this.prompts = prompts;
    const visits = Math.max(1, ...prompts.map((prompt) => prompt.what.length));
    const steps = prompts.flatMap((prompt) => (prompt.steps.length ? [prompt.steps[0], prompt.steps.at(-1)] : []));
    this.byStep = columns === "steps";
    this.first = steps.length ? steps.reduce((least, step) => Math.min(least, step)) : 0;
    const last = steps.length ? steps.reduce((most, step) => Math.max(most, step)) : 0;
    const wanted = this.byStep ? last - this.first + 1 : visits;
    this.each = Math.ceil(wanted / Math.floor(width / NARROWEST)); // steps in a column
    this.columns = Math.ceil(wanted / this.each);
    this.cell = Math.min(WIDEST, Math.floor(width / this.columns));
    this.width = this.columns * this.cell;
    this.row = prompts.length > FEW ? 6 : 9; // pixels: the thin line of a skip still stands apart from a full cell
    this.height = prompts.length * this.row;
  }

  /** The column of the offer at this place of a prompt's history. */
  columnOf(prompt, place) {
    return this.byStep ? Math.floor((prompt.steps[place] - this.first) / this.each) : place;
  }

  /** The place in the history that is shown in a column, -1 for none: of several the newest. */
  placeOf(prompt, column) {
    if (!this.byStep) return column < prompt.what.length ? column : -1;
    for (let place = prompt.steps.length - 1; place >= 0; place--)
      if (this.columnOf(prompt, place) === column) return place;
    return -1;
  }

  /** What a column is called. */
  nameOf(column) {
    if (!this.byStep) return `offer ${column + 1}`;
    const from = this.first + column * this.each;
    return this.each === 1 ? `step ${from}` : `steps ${from} to ${from + this.each - 1}`;
  }
}

/** Draw the map; `at` is {row, column} to mark, or null. */
export function draw(canvas, layout, at) {
  const style = getComputedStyle(document.documentElement);
  const colours = Object.fromEntries(
    ["effective", "easy", "hard", "unknown", "mark", "row"].map((key) => [
      key,
      style.getPropertyValue(`--map-${key}`).trim(),
    ]),
  );
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(layout.width * scale);
  canvas.height = Math.round(layout.height * scale);
  canvas.style.width = `${layout.width}px`;
  canvas.style.height = `${layout.height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  layout.prompts.forEach((prompt, row) => drawRow(context, layout, prompt, row, colours));
  if (!at) return;
  context.strokeStyle = colours.mark;
  context.lineWidth = 1.5;
  context.strokeRect(0.75, at.row * layout.row - 0.5, layout.width - 1.5, layout.row);
  context.lineWidth = 2;
  context.strokeRect(at.column * layout.cell, at.row * layout.row - 1, layout.cell, layout.row + 1);
}

function drawRow(context, layout, prompt, row, colours) {
  const top = row * layout.row;
  const width = layout.cell - (layout.cell > 4 ? GAP : 0);
  const high = layout.row - GAP;
  const thin = layout.row / 4;
  context.fillStyle = colours.row;
  context.fillRect(0, top, layout.width, high);
  for (let place = 0; place < prompt.what.length; place++) {
    const [, colour, where] = KINDS[prompt.what[place]];
    const left = layout.columnOf(prompt, place) * layout.cell;
    if (layout.byStep) {
      context.fillStyle = colours.row; // a newer offer in the same column hides the older
      context.fillRect(left, top, width, high);
    }
    context.fillStyle = colours[colour];
    if (where === "full") context.fillRect(left, top, width, high);
    else if (where === "top") context.fillRect(left, top, width, thin);
    else if (where === "bottom") context.fillRect(left, top + high - thin, width, thin);
    else context.fillRect(left + width / 2 - 1, top + high / 2 - 1, 2, 2);
  }
}
