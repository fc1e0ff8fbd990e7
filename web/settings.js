// @ts-check
/**
 * The pack's settings in the editor's dialog.
 */

export const DEFAULT_PRESET = "TGATE.DefaultPreset";
export const SHOW_STRIP = "TGATE.ShowStrip";
export const LOG_LINE = "TGATE.LogLine";

/**
 * The choices of a node's input, and the one that a new node has.
 * @typedef {object} Choices
 * @property {string[]} options
 * @property {string | undefined} default
 */

/**
 * @param {any} definition of a node, as the server sends it
 * @param {string} input
 * @returns {Choices}
 */
export function choicesOf(definition, input) {
  const { options = [], default: first = options[0] } = definition.input?.required?.[input]?.[1] ?? {};
  return { options, default: first };
}

/**
 * @param {() => Choices} presets of TGATE Apply, which are known once the editor has its nodes
 * @param {() => void} onShowStrip called when strips are switched on or off
 */
export function settingsFor(presets, onShowStrip) {
  return [
    {
      id: DEFAULT_PRESET,
      name: "Preset of new TGATE Apply nodes",
      category: ["TGATE", "Nodes", "Preset"],
      type: "combo",
      // Older editors take no bare names from a function.
      options: () => presets().options.map((name) => ({ text: name, value: name })),
      defaultValue: () => presets().default,
    },
    {
      id: SHOW_STRIP,
      name: "Show the schedule under TGATE Apply",
      category: ["TGATE", "Nodes", "Schedule"],
      type: "boolean",
      defaultValue: true,
      onChange: onShowStrip,
    },
    {
      id: LOG_LINE,
      name: "Write a line about each run to the log",
      tooltip: "For runs that this editor queues.",
      category: ["TGATE", "Runs", "Log"],
      type: "boolean",
      defaultValue: true,
    },
  ];
}
