// @ts-check
/**
 * The strip that draws a schedule: what is saved, one bar a step, a legend, the other presets, and what there is to say.
 */
import { barsOf, described, stepsOf, workShare } from "./cells.js";
import { STYLE } from "./strip_style.js";
import { filled } from "./texts.js";

/**
 * What there is to draw.
 * @typedef {object} View
 * @property {"plan" | "run" | "interrupted" | "error" | "off"} kind an error, and a node that is off, have but a caption
 * @property {import("./cells.js").Group[]} groups of steps
 * @property {number} gateStep first step behind the gate; their number where there is none
 * @property {string} [saving] what is saved, first of all
 * @property {string} [title] in place of the usual one
 * @property {string} [presets] what the others would save
 * @property {string} caption
 * @property {string} [details] more than the caption has room for
 */

/** @typedef {import("./texts.js").Texts} Texts */

export class ScheduleStrip {
  constructor() {
    this.element = document.createElement("div");
    this.element.className = "tgate-schedule";
    const root = this.element.attachShadow({ mode: "open" });
    const style = document.createElement("style");
    style.textContent = STYLE;
    this.panel = make("div", "panel");
    /** @type {HTMLElement[]} */
    this.cells = [];
    root.append(style, this.panel);
    // The editor moves it about: into a node drawn on the canvas, or into one made of HTML.
    const place = () => this.element.toggleAttribute("on-canvas", this.isOnCanvas);
    new ResizeObserver(place).observe(this.element);
  }

  get isOnCanvas() {
    return this.element.closest(".dom-widget") !== null;
  }

  /**
   * @param {View} view
   * @param {Texts} texts
   */
  draw(view, texts) {
    this.panel.className = `panel ${view.kind}`;
    const isDrawn = !["error", "off"].includes(view.kind);
    const title = isDrawn ? titleOf(view, texts) : "";
    const caption = make("div", "caption");
    if (title) caption.append(make("span", "title", title), texts.stop);
    caption.append(make("span", "rest", view.caption));
    caption.title = [title, view.details ?? view.caption].filter(Boolean).join(texts.stop);
    const parts = isDrawn ? [heading(view, texts), bars(view, texts), legend(view, texts)] : [];
    if (!isDrawn && view.saving) parts.push(make("div", "saving", view.saving));
    if (view.presets) parts.push(hinted("presets", view.presets));
    this.panel.replaceChildren(...parts, caption);
    this.cells = [...this.panel.querySelectorAll(".cell")];
  }

  /**
   * Mark the step at work; none where the run is not of as many steps as are drawn.
   * @param {number} step from 0; -1 for none
   * @param {number} steps of the run
   */
  mark(step, steps) {
    let first = 0;
    const counts = this.cells.map((cell) => Number(cell.style.flexGrow));
    const isOurs = counts.reduce((sum, count) => sum + count, 0) === steps;
    this.cells.forEach((cell, index) => {
      const isAtWork = isOurs && first <= step && step < first + counts[index];
      cell.classList.toggle("working", isAtWork);
      if (isAtWork) cell.setAttribute("aria-current", "step");
      else cell.removeAttribute("aria-current");
      first += counts[index];
    });
  }
}

/**
 * A line that shows under the pointer what it has no room for.
 * @param {string} name
 * @param {string} text
 */
function hinted(name, text) {
  const line = make("div", name, text);
  line.title = text;
  return line;
}

/**
 * @param {View} view
 * @param {Texts} texts
 */
function heading(view, texts) {
  const head = make("div", "head");
  head.append(make("span", `tag ${view.kind}`, texts[view.kind]), make("span", "saving", view.saving ?? ""));
  return head;
}

/**
 * What is said of a run without a gate: how many of its steps are predicted, if any.
 * @param {any[]} groups
 * @param {number} steps
 * @param {import("./texts.js").Texts} texts
 */
