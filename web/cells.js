// @ts-check
/**
 * What steps do: how it is called, how tall its bar is, and which steps share one.
 */
import { filled } from "./texts.js";

/**
 * Equal steps in a row, as the server tells of them (see `as_groups`).
 * @typedef {object} Group
 * @property {"planning" | "fidelity" | "refresh" | "protected"} phase
 * @property {number} self_reused share of self-attentions handed out, 0 to 1
 * @property {number} cross_reused share of cross-attentions handed out, 0 to 1
 * @property {boolean} guided whether both guidance passes run
 * @property {boolean} shallow whether the deep blocks are left out
 * @property {boolean} predicted whether the network does not run in them
 * @property {boolean} ran whether the sampler came to them
 * @property {number} count how many
 */

/**
 * Steps that share a bar.
 * @typedef {object} Bar
 * @property {Group} group
 * @property {number} first index of the first of them, from 0
 * @property {number} count
 */

/** Up to so many steps have a bar each; more would be thinner than a line, and equal neighbours share one. */
const MOST_BARS = 100;

/** Rough shares of a step of one pass: what never is left out, and each kind of attention. A sketch, not a measure. */
const ALWAYS = 0.4;
const ATTENTION = 0.3;
const SHALLOW = 0.5;

/**
 * How much a step computes beside a full one with guidance, 0 to 1: the height of its bar.
 * @param {Group} group
 */
export function workShare(group) {
  if (!group.ran || group.predicted) return 0;
  const pass = ALWAYS + ATTENTION * (1 - group.self_reused) + ATTENTION * (1 - group.cross_reused);
  return (pass * (group.guided ? 2 : 1) * (group.shallow ? SHALLOW : 1)) / 2;
}

/**
 * @param {Group[]} groups
 * @returns {number} steps in all of them
 */
export function stepsOf(groups) {
  return groups.reduce((sum, group) => sum + group.count, 0);
}

/**
 * The bars of a run, from left to right.
 * @param {Group[]} groups
 * @param {number} gateStep no bar reaches across it
 * @returns {Bar[]}
 */
export function barsOf(groups, gateStep) {
  const most = stepsOf(groups) > MOST_BARS ? Infinity : 1;
  /** @type {Bar[]} */
  const bars = [];
  let first = 0;
  for (const group of groups) {
    const end = first + group.count;
    while (first < end) {
      const limit = first < gateStep && gateStep < end ? gateStep : end;
      const count = Math.min(most, limit - first);
      bars.push({ group, first, count });
      first += count;
    }
  }
  return bars;
}

/**
 * What the steps of a bar do, in words.
 * @param {Bar} bar
 * @param {number} steps of the run
 * @param {string} phase what the part of the run is called that they are in
 * @param {import("./texts.js").Texts} texts
 */
export function described({ group, first, count }, steps, phase, texts) {
  const text = count > 1 ? texts.manySteps : texts.oneStep;
  const name = filled(text, { first: first + 1, last: first + count, steps });
  if (!group.ran) return `${name}: ${texts.skipped}`;
  if (group.predicted) return `${name}: ${texts.predicted}`;
  const parts = [
    phase,
    share(group.self_reused, texts.reused, texts),
    share(group.cross_reused, texts.frozen, texts),
    group.guided ? texts.twoPasses : texts.onePass,
    group.shallow ? texts.shallow : "",
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
