// @ts-check
/**
 * What the server is asked for a node: its settings, and the run of the sampler that its model reaches.
 */
import { BYPASS, isOff, modelSources, samplerOf, savedWidgets, sourceOf, valueOf } from "./graph.js";

/** Steps of a run that nothing is known of. */
export const USUAL_STEPS = 25;
/** Where the family of a node's model is remembered between runs, and of which loader it is. */
const FAMILY_PROPERTY = "tgate_family";
const LOADER_PROPERTY = "tgate_family_of";
/** What loaders call a model's file, and the host its kind. */
const FILE_KINDS = Object.entries({ ckpt_name: "checkpoints", unet_name: "diffusion_models" });
/** Gives a probe that runs have still to fill. */
const EMPTY_PROBE = "TGATEProbe";
/** Nodes that give a model other noise levels than its family's. */
const OTHER_LEVELS = /^ModelSampling/;
/** Nodes that change noise levels and not their number. */
const SAME_STEPS = ["FlipSigmas", "SetFirstSigma"];
/** What the host's nodes that give a solver and nothing else call it; one of another pack is none that it knows. */
const SOLVERS = {
  SamplerDPMAdaptative: "dpm_adaptive",
  SamplerDPMPP_2M_SDE: "dpmpp_2m_sde",
  SamplerDPMPP_2S_Ancestral: "dpmpp_2s_ancestral",
  SamplerDPMPP_3M_SDE: "dpmpp_3m_sde",
  SamplerDPMPP_SDE: "dpmpp_sde",
  SamplerER_SDE: "er_sde",
  SamplerEulerAncestral: "euler_ancestral",
  SamplerEulerAncestralCFGPP: "euler_ancestral_cfg_pp",
  SamplerEulerCFGpp: "euler_cfg_pp",
  SamplerLMS: "lms",
};
/** The host samples nothing at 0. */
const LEAST_DENOISE = 0.001;

/**
 * The run that a schedule is shown for.
 * @typedef {object} Sampling
 * @property {number} steps
 * @property {boolean} isGuided
 * @property {number} denoise
 * @property {number} endsAt share of the noise schedule at which it ends
 * @property {string | undefined} solver the sampler's name, where it is known
 * @property {string | undefined} scheduler the name of what makes its noise levels, where it is known
 * @property {boolean} isCustom whether a node of its own makes them, not the sampler
 * @property {boolean} hasSampler whether the model reaches a sampler
 * @property {boolean} isKnown whether its steps can be read
 */

/** @type {Readonly<Sampling>} */
const UNKNOWN = {
  steps: USUAL_STEPS,
  isGuided: true,
  denoise: 1,
  endsAt: 1,
  solver: undefined,
  scheduler: undefined,
  isCustom: false,
  hasSampler: false,
  isKnown: false,
};

/**
 * The query of `GET /tgate/schedule`. The same text means the same schedule.
 * @param {any} node
 * @param {Sampling} sampling
 * @returns {string}
 */
export function queryOf(node, sampling) {
  const query = new URLSearchParams({ node: node.comfyClass });
  for (const widget of savedWidgets(node)) query.set(widget.name, String(valueOf(node, widget.name) ?? widget.value));
  query.set("steps", String(sampling.steps));
  query.set("guided", sampling.isGuided ? "1" : "0");
  query.set("denoise", String(sampling.denoise));
  query.set("ends_at", String(sampling.endsAt));
  if (sampling.solver) query.set("sampler", sampling.solver);
  if (sampling.scheduler) {
    query.set("scheduler", sampling.scheduler);
    query.set("custom_sigmas", sampling.isCustom ? "1" : "0");
  }
  const family = familyOf(node);
  const file = modelFile(node);
  if (family) query.set("family", String(family));
  else if (file) query.set(file.kind, file.name);
  return query.toString();
}

/**
 * What else a strip is about, beside what the server is asked: whether the node is on, what measures its gate, and where
 * its model comes from. The same text means the same.
 * @param {any} node
 * @returns {string}
 */
export function circumstancesOf(node) {
  const model = modelSources(node).map((source) => [source.id, source.mode, ...settingsOf(source)]);
  return JSON.stringify([node.mode, isProbed(node), samplerOf(node) !== null, unreadable(node), model]);
}

/** @param {any} node */
export function isOurs(node) {
  return ["TGATEApply", "TGATEApplyAdvanced"].includes(node.comfyClass);
}

/**
 * The settings of a node that come from a link, and that a run alone can tell.
 * @param {any} node
 * @returns {string[]}
 */
export function unreadable(node) {
  const names = savedWidgets(node).map((widget) => widget.name);
  return names.filter((name) => sourceOf(node, name) !== null && valueOf(node, name) === undefined);
}

/**
 * Whether a measurement is connected that is there when the node runs.
 * @param {any} node
 */
export function isProbed(node) {
  const source = sourceOf(node, "probe");
  return source !== null && source.node.type !== EMPTY_PROBE;
}

/**
 * The family of the node's model, as a run told it of the loader that is connected now.
 * @param {any} node
 * @returns {string | undefined}
 */
