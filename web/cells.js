// @ts-check
/**
 * One cell a step: what it is called, how tall it is, and which neighbours are the same.
 */
import { filled } from "./texts.js";

/**
 * What a step does, as the server tells it (see `StepCell.as_json`).
 * @typedef {object} Cell
 * @property {"planning" | "fidelity" | "protected"} phase
 * @property {number} self_reused share of self-attentions handed out, 0 to 1
 * @property {number} cross_reused share of cross-attentions handed out, 0 to 1
 * @property {boolean} guided whether both guidance passes run
 * @property {boolean} shallow whether the deep blocks are left out
 * @property {boolean} [ran] whether the sampler came to it
 */

/**
 * Equal steps in a row.
 * @typedef {object} Group
 * @property {Cell} cell
 * @property {number} first index of the first of them, from 0
 * @property {number} count
 */

/** More steps than this are drawn as groups of equal ones: cells would be thinner than a line. */
const MOST_CELLS = 100;

/** Rough shares of a step of one pass: what never is left out, and each kind of attention. A sketch, not a measure. */
const ALWAYS = 0.4;
const ATTENTION = 0.3;
const SHALLOW = 0.5;

/**
 * How much a step computes beside a full one with guidance, 0 to 1: the height of its bar.
 * @param {Cell} cell
 */
export function workShare(cell) {
  if (cell.ran === false) return 0;
  const pass = ALWAYS + ATTENTION * (1 - cell.self_reused) + ATTENTION * (1 - cell.cross_reused);
  return (pass * (cell.guided ? 2 : 1) * (cell.shallow ? SHALLOW : 1)) / 2;
}

/**
 * The steps as they are drawn: one by one, or equal neighbours together where there are many.
 * @param {Cell[]} cells
 * @param {number} gateStep a group never reaches across it
 * @returns {Group[]}
 */
export function grouped(cells, gateStep) {
  /** @type {Group[]} */
  const groups = [];
  cells.forEach((cell, index) => {
    const last = groups[groups.length - 1];
    const isSame = last && index !== gateStep && JSON.stringify(last.cell) === JSON.stringify(cell);
    if (isSame && cells.length > MOST_CELLS) last.count += 1;
    else groups.push({ cell, first: index, count: 1 });
  });
  return groups;
}

/**
 * What a group of steps does, in words.
 * @param {Group} group
 * @param {number} steps of the run
 * @param {import("./texts.js").Texts} texts
 */
export function described(group, steps, texts) {
  const { cell, first, count } = group;
  const text = count > 1 ? texts.manySteps : texts.oneStep;
  const name = filled(text, { first: first + 1, last: first + count, steps });
  if (cell.ran === false) return `${name}: ${texts.skipped}`;
  const parts = [
    texts[cell.phase],
    share(cell.self_reused, texts.reused, texts),
    share(cell.cross_reused, texts.frozen, texts),
    cell.guided ? texts.twoPasses : texts.onePass,
    cell.shallow ? texts.shallow : "",
  ];
  return `${name}: ${parts.filter(Boolean).join("; ")}`;
}

/**
 * @param {number} value 0 to 1
 * @param {string} what
 * @param {import("./texts.js").Texts} texts
 */
function share(value, what, texts) {
  if (value <= 0) return "";
  return value >= 1 ? what : filled(texts.part, { what, percent: Math.round(100 * value) });
}
