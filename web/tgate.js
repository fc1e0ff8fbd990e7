// @ts-check
/**
 * The pack in the editor: a strip under TGATE Apply and TGATE Apply (Advanced) that draws their schedule.
 */
// @ts-ignore: the editor serves it
import { api } from "../../scripts/api.js";
// @ts-ignore: the editor serves it
import { app } from "../../scripts/app.js";
import { allNodes, nodeById } from "./graph.js";
import { NODE_WIDTH, ScheduleWidget } from "./schedule_widget.js";
import { textsFor } from "./texts.js";

const NODES = ["TGATEApply", "TGATEApplyAdvanced"];
const LOCALE = "Comfy.Locale";

/** @type {WeakMap<object, ScheduleWidget>} */
const strips = new WeakMap();
/** @type {import("./schedule_widget.js").Editor} */
const editor = {
  fetch: (path) => api.fetchApi(path),
  zoom: (event) => app.canvas.processMouseWheel(event),
  texts: () => textsFor(app.extensionManager?.setting?.get(LOCALE) ?? app.ui?.settings?.getSettingValue(LOCALE)),
};

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
 * @param {() => void} after
 */
function chain(owner, name, after) {
  const before = owner[name];
  owner[name] = function (/** @type {any[]} */ ...given) {
    const result = before?.apply(this, given);
    after();
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
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, NODE_WIDTH), height]);
}

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
  setup() {
    api.addEventListener("tgate.run", onRun);
    // Another node's widget, such as the sampler's steps.
    api.addEventListener("graphChanged", refreshAll);
    app.ui?.settings?.addEventListener?.(`${LOCALE}.change`, () => shown().forEach((strip) => strip.redraw()));
  },
  afterConfigureGraph: refreshAll,
  nodeCreated(/** @type {any} */ node) {
    if (NODES.includes(node.comfyClass)) addStrip(node);
  },
});
