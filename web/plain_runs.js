// @ts-check
/**
 * How long runs took with our nodes bypassed. Kept in this browser, by all that the time of a run depends on, so that it
 * holds for the same graph whatever its seed and prompt, and for another sampler in it that does the same.
 */
import { allNodes, idOf, isOff, isSampler, savedWidgets, sourceOf, valueOf } from "./graph.js";
import { isOurs, loaderOf } from "./schedule_query.js";

/** Where a queued graph tells the server of its runs, in the graph's `extra`. */
export const EXTRA_KEY = "tgate";

const STORE = "tgate.plain_seconds";
const MOST_KEPT = 100;
const OURS = /^TGATE/;
/** Settings that change the picture and not the time. */
const FREE = /seed|(^|_)(text|prompt)|control_after_generate/i;

/**
 * @typedef {object} QueuedRun
 * @property {string} key
 * @property {number} [plain] seconds
 */

/**
 * All that the time of a sampler's run depends on but our nodes, as a short text; "" for no sampler.
 * @param {any} node
 * @param {Map<any, string>} [known]
 * @returns {string}
 */
export function runKey(node, known = new Map()) {
  if (!node) return "";
  const before = known.get(node);
  if (before !== undefined) return before;
  known.set(node, "");
  const key = OURS.test(node.type) ? runKey(sourceOf(node, "model")?.node, known) : hash(JSON.stringify(makeup(node, known)));
  known.set(node, key);
  return key;
}

/**
 * A node's type, its settings, and what comes into it.
 * @param {any} node
 * @param {Map<any, string>} known
 */
function makeup(node, known) {
  const names = savedWidgets(node)
    .map((widget) => widget.name)
    .filter((name) => !FREE.test(name));
  const settings = names.map((name) => [name, valueOf(node, name)]);
  const inputs = (node.inputs ?? []).filter((/** @type {any} */ input) => !FREE.test(input.name) && !names.includes(input.name));
  const sources = inputs.map((/** @type {any} */ input) => [input.name, runKey(sourceOf(node, input.name)?.node, known)]);
  return [node.type, isOff(node), settings, sources];
}

/**
 * Seconds of the plain run of this key; undefined where none is known.
 * @param {string} key
 * @returns {number | undefined}
 */
export function plainSeconds(key) {
  return key ? stored()[key] : undefined;
}

/**
 * @param {string} key
 * @param {number} seconds
 */
export function rememberPlain(key, seconds) {
  const { [key]: _, ...others } = stored();
  const kept = Object.entries(others).slice(1 - MOST_KEPT);
  try {
    localStorage.setItem(STORE, JSON.stringify(Object.fromEntries([...kept, [key, seconds]])));
  } catch {
    // A browser that keeps nothing: runs are shown without the plain one.
  }
}

/**
 * Before a graph is queued: says in its `extra` what its samplers' runs are, and what loads the models of our nodes.
 * `unstamp` takes it back once it is.
 * @param {any} root
 * @param {boolean} isLogged whether the server's log is to have a line on each run
 */
export function stamp(root, isLogged) {
  /** @type {Record<string, QueuedRun>} */
  const runs = {};
  for (const node of allNodes(root).filter(isSampler)) {
    const key = runKey(node);
    runs[idOf(node)] = { key, plain: plainSeconds(key) };
  }
  const loaders = Object.fromEntries(allNodes(root).filter(isOurs).map((node) => [idOf(node), loaderOf(node)]));
  root.extra = { ...root.extra, [EXTRA_KEY]: { runs, loaders, log: isLogged } };
}

/** @param {any} root */
export function unstamp(root) {
  if (root?.extra) delete root.extra[EXTRA_KEY];
}

/** @returns {Record<string, number>} */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORE) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/**
 * A text of 11 characters that tells texts apart (two FNV-1a hashes of 32 bits).
 * @param {string} text
 */
function hash(text) {
  let [one, two] = [0x811c9dc5, 0x01000193];
  for (let index = 0; index < text.length; index += 1) {
    one = Math.imul(one ^ text.charCodeAt(index), 0x01000193) >>> 0;
    two = Math.imul(two ^ text.charCodeAt(text.length - 1 - index), 0x01000193) >>> 0;
  }
  return one.toString(36) + two.toString(36);
}