export function familyOf(node) {
  return node.properties?.[LOADER_PROPERTY] === loaderOf(node) ? node.properties?.[FAMILY_PROPERTY] : undefined;
}

/**
 * The file that the node's model is loaded from, as far as the graph tells.
 * @param {any} node
 * @returns {{kind: string, name: string} | undefined}
 */
function modelFile(node) {
  for (const loader of modelSources(node).filter((source) => !isOff(source))) {
    for (const [widget, kind] of FILE_KINDS) {
      const name = valueOf(loader, widget);
      if (typeof name === "string") return { kind, name };
    }
  }
  return undefined;
}

/**
 * Remember what a run told of the node's model.
 * @param {any} node
 * @param {string} family
 * @param {string | null} [loader] what loaded it in that run; by itself what is connected now
 */
export function rememberFamily(node, family, loader) {
  if (!node.properties) return;
  node.properties[FAMILY_PROPERTY] = family;
  node.properties[LOADER_PROPERTY] = loader ?? loaderOf(node);
}

/**
 * What loads the node's model.
 * @param {any} node
 * @returns {string}
 */
export function loaderOf(node) {
  return JSON.stringify(modelSources(node).filter((source) => modelSources(source).length === 0).map(settingsOf));
}

/**
 * A node's type and the values of its widgets.
 * @param {any} node
 * @returns {unknown[]}
 */
function settingsOf(node) {
  return [node.type, ...savedWidgets(node).map((widget) => valueOf(node, widget.name) ?? widget.value)];
}

/**
 * The run of the sampler that a node's model reaches.
 * @param {any} node
 * @returns {Sampling}
 */
export function samplingOf(node) {
  const sampler = samplerOf(node);
  const scheduled = sampler && stepsSource(sampler);
  const steps = scheduled ? number(scheduled, "steps") : undefined;
  if (!sampler) return UNKNOWN;
  const known = { hasSampler: true, isGuided: isGuided(sampler), solver: solverOf(sampler) };
  if (!scheduled || steps === undefined || steps < 1) return { ...UNKNOWN, ...known };
  const begin = Math.min(number(sampler, "start_at_step") ?? 0, steps - 1);
  const end = Math.min(Math.max(number(sampler, "end_at_step") ?? steps, begin + 1), steps);
  const denoise = number(scheduled, "denoise") ?? 1 - begin / steps;
  return {
    ...known,
    steps: end - begin,
    denoise: Math.min(Math.max(denoise, LEAST_DENOISE), 1),
    endsAt: end / steps,
    scheduler: schedulerOf(sampler, scheduled),
    isCustom: scheduled !== sampler,
    isKnown: true,
  };
}

/**
 * The node that sets the steps: the sampler, or the scheduler that its sigmas come from; undefined where a node between
 * gives another number of them.
 * @param {any} sampler
 */
function stepsSource(sampler) {
  if (number(sampler, "steps") !== undefined) return sampler;
  const seen = new Set();
  let node = sourceOf(sampler, "sigmas")?.node;
  while (node && !seen.has(node) && (node.mode === BYPASS || SAME_STEPS.includes(node.type))) {
    seen.add(node);
    node = sourceOf(node, "sigmas")?.node;
  }
  const isFirst = node && !sourceOf(node, "sigmas") && number(node, "steps") !== undefined;
  return isFirst ? node : undefined;
}

/**
 * The host's name of the scheduler; undefined where another node has a hand in the noise levels.
 * @param {any} sampler
 * @param {any} scheduled the node that sets the steps
 * @returns {string | undefined}
 */
function schedulerOf(sampler, scheduled) {
  const isDirect = scheduled === sampler || sourceOf(sampler, "sigmas")?.node === scheduled;
  const isChanged = modelSources(scheduled).some((source) => !isOff(source) && OTHER_LEVELS.test(source.type));
  const name = valueOf(scheduled, "scheduler");
  return isDirect && !isChanged && typeof name === "string" ? name : undefined;
}

/**
 * The host's name of what a sampler solves with: its own, or that of the node that its solver comes from.
 * @param {any} sampler
 * @returns {string | undefined}
 */
function solverOf(sampler) {
  const source = sourceOf(sampler, "sampler")?.node;
  const name = valueOf(sampler, "sampler_name") ?? (source && (valueOf(source, "sampler_name") ?? SOLVERS[source.type] ?? source.type));
  return typeof name === "string" ? name : undefined;
}

/**
 * Whether a sampler runs both guidance passes, as far as the graph tells.
 * @param {any} sampler
 */
function isGuided(sampler) {
  const guider = sourceOf(sampler, "guider")?.node;
  if (guider?.type === "BasicGuider") return false;
  if (solverOf(sampler)?.endsWith("_cfg_pp")) return true;
  return (number(guider ?? sampler, "cfg") ?? number(sampler, "cfg")) !== 1;
}

/**
 * @param {any} node
 * @param {string} name
 * @returns {number | undefined}
 */
function number(node, name) {
  const value = valueOf(node, name);
  return typeof value === "number" ? value : undefined;
}
