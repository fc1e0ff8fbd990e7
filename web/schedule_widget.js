// @ts-check
/**
 * The strip of one node: asks the server what the settings will do, and shows what a run really did.
 */
import { isOff, samplerOf } from "./graph.js";
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
 * @property {string} [family]
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
 * @property {() => void} unstamp once it is
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
    const height = () => (this.editor.isShown() ? STRIP_HEIGHT + 2 * MARGIN : 0);
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
    this.widget.afterQueued = () => editor.unstamp();
    this.widget.hidden = !editor.isShown();
    // On the canvas, a wheel turned over the strip still zooms; nodes made of HTML see to that themselves.
    this.strip.element.addEventListener("wheel", (event) => {
      if (this.strip.isOnCanvas) editor.zoom(event);
    });
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
    if (shownFor === this.shownFor) return;
    this.shownFor = shownFor;
    this.isRun = false;
    const plain = this.plainSeconds();
    if (isOff(this.node)) {
      this.show((texts) => offView(this.node, plain, texts));
      return;
    }
    const answer = await this.ask(query);
    // Meanwhile something newer may have been asked, or a run may have ended.
    if (this.shownFor === shownFor) this.show((texts) => planView(answer, { sampling, plain }, this.node, texts));
  }

  /** How long the run takes without our nodes; undefined where that is not known. */
  plainSeconds() {
    return plainSeconds(runKey(samplerOf(this.node)));
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
    if (detail.family) rememberFamily(this.node, detail.family);
    this.shownFor = this.subject().shownFor;
    this.isRun = true;
    // Where the plain sampler is in the same graph, it may only have been timed since.
    this.show((texts) => runView({ ...detail, plain_seconds: detail.plain_seconds ?? this.plainSeconds() }, texts));
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
