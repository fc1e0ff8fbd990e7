// @ts-check
/**
 * The pack's settings in the editor's dialog.
 */

export const DEFAULT_PRESET = "TGATE.DefaultPreset";
export const SHOW_STRIP = "TGATE.ShowStrip";
export const LOG_LINE = "TGATE.LogLine";

/** As TGATE Apply has them. */
const PRESETS = ["balanced", "gentle", "fast", "as published"];

/**
 * @param {() => void} onShowStrip called when strips are switched on or off
 */
export function settingsFor(onShowStrip) {
  return [
    {
      id: DEFAULT_PRESET,
      name: "Preset of new TGATE Apply nodes",
      category: ["TGATE", "Nodes", "Preset"],
      type: "combo",
      options: PRESETS,
      defaultValue: PRESETS[0],
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
