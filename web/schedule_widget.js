// @ts-check
/**
 * The strip of one node: asks the server what the settings will do, and shows what a run really did.
 */
import { isOff, nodeById, samplerOf } from "./graph.js";
import { plainSeconds, runKey } from "./plain_runs.js";
import { circumstancesOf, queryOf, rememberFamily, samplingOf } from "./schedule_query.js";
import { ScheduleStrip } from "./strip.js";
import { STRIP_HEIGHT } from "./strip_style.js";
import { offView, planView, runView } from "./views.js";

export const WIDGET_NAME = "tgate_schedule";
/** The least width that leaves room for the heading and the legend. */
export const NODE_WIDTH = 340;

const MARGIN = 8;
const BAD_REQUEST = 400;

/**
 * What the server sends when a run is over.
 * @typedef {object} RunDetail
 * @property {string} node_id
 * @property {string} [sampler_id]
 * @property {string} [family]
 * @property {string | null} [loader] what loaded its model, see `loaderOf`
 * @property {import("./cells.js").Group[]} groups of steps
 * @property {number} gate_step
 * @property {string} summary
 * @property {number} saved share of the plain run's work, 0 to 1
 * @property {number | null} [plain_seconds] of the same graph without our nodes
 * @property {string[]} notes
 * @property {number} seconds
 * @property {boolean} was_interrupted
 * @property {string | null} [workflow_id]
 */

/**
 * The editor as a strip sees it.
 * @typedef {object} Editor
 * @property {(path: string) => Promise<Response>} fetch asks the server
 * @property {() => import("./texts.js").Texts} texts of the language at hand
 * @property {(event: WheelEvent) => void} zoom what the canvas does when a wheel is turned over it
 * @property {() => boolean} isShown whether the user wants to see strips
 * @property {() => void} stamp before the graph is queued
 */

export class ScheduleWidget {
  /**
   * @param {any} node
   * @param {Editor} editor
   */
  constructor(node, editor) {
    this.node = node;
    this.editor = editor;
    this.strip = new ScheduleStrip();
    /** What is shown now is about these settings, this sampler and this model. */
    this.shownFor = "";
    /** Draws what is shown now again, in whatever language is set by then. */
    this.redraw = () => {};
    this.isDue = false;
    this.isRun = false;
    /** @type {Promise<any>} the last question, once it is answered */
    this.asking = Promise.resolve();
    /** @type {number | undefined} seconds of the plain run */
    this.plain = undefined;
    this.isShown = editor.isShown();
    const height = () => (this.isShown ? STRIP_HEIGHT + 2 * MARGIN : 0);
    this.widget = node.addDOMWidget(WIDGET_NAME, WIDGET_NAME, this.strip.element, {
      serialize: false,
      hideInPanel: true,
      hideOnZoom: false,
      margin: MARGIN,
      getMinHeight: height,
      getMaxHeight: height,
      getValue: () => "",
      setValue: () => {},
    });
    // The options keep it out of prompts, this out of saved graphs.
    this.widget.serialize = false;
    this.widget.beforeQueued = () => editor.stamp();
    this.setShown(this.isShown);
    // On the canvas, a wheel turned over the strip still zooms; nodes made of HTML see to that themselves.
    this.strip.element.addEventListener("wheel", (event) => {
      if (this.strip.isOnCanvas) editor.zoom(event);
    });
  }

  /**
   * The widget is there, or it is not: the option is for nodes made of HTML, which look at it when they are drawn.
   * @param {boolean} isShown
   */
  setShown(isShown) {
    this.isShown = isShown;
    this.widget.hidden = this.widget.options.hidden = !isShown;
    this.strip.element.style.display = isShown ? "" : "none";
  }

  /** Look again at the settings, once what is going on now is done: a graph is loaded piece by piece. */
  refreshSoon() {
    if (this.isDue) return;
    this.isDue = true;
    setTimeout(() => {
      this.isDue = false;
      void this.refresh();
    }, 0);
  }

  /** Ask the server anew if the settings, or the run that they are for, are others than those shown. */
  async refresh() {
    if (!this.node.graph) return;
    const { sampling, query, shownFor } = this.subject();
    const [plain, before] = [this.plainSeconds(), this.plain];
    if (shownFor === this.shownFor) {
      // What the time depends on is more than what the plan does.
      this.plain = plain;
      if (plain !== before && !this.isRun) this.redraw();
      return;
    }
    Object.assign(this, { shownFor, plain, isRun: false });
    if (isOff(this.node)) {
      this.show((texts) => offView(this.node, this.plain, texts));
      return;
    }
    const answer = await this.askLast(query, shownFor);
    // Meanwhile something newer may have been asked, or a run may have ended.
    if (!answer || this.isRun || this.shownFor !== shownFor) return;
    this.show((texts) => planView(answer, { sampling, plain: this.plain }, this.node, texts));
    // A server that does not answer is asked again when anything changes.
    if (answer.error === "") this.shownFor = "";
  }

  /**
   * The answer to a query, one at a time: what nobody waits for any more is not asked, and gives null.
   * @param {string} query
   * @param {string} shownFor
   * @returns {Promise<any>}
   */
  askLast(query, shownFor) {
    this.asking = this.asking.then(() => (this.shownFor === shownFor ? this.ask(query) : null));
    return this.asking;
  }

  /**
   * How long the run takes without our nodes; undefined where that is not known.
   * @param {any} [sampler] its sampler, by itself the first that the node's model reaches
   */
  plainSeconds(sampler = samplerOf(this.node)) {
    return plainSeconds(runKey(sampler));
  }

  /** What a strip would be about now. */
  subject() {
    const sampling = samplingOf(this.node);
    const query = queryOf(this.node, sampling);
    return { sampling, query, shownFor: `${query} ${circumstancesOf(this.node)}` };
  }

  /** Say it anew: what is not among the settings has become known. */
  renew() {
    if (this.isRun) return this.redraw();
    this.shownFor = "";
    this.refreshSoon();
  }

  /**
   * Show what a run did, until a setting or the model changes.
   * @param {RunDetail} detail
   */
  showRun(detail) {
    if (isOff(this.node)) return;
    if (detail.family) rememberFamily(this.node, detail.family, detail.loader);
    this.shownFor = this.subject().shownFor;
    this.isRun = true;
    // Where the plain sampler is in the same graph, it may only have been timed since.
    const sampler = detail.sampler_id ? nodeById(this.node.graph.rootGraph ?? this.node.graph, detail.sampler_id) : undefined;
    const plain = () => detail.plain_seconds ?? this.plainSeconds(sampler ?? undefined);
    this.show((texts) => runView({ ...detail, plain_seconds: plain() }, texts));
  }

  /**
   * @param {(texts: import("./texts.js").Texts) => import("./strip.js").View} view
   */
  show(view) {
    this.redraw = () => {
      const texts = this.editor.texts();
      this.strip.draw(view(texts), texts);
    };
    this.redraw();
  }

  /**
   * The server's answer; `error` says why there is none, and is empty where the server said nothing.
   * @param {string} query
   * @returns {Promise<any>}
   */
  async ask(query) {
    try {
      const response = await this.editor.fetch(`/tgate/schedule?${query}`);
      if (response.ok) return await response.json();
      return { error: response.status === BAD_REQUEST ? (await response.json()).error : "" };
    } catch {
      return { error: "" };
    }
  }
}
