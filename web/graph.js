// @ts-check
/**
 * Reading the editor's graph: which nodes a link reaches, through bypassed nodes, reroutes and subgraphs, and what a
 * node's input is set to. Nothing here changes it.
 *
 * @typedef {any} Graph litegraph's LGraph or Subgraph
 * @typedef {any} GraphNode litegraph's LGraphNode
 */

const NEVER = 2;
export const BYPASS = 4;
/** Ids of the two nodes by which a subgraph meets the outside. */
const SUBGRAPH_INPUT = "-10";
const SUBGRAPH_OUTPUT = "-20";
/** Nodes whose one widget is the value of their output. */
const VALUE_NODE = /^Primitive/;
/** Nodes that hand on a value under a name, from one to all others. */
const [SET, GET] = ["SetNode", "GetNode"];
/** What leads from a model to its sampler. */
const CARRIERS = ["MODEL", "GUIDER"];

/**
 * All nodes, those inside of subgraphs too.
 * @param {Graph} root
 * @returns {GraphNode[]}
 */
export function allNodes(root) {
  const subgraphs = root?.subgraphs ? [...root.subgraphs.values()] : [];
  return [root, ...subgraphs].flatMap((graph) => graph?.nodes ?? []);
}

/**
 * The node that the server knows by this id: "12", or "5:12" for node 12 in the subgraph of node 5.
 * @param {Graph} root
 * @param {string} id
 * @returns {GraphNode | null}
 */
export function nodeById(root, id) {
  const path = String(id).split(":");
  const name = path.pop();
  const graph = path.reduce((outer, host) => outer && findNode(outer, host)?.subgraph, root);
  return (graph && findNode(graph, name)) ?? null;
}

/**
 * What the server calls a node, see `nodeById`.
 * @param {GraphNode} node
 * @returns {string}
 */
export function idOf(node) {
  const [host] = hostsOf(node.graph);
  return host ? `${idOf(host)}:${node.id}` : String(node.id);
}

/**
 * The sampler that a node's model reaches first; null where there is none.
 * @param {GraphNode} node
 * @returns {GraphNode | null}
 */
export function samplerOf(node) {
  const queue = [node];
  for (const current of queue) {
    for (const next of followers(current)) {
      if (next.mode !== BYPASS && isSampler(next)) return next;
      if (!queue.includes(next)) queue.push(next);
    }
  }
  return null;
}

/**
 * The nodes that a node's model comes through, nearest first; the last ones load it.
 * @param {GraphNode} node
 * @returns {GraphNode[]}
 */
export function modelSources(node) {
  const queue = [node];
  for (const current of queue) {
    for (const input of current.inputs ?? []) {
      const source = input.type === "MODEL" ? sourceOf(current, input.name)?.node : null;
      if (source && !queue.includes(source)) queue.push(source);
    }
  }
  return queue.slice(1);
}

/**
 * Whether a node does nothing: bypassed, or never run.
 * @param {GraphNode} node
 */
export function isOff(node) {
  return node.mode === BYPASS || node.mode === NEVER;
}

/**
 * What an input of a node is set to, by its own widget or by a value node; undefined where a run alone can tell.
 * @param {GraphNode} node
 * @param {string} name
 * @returns {unknown}
 */
export function valueOf(node, name) {
  const source = sourceOf(node, name);
  if (source === null) return widgetOf(node, name)?.value;
  if (source.widget !== null) return widgetOf(source.node, source.widget)?.value;
  return VALUE_NODE.test(source.node.type) ? source.node.widgets?.[0]?.value : undefined;
}

/**
 * Where the link into an input comes from; null where nothing is connected.
 * `widget` names the widget of a subgraph's node that stands for the input, and is null for a node's output.
 * @param {GraphNode} node
 * @param {string} name
 * @returns {{node: GraphNode, widget: string | null} | null}
 */
export function sourceOf(node, name) {
  const input = node.inputs?.find((/** @type {any} */ slot) => slot.name === name);
  return input?.link == null ? null : origin(node.graph, input.link);
}

/**
 * @param {GraphNode} node
 * @param {string} name
 */
function widgetOf(node, name) {
  return node.widgets?.find((/** @type {any} */ widget) => widget.name === name);
}

/**
 * The widgets whose values are saved.
 * @param {GraphNode} node
 * @returns {any[]}
 */
