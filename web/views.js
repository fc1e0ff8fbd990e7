// @ts-check
/**
 * What a strip says of a plan, of a run, and of a node that is off.
 */
import { BYPASS, modelSources, valueOf } from "./graph.js";
import { isProbed, unreadable } from "./schedule_query.js";
import { familyName, filled, scopeText } from "./texts.js";

/** What is said, or drawn, elsewhere in the strip. */
const SAID_ABOVE = /^(\d+\.\d × as fast [^;]*\), )?gate at step \d+ of \d+; |(^|, )(refreshed at|predicted: steps) \d+(, \d+)*/g;

/** @typedef {import("./strip.js").View} View */
/** @typedef {import("./texts.js").Texts} Texts */

/**
 * @typedef {object} Known
 * @property {import("./schedule_query.js").Sampling} sampling the run that the plan is for
 * @property {number | undefined} plain seconds of it without our nodes
 */

/**
 * @param {any} answer of the server, see `preview` there; `error` where there is no plan
 * @param {Known} known
 * @param {any} node
 * @param {Texts} texts
 * @returns {View}
 */
export function planView(answer, { sampling, plain }, node, texts) {
  if (answer.error !== undefined) {
    return { kind: "error", groups: [], gateStep: 0, caption: answer.error || texts.noAnswer };
  }
  if (answer.is_measured && !isProbed(node)) {
    return { kind: "error", groups: [], gateStep: 0, caption: texts.noProbe };
  }
  const saved = answer.is_by_error ? texts.savedUpTo : texts.savedAbout;
  const parts = [answer.is_measured ? "" : savedText(answer.saved, saved, texts), plainText(plain, texts)];
  const remarks = remarksOf(answer, sampling, node, texts);
  return {
    kind: "plan",
    groups: answer.groups,
    gateStep: answer.gate_step,
    saving: parts.filter(Boolean).join(" · "),
    title: answer.is_measured ? texts.measuredGate : undefined,
    presets: presetsText(answer.presets, node, texts),
    caption: (remarks.length ? remarks : [texts.tallerIsMore]).join(" "),
  };
}

/**
 * @param {any} answer
 * @param {import("./schedule_query.js").Sampling} sampling
 * @param {any} node
 * @param {Texts} texts
 */
function remarksOf(answer, sampling, node, texts) {
  const name = familyName(answer.family);
  return [
    sampling.isGuided ? "" : texts.unguided,
    sampling.isKnown ? "" : filled(sampling.hasSampler ? texts.noSteps : texts.noSampler, { steps: sampling.steps }),
    ...unreadable(node).map((name) => filled(texts.linked, { name })),
    scopeText(answer.family, texts),
    answer.is_assumed ? texts[modelSources(node).length ? "assumedFile" : "assumed"] : "",
    answer.is_measured ? texts.measured : "",
    answer.is_by_error ? texts.byError : "",
    !answer.is_assumed && name ? filled(texts.family, { name }) : "",
    // Of a run that is not known at all, more than that has been said.
    answer.is_approximate && sampling.isKnown ? texts.approximate : "",
  ].filter(Boolean);
}

/**
 * What the presets save that are not chosen.
 * @param {{name: string, saved: number, same_as: string | null}[] | undefined} presets
 * @param {any} node
 * @param {Texts} texts
 */
function presetsText(presets, node, texts) {
  const chosen = valueOf(node, "preset");
  /** @type {Map<string, typeof presets>} by the first of those that do the same */
  const groups = new Map();
  for (const preset of presets ?? []) {
    const first = preset.same_as ?? preset.name;
    groups.set(first, [...(groups.get(first) ?? []), preset]);
  }
  const told = [...groups.values()].map((group = []) => {
    const name = group.filter((preset) => preset.name !== chosen).map((preset) => preset.name).join(", ");
    const isChosen = group.some((preset) => preset.name === chosen);
    if (isChosen) return name && filled(texts.samePreset, { name, other: chosen });
    return filled(texts.otherPreset, { name, percent: percent(group[0].saved) });
  });
  return told.filter(Boolean).join(" · ");
}

/**
 * @param {any} node
 * @param {number | undefined} plain
 * @param {Texts} texts
 * @returns {View}
 */
export function offView(node, plain, texts) {
  const caption = node.mode === BYPASS ? texts.bypassed : texts.neverRun;
  return { kind: "off", groups: [], gateStep: 0, saving: plainText(plain, texts), caption };
}

/**
 * @param {import("./schedule_widget.js").RunDetail} detail
 * @param {Texts} texts
 * @returns {View}
 */
export function runView(detail, texts) {
  const seconds = secondsText(detail.seconds);
  const plain = detail.was_interrupted ? null : detail.plain_seconds;
  const time = plain
    ? filled(texts.secondsBeside, { seconds, plain: secondsText(plain) })
    : filled(texts.seconds, { seconds });
  const told = detail.summary.replace(SAID_ABOVE, "").replace(/^, /, "") || texts.tallerIsMore;
  const why = detail.notes?.length ? detail.notes.join("; ") : told;
  return {
    kind: detail.was_interrupted ? "interrupted" : "run",
    groups: detail.groups,
    gateStep: detail.gate_step,
    saving: [savedText(detail.saved, texts.saved, texts), time].filter(Boolean).join(" · "),
    title: detail.groups.length ? undefined : texts.unseen,
    caption: why,
    details: [detail.summary, ...(detail.notes ?? [])].join("\n"),
  };
}

/**
 * @param {number | undefined} share 0 to 1
 * @param {string} text
 * @param {Texts} texts
 */
function savedText(share, text, texts) {
  if (share === undefined) return "";
  return percent(share) > 0 ? filled(text, { percent: percent(share) }) : texts.savedNothing;
}

/**
 * @param {number | undefined} plain
 * @param {Texts} texts
 */
function plainText(plain, texts) {
  return plain === undefined ? "" : filled(texts.plainSeconds, { plain: secondsText(plain) });
}

/** @param {number} seconds */
function secondsText(seconds) {
  return seconds.toFixed(seconds < 100 ? 1 : 0);
}

/** @param {number} share 0 to 1 */
function percent(share) {
  return Math.round(100 * share);
}
