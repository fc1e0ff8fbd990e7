// @ts-check
/**
 * The strip of one node: asks the server what the settings will do, and shows what a run really did.
 */
import { BYPASS, isOff } from "./graph.js";
import { circumstancesOf, familyOf, isProbed, queryOf, rememberFamily, samplingOf } from "./schedule_query.js";
import { ScheduleStrip } from "./strip.js";
import { STRIP_HEIGHT } from "./strip_style.js";
import { GUIDANCE_ALONE, familyName, filled } from "./texts.js";

export const WIDGET_NAME = "tgate_schedule";
/** The least width that leaves room for the heading and the legend. */
export const NODE_WIDTH = 310;

const MARGIN = 8;
const BAD_REQUEST = 400;
/** What the heading says already. */
const SAID_ABOVE = /^gate at step \d+ of \d+; /;

/**
 * What the server sends when a run is over.
 * @typedef {object} RunDetail
 * @property {string} node_id
 * @property {string} [family]
 * @property {import("./cells.js").Group[]} groups of steps
 * @property {number} gate_step
 * @property {string} summary
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
    const height = () => STRIP_HEIGHT + 2 * MARGIN;
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
    if (isOff(this.node)) {
      this.show((texts) => offView(this.node, texts));
      return;
    }
    const view = await this.ask(query);
    // Meanwhile something newer may have been asked, or a run may have ended.
    if (this.shownFor === shownFor) this.show((texts) => planView(view, sampling, this.node, texts));
  }

  /** What a strip would be about now. */
  subject() {
    const sampling = samplingOf(this.node);
    const query = queryOf(this.node, sampling);
    return { sampling, query, shownFor: `${query} ${circumstancesOf(this.node)}` };
  }

  /**
   * Show what a run did, until a setting or the model changes.
   * @param {RunDetail} detail
   */
  showRun(detail) {
    if (isOff(this.node)) return;
    if (detail.family) rememberFamily(this.node, detail.family);
    this.shownFor = this.subject().shownFor;
    this.show((texts) => runView(detail, texts));
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

/**
 * @param {any} answer
 * @param {import("./schedule_query.js").Sampling} sampling
 * @param {any} node
 * @param {import("./texts.js").Texts} texts
 * @returns {import("./strip.js").View}
 */
function planView(answer, sampling, node, texts) {
  if (answer.error !== undefined) {
    return { kind: "error", groups: [], gateStep: 0, caption: answer.error || texts.noAnswer };
  }
  if (answer.is_measured && !isProbed(node)) {
    return { kind: "error", groups: [], gateStep: 0, caption: texts.noProbe };
  }
  const family = familyOf(node);
  const name = familyName(family);
  const remarks = [
    sampling.isKnown ? "" : filled(texts.noSampler, { steps: sampling.steps }),
    sampling.isGuided ? "" : texts.unguided,
    answer.is_approximate ? texts.approximate : "",
    answer.is_measured ? texts.measured : "",
    answer.is_by_error ? texts.byError : "",
    answer.is_assumed ? texts.assumed : "",
    family === GUIDANCE_ALONE ? texts.guidanceAlone : "",
    !answer.is_assumed && name ? filled(texts.family, { name }) : "",
  ].filter(Boolean);
  return {
    kind: "plan",
    groups: answer.groups,
    gateStep: answer.gate_step,
    title: answer.is_measured ? texts.measuredGate : undefined,
    // There is room for two.
    caption: [...remarks, ...(remarks.length < 2 ? [texts.tallerIsMore] : [])].join(" "),
  };
}

/**
 * @param {any} node
 * @param {import("./texts.js").Texts} texts
 * @returns {import("./strip.js").View}
 */
function offView(node, texts) {
  const caption = node.mode === BYPASS ? texts.bypassed : texts.neverRun;
  return { kind: "off", groups: [], gateStep: 0, caption };
}

/**
 * @param {RunDetail} detail
 * @param {import("./texts.js").Texts} texts
 * @returns {import("./strip.js").View}
 */
function runView(detail, texts) {
  const seconds = filled(texts.seconds, { seconds: detail.seconds.toFixed(1) });
  const summary = detail.summary.replace(SAID_ABOVE, "");
  return {
    kind: detail.was_interrupted ? "interrupted" : "run",
    groups: detail.groups,
    gateStep: detail.gate_step,
    title: detail.groups.length ? undefined : texts.unseen,
    caption: `${seconds}: ${summary}`,
    details: [detail.summary, ...(detail.notes ?? [])].join("\n"),
  };
}