export function savedWidgets(node) {
  return (node.widgets ?? []).filter((/** @type {any} */ widget) => widget.serialize !== false);
}

/** @param {GraphNode} node */
export function isSampler(node) {
  const gives = (node.outputs ?? []).map((/** @type {any} */ output) => output.type);
  return gives.includes("LATENT") || Boolean(widgetOf(node, "steps") && widgetOf(node, "cfg"));
}

/**
 * The nodes that are given a node's model, or a guider with it.
 * @param {GraphNode} node
 * @returns {GraphNode[]}
 */
function followers(node) {
  if (node.type === SET) return [...namesakes(node, GET), ...everyTarget(node)];
  return (node.outputs ?? []).flatMap((/** @type {any} */ output, /** @type {number} */ slot) =>
    CARRIERS.includes(output.type) || node.isVirtualNode ? targets(node, slot) : [],
  );
}

/**
 * @param {GraphNode} node
 * @returns {GraphNode[]}
 */
function everyTarget(node) {
  return (node.outputs ?? []).flatMap((/** @type {any} */ _, /** @type {number} */ slot) => targets(node, slot));
}

/**
 * Nodes of another pack that carry what a link would, from one to all others of the same name.
 * @param {GraphNode} node
 * @param {string} type of those to find
 * @returns {GraphNode[]}
 */
function namesakes(node, type) {
  const name = node.widgets?.[0]?.value;
  return (node.graph?.nodes ?? []).filter((/** @type {any} */ one) => one.type === type && one.widgets?.[0]?.value === name);
}

/**
 * @param {GraphNode} node
 * @param {number} slot of its outputs
 * @returns {GraphNode[]}
 */
function targets(node, slot) {
  const ids = node.outputs?.[slot]?.links ?? [];
  return ids.flatMap((/** @type {any} */ id) => destinations(node.graph, id));
}

/**
 * Where a link ends: one node, or those behind it where it leads into or out of a subgraph.
 * @param {Graph} graph
 * @param {any} id
 * @returns {GraphNode[]}
 */
function destinations(graph, id) {
  const link = linkById(graph, id);
  if (!link) return [];
  if (String(link.target_id) === SUBGRAPH_OUTPUT) {
    return hostsOf(graph).flatMap((host) => targets(host, link.target_slot));
  }
  const target = findNode(graph, link.target_id);
  if (!target || target.mode === NEVER) return [];
  if (!target.subgraph || target.mode === BYPASS) return [target];
  const inner = target.subgraph.inputs?.[link.target_slot]?.linkIds ?? [];
  return inner.flatMap((/** @type {any} */ innerId) => destinations(target.subgraph, innerId));
}

/**
 * Where a link begins, see `sourceOf`.
 * @param {Graph} graph
 * @param {any} id
 * @returns {{node: GraphNode, widget: string | null} | null}
 */
function origin(graph, id) {
  const link = linkById(graph, id);
  if (!link) return null;
  if (String(link.origin_id) === SUBGRAPH_INPUT) {
    const [host] = hostsOf(graph);
    const input = host?.inputs?.[link.origin_slot];
    if (!input) return null;
    return input.link == null ? { node: host, widget: input.name } : origin(host.graph, input.link);
  }
  const node = findNode(graph, link.origin_id);
  if (!node) return null;
  const inner = node.subgraph?.outputs?.[link.origin_slot]?.linkIds?.[0];
  if (inner !== undefined) return origin(node.subgraph, inner);
  const carrier = node.type === GET ? namesakes(node, SET)[0] : node;
  const before = node.isVirtualNode ? carrier?.inputs?.[0]?.link : null;
  return before == null ? { node, widget: null } : origin(graph, before);
}

/**
 * The nodes that stand for a subgraph.
 * @param {Graph} subgraph
 * @returns {GraphNode[]}
 */
function hostsOf(subgraph) {
  return allNodes(subgraph.rootGraph).filter((node) => node.subgraph === subgraph);
}

/**
 * Ids are numbers or texts, as the editor's version has it.
 * @param {Graph} graph
 * @param {any} id
 */
function findNode(graph, id) {
  return graph.nodes?.find((/** @type {any} */ node) => String(node.id) === String(id));
}

/**
 * @param {Graph} graph
 * @param {any} id
 */
function linkById(graph, id) {
  return graph.getLink?.(id) ?? graph.links?.get?.(id) ?? graph.links?.[id];
}