function withoutGate(groups, steps, texts) {
  const predicted = groups.reduce((sum, group) => sum + (group.predicted ? group.count : 0), 0);
  return predicted ? filled(texts.predictedOf, { predicted, steps }) : filled(texts.noGate, { steps });
}

/**
 * @param {View} view
 * @param {Texts} texts
 */
function titleOf({ groups, gateStep, title }, texts) {
  if (title) return title;
  const steps = stepsOf(groups);
  if (gateStep >= steps) return withoutGate(groups, steps, texts);
  return filled(gateStep === 0 ? texts.gateAtOnce : texts.gate, { gate: gateStep, steps });
}

/**
 * @param {View} view
 * @param {Texts} texts
 */
function bars(view, texts) {
  const steps = stepsOf(view.groups);
  const row = make("div", steps > 60 ? "cells many" : "cells");
  row.setAttribute("role", "list");
  row.setAttribute("aria-label", filled(texts.stripLabel, { title: titleOf(view, texts) }));
  for (const one of barsOf(view.groups, view.gateStep)) {
    if (one.first === view.gateStep) row.append(gateMark(texts));
    row.append(bar(one, view, texts));
  }
  return row;
}

/**
 * @param {import("./cells.js").Bar} one
 * @param {View} view
 * @param {Texts} texts
 */
function bar(one, view, texts) {
  const description = described(one, stepsOf(view.groups), phaseText(one.group, view, texts), texts);
  const cell = make("div", `cell ${looks(one.group).join(" ")}`);
  cell.setAttribute("role", "listitem");
  cell.setAttribute("aria-label", description);
  cell.title = description;
  cell.style.flexGrow = String(one.count);
  const filling = make("div", "bar");
  filling.style.height = `${Math.round(100 * workShare(one.group))}%`;
  cell.append(filling);
  return cell;
}

/**
 * What the part of the run is called that steps are in. Without a gate there is but one, and nothing is planned in it.
 * @param {import("./cells.js").Group} group
 * @param {View} view
 * @param {Texts} texts
 */
function phaseText({ phase }, { groups, gateStep }, texts) {
  return phase === "planning" && gateStep >= stepsOf(groups) ? texts.computed : texts[phase];
}

/** @param {Texts} texts */
function gateMark(texts) {
  const mark = make("div", "gate");
  mark.title = texts.gateMark;
  mark.setAttribute("role", "listitem");
  mark.setAttribute("aria-label", texts.gateMark);
  return mark;
}

/**
 * The looks that occur in the view, each with its name.
 * @param {View} view
 * @param {Texts} texts
 */
function legend(view, texts) {
  const row = make("div", "legend");
  row.title = texts.tallerIsMore;
  const whole = view.gateStep >= stepsOf(view.groups) ? "computed" : "planning";
  const names = { planning: whole, reused: "reusedShort", fidelity: "fidelity", refresh: "refreshShort", protected: "protected" };
  const rare = { shallow: "shallowShort", predicted: "predictedShort", skipped: "skipped" };
  const seen = new Set(view.groups.flatMap(looks));
  for (const [look, name] of Object.entries({ ...names, ...rare })) {
    if (!seen.has(look)) continue;
    const swatch = make("span", `swatch ${look === "reused" || look === "shallow" ? "planning " : ""}${look}`);
    const filling = make("div", "bar");
    filling.style.height = { reused: "75%", fidelity: "50%", shallow: "60%" }[look] ?? "100%";
    swatch.append(filling);
    const key = make("span", "key");
    key.append(swatch, make("span", "", texts[name]));
    row.append(key);
  }
  return row;
}

/**
 * The classes of a bar.
 * @param {import("./cells.js").Group} group
 * @returns {string[]}
 */
function looks(group) {
  if (!group.ran) return ["skipped"];
  if (group.predicted) return ["predicted"];
  return [group.phase, group.self_reused > 0 ? "reused" : "", group.shallow ? "shallow" : ""].filter(Boolean);
}

/**
 * @param {string} tag
 * @param {string} className
 * @param {string} [text]
 */
function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
