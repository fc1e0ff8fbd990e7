// @ts-check
/**
 * Follows what the server runs: the step that each sampler is at, and how long samplers take that our nodes leave alone.
 */
import { EXTRA_KEY, rememberPlain } from "./plain_runs.js";

const OURS = /^TGATE/;

/**
 * What the server says while a node works.
 * @typedef {object} Progress
 * @property {string} node
 * @property {string} prompt_id
 * @property {number} value steps that are done
 * @property {number} max
 */

/**
 * A prompt that is being run, as the server's queue has it.
 * @typedef {object} Running
 * @property {string} id
 * @property {Record<string, {class_type: string, inputs: Record<string, unknown>}>} prompt
 * @property {any} workflow
 */

export class RunWatch {
  /**
   * @param {(path: string) => Promise<Response>} fetch asks the server
   * @param {() => number} [clock] seconds
   */
  constructor(fetch, clock = () => performance.now() / 1000) {
    this.fetch = fetch;
    this.clock = clock;
    /** @type {Running | null} */
    this.running = null;
    /** @type {Map<string, {value: number, at: number}>} by sampler, its first step that was seen to end */
    this.first = new Map();
  }

  /**
   * A prompt begins: finds out which graph it is of.
   * @param {string} id
   */
  async begin(id) {
    this.running = null;
    this.first.clear();
    const running = await this.ask(id);
    if (running) this.running = running;
  }

  /** @param {string} id */
  async ask(id) {
    try {
      const queue = await (await this.fetch("/queue")).json();
      const entry = queue.queue_running.find((/** @type {any[]} */ one) => one[1] === id);
      return entry ? { id, prompt: entry[2], workflow: entry[3]?.extra_pnginfo?.workflow } : null;
    } catch {
      return null;
    }
  }

  /** The id of the graph that runs. */
  get workflowId() {
    return this.running?.workflow?.id;
  }

  /**
   * A node has come further. Returns whether a plain run was timed.
   * @param {Progress} progress
   */
  advance({ node, prompt_id, value, max }) {
    const queued = this.running?.workflow?.extra?.[EXTRA_KEY]?.runs?.[node];
    if (!queued || prompt_id !== this.running?.id) return false;
    const at = this.clock();
    const first = this.first.get(node);
    if (!first || value <= first.value) this.first.set(node, { value, at });
    else if (value === max && this.isPlain(node)) {
      // The first step is left out: the model is loaded in it.
      rememberPlain(queued.key, ((at - first.at) * max) / (max - first.value));
      return true;
    }
    return false;
  }

  /**
   * Whether none of our nodes comes before a node of the prompt.
   * @param {string} id
   */
  isPlain(id) {
    const found = [id];
    for (const one of found) {
      const { class_type, inputs } = this.running?.prompt[one] ?? { class_type: "", inputs: {} };
      if (OURS.test(class_type)) return false;
      for (const input of Object.values(inputs)) {
        if (Array.isArray(input) && !found.includes(String(input[0]))) found.push(String(input[0]));
      }
    }
    return true;
  }
}
