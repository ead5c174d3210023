// Figures as people read them.

const WHOLE = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en-GB", { notation: "compact", maximumSignificantDigits: 3 });
const ROUGH = new Intl.NumberFormat("en-GB", { notation: "compact", maximumSignificantDigits: 2 });
const NONE = "\u2013";
const THIN = "\u202f";

/** 12,345 */
export const count = (value) => (value === null || value === undefined ? NONE : WHOLE.format(value));

/** 12,345 in full, 1.23M when it is large. */
export const short = (value) =>
  value === null || value === undefined ? NONE : value < 100_000 ? WHOLE.format(value) : SHORT.format(value).replace("m", "M");

/** Not measured but reckoned: ~12k. */
export const estimate = (value) => (value ? `~${ROUGH.format(value).replace("m", "M")}` : short(value));

/** A ratio as 43 %, 4.3 % or < 0.1 %. */
export function percent(ratio) {
  if (ratio === null || ratio === undefined) return NONE;
  const hundred = 100 * ratio;
  if (hundred > 0 && hundred < 0.1) return `< 0.1${THIN}%`;
  const digits = hundred === 0 || hundred >= 9.95 ? 0 : 1;
  return `${hundred.toFixed(digits)}${THIN}%`;
}

/** A probability or reward: 0.41, or 0.041 when it is small. */
export function decimal(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) > 0 && Math.abs(value) < 0.0995 ? value.toFixed(3) : value.toFixed(2);
}

/** One decimal place, none for whole numbers. */
export const about = (value) => (value === null || value === undefined ? NONE : String(Math.round(10 * value) / 10));

/** "1 group", "2 groups". */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** How long ago, in words. */
export function ago(milliseconds) {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}
