// @ts-check
/**
 * The pack in the editor: a strip under TGATE Apply and TGATE Apply (Advanced) that draws their schedule.
 */
// @ts-ignore: the editor serves it
import { api } from "../../scripts/api.js";
// @ts-ignore: the editor serves it
import { app } from "../../scripts/app.js";
import { allNodes, nodeById, samplerOf } from "./graph.js";
import { stamp, unstamp } from "./plain_runs.js";
import { RunWatch } from "./run_watch.js";
import { isOurs } from "./schedule_query.js";
import { NODE_WIDTH, ScheduleWidget } from "./schedule_widget.js";
import { choicesOf, DEFAULT_PRESET, LOG_LINE, SHOW_STRIP, settingsFor } from "./settings.js";
import { orderTemplates } from "./templates.js";
import { textsFor } from "./texts.js";

const PRESET_NODE = "TGATEApply";
const ADVANCED_NODE = "TGATEApplyAdvanced";
const LOCALE = "Comfy.Locale";
const HTML_NODES = "Comfy.VueNodes.Enabled";
/** What a widget takes of a node that is drawn, in pixels of the graph. */
const WIDGET_ROW = 24;

/** @type {WeakMap<object, ScheduleWidget>} */
const strips = new WeakMap();
const setting = (/** @type {string} */ name) =>
  app.extensionManager?.setting?.get(name) ?? app.ui?.settings?.getSettingValue(name);
/** @type {import("./schedule_widget.js").Editor} */
const editor = {
  fetch: (path) => api.fetchApi(path),
  zoom: (event) => app.canvas.processMouseWheel(event),
  texts: () => textsFor(setting(LOCALE)),
  isShown: () => setting(SHOW_STRIP) !== false,
  // The graph is written down before anything else runs; then nobody is to find it changed.
  stamp: () => {
    stamp(root(), setting(LOG_LINE) !== false);
    queueMicrotask(() => unstamp(root()));
  },
};
/** @type {import("./settings.js").Choices} */
let presets = { options: [], default: undefined };
let isReady = false;
/** The pack's, as the server calls it. */
const folder = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2) ?? "");
const watch = new RunWatch((path) => api.fetchApi(path));

const root = () => app.rootGraph ?? app.graph;

/** @returns {ScheduleWidget[]} */
const shown = () =>
  allNodes(root())
    .map((node) => strips.get(node))
    .filter((strip) => strip !== undefined);

const refreshAll = () => shown().forEach((strip) => strip.refreshSoon());

/**
 * Run `after` behind a callback that others may have set.
 * @param {any} owner
 * @param {string} name
 * @param {(...given: any[]) => void} after
 */
function chain(owner, name, after) {
  const before = owner[name];
  owner[name] = function (/** @type {any[]} */ ...given) {
    const result = before?.apply(this, given);
    after(...given);
    return result;
  };
}

/** @param {any} node */
function addStrip(node) {
  const strip = new ScheduleWidget(node, editor);
  strips.set(node, strip);
  const refresh = () => strip.refreshSoon();
  for (const widget of node.widgets) if (widget !== strip.widget) chain(widget, "callback", refresh);
  for (const event of ["onAdded", "onConfigure", "onConnectionsChange"]) chain(node, event, refresh);
  fit(node);
}

/**
 * Nodes made of HTML fold rare inputs away, and grow again when they are asked for.
 * @param {any} node
 */
function fit(node) {
  const [width, height] = node.computeSize();
  const isFolded = (/** @type {any} */ widget) => widget.options?.advanced && !node.showAdvanced;
  const folded = setting(HTML_NODES) ? node.widgets.filter(isFolded).length : 0;
  node.setSize([Math.max(width, NODE_WIDTH), height - folded * WIDGET_ROW]);
}

/**
 * A saved graph that is older than refreshing has no value for it, and never refreshed, which new nodes do.
 * @param {any} node
 */
function keepUnrefreshed(node) {
  const place = node.widgets.findIndex((/** @type {any} */ widget) => widget.name === "refresh");
  chain(node, "onConfigure", (/** @type {any} */ saved) => {
    if (saved?.widgets_values?.length <= place) node.widgets[place].value = "never";
  });
}

/** The user wants to see strips, or no longer does. */
function showStrips() {
  if (!isReady) return; // the editor also calls this as it starts
  for (const strip of shown()) {
    const { node } = strip;
    const before = node.computeSize()[1];
    strip.setShown(editor.isShown());
    node.setSize([node.size[0], node.size[1] + node.computeSize()[1] - before]);
    strip.renew();
  }
}

/**
 * A new node takes the preset that the user likes best; one that is loaded gets its own behind that.
 * @param {any} node
 */
function takePreset(node) {
  const widget = node.widgets?.find((/** @type {any} */ one) => one.name === "preset");
  const preset = setting(DEFAULT_PRESET);
  if (widget?.options?.values?.includes?.(preset)) widget.value = preset;
}

/**
 * A sampler has come further: its nodes' strips mark the step at work.
 * @param {CustomEvent<import("./run_watch.js").Progress>} event
 */
function onProgress({ detail }) {
  if (!detail || watch.workflowId !== root()?.id) return;
  const isTimed = watch.advance(detail);
  const sampler = nodeById(root(), detail.node);
  for (const strip of shown()) {
    if (sampler && samplerOf(strip.node) === sampler) strip.strip.mark(detail.value, detail.max);
    if (isTimed) strip.renew();
  }
}

const unmarkAll = () => shown().forEach((strip) => strip.strip.mark(-1, 0));

/**
 * A run of one of the nodes is over. Another graph, in another tab or queued by a program, may have a node of that id.
 * @param {CustomEvent<import("./schedule_widget.js").RunDetail>} event
 */
function onRun({ detail }) {
  const graph = root();
  if (!detail.workflow_id || detail.workflow_id !== graph.id) return;
  const node = nodeById(graph, detail.node_id);
  if (node) strips.get(node)?.showRun(detail);
}

app.registerExtension({
  name: "tgate.schedule",
  // Only then is the new value there.
  settings: settingsFor(() => presets, () => setTimeout(showStrips, 0)),
  beforeRegisterNodeDef(/** @type {any} */ _, /** @type {any} */ definition) {
    if (definition.name === PRESET_NODE) presets = choicesOf(definition, "preset");
  },
  setup() {
    isReady = true;
    orderTemplates(api, folder);
    api.addEventListener("tgate.run", onRun);
    api.addEventListener("execution_start", (/** @type {any} */ event) => {
      if (shown().length) void watch.begin(event.detail.prompt_id);
    });
    api.addEventListener("progress", onProgress);
    for (const end of ["execution_success", "execution_interrupted", "execution_error"]) {
      api.addEventListener(end, unmarkAll);
    }
    // Another node's widget, such as the sampler's steps.
    api.addEventListener("graphChanged", refreshAll);
    app.ui?.settings?.addEventListener?.(`${LOCALE}.change`, () => shown().forEach((strip) => strip.redraw()));
  },
  afterConfigureGraph() {
    unstamp(root()); // a picture of a queued graph has it
    refreshAll();
  },
  nodeCreated(/** @type {any} */ node) {
    if (!isOurs(node)) return;
    takePreset(node);
    if (node.comfyClass === ADVANCED_NODE) keepUnrefreshed(node);
    addStrip(node);
  },
});
