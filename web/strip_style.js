// @ts-check
/**
 * How the schedule strip looks. It lives in a shadow root: nothing of it reaches the rest of the page.
 *
 * Colours are mixed with the theme's own text colour, which makes them lighter on dark and darker on light. They differ
 * in hue as colour-blind people see it (blue, orange, pink, grey), and never alone: bars differ in height and pattern too.
 */

/** Height of the strip in pixels of the graph. */
export const STRIP_HEIGHT = 144;

export const STYLE = `
:host {
  --text: var(--input-text, #ddd);
  --muted: color-mix(in srgb, var(--text) 72%, var(--back));
  --back: var(--component-node-widget-background, var(--comfy-input-bg, #222));
  --planning: color-mix(in srgb, #2f8fe0 82%, var(--text));
  --fidelity: color-mix(in srgb, #d07a00 78%, var(--text));
  --refresh: color-mix(in srgb, #c060a8 80%, var(--text));
  --protected: color-mix(in srgb, var(--text) 62%, var(--back));
  display: block;
  box-sizing: border-box;
  min-height: ${STRIP_HEIGHT}px;
  overflow: hidden;
}
/* Drawn nodes have darker widgets than those made of HTML. */
:host([on-canvas]) { --back: color-mix(in srgb, var(--comfy-input-bg, #222) 45%, var(--comfy-menu-bg, #222)); }
* { box-sizing: border-box; }
.panel {
  display: flex;
  flex-direction: column;
  gap: 4px;
  height: ${STRIP_HEIGHT}px;
  padding: 6px 8px;
  border-radius: 8px;
  background: var(--back);
  color: var(--text);
  font: 11px/14px Inter, system-ui, sans-serif;
  user-select: none;
}
/* After a run there is room for a second line. */
.head { display: flex; flex-wrap: wrap; align-items: center; gap: 1px 6px; white-space: nowrap; }
.saving { overflow: hidden; text-overflow: ellipsis; font-weight: 600; font-size: 13px; line-height: 16px; }
.presets { flex: none; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.tag {
  flex: none;
  padding: 0 5px;
  border-radius: 4px;
  background: color-mix(in srgb, var(--text) 16%, var(--back));
  font-weight: 600;
}
.tag.run { background: var(--text); color: var(--back); }
.title { color: var(--text); display: inline-block; }
.title::first-letter { text-transform: uppercase; }
.cells {
  display: flex;
  flex: none;
  align-items: flex-end;
  gap: 1px;
  height: 32px;
  border-bottom: 1px solid var(--muted);
}
.cells.many { gap: 0; }
.cell { position: relative; flex: 1 1 0; min-width: 0; height: 100%; }
.bar { position: absolute; inset: auto 0 0 0; border-radius: 1px 1px 0 0; background: var(--colour); }
.planning { --colour: var(--planning); }
.fidelity { --colour: var(--fidelity); }
.refresh { --colour: var(--refresh); }
.protected { --colour: var(--protected); }
.reused .bar {
  background: repeating-linear-gradient(
    135deg, var(--colour) 0 2px, color-mix(in srgb, var(--colour) 30%, var(--back)) 2px 4px
  );
}
.protected .bar {
  background: repeating-linear-gradient(0deg, var(--colour) 0 2px, var(--back) 2px 3px);
}
.shallow .bar { border-top: 2px solid var(--text); }
.predicted .bar { height: 35% !important; background: none; border: 1px dashed var(--text); border-bottom: none; }
.swatch.predicted .bar { height: 75% !important; }
.skipped .bar { height: 100% !important; background: none; border: 1px dotted var(--muted); }
.cell.working { outline: 1px solid var(--text); outline-offset: 1px; animation: working 1s ease-in-out infinite alternate; }
@keyframes working { to { outline-color: transparent; } }
@media (prefers-reduced-motion: reduce) { .cell.working { animation: none; } }
.gate { flex: none; width: 2px; height: 100%; background: var(--text); position: relative; }
.gate::before {
  content: "";
  position: absolute;
  top: 0;
  left: -3px;
  border: 4px solid transparent;
  border-top: 5px solid var(--text);
}
.legend { display: flex; flex: none; flex-wrap: wrap; gap: 0 5px; max-height: 28px; overflow: hidden; white-space: nowrap; }
.key { display: flex; align-items: flex-end; gap: 2px; }
.swatch { position: relative; width: 8px; height: 12px; margin-bottom: 1px; }
.caption {
  color: var(--muted);
  display: -webkit-box;
  -webkit-box-orient: vertical;
  -webkit-line-clamp: 3;
  overflow: hidden;
}
.presets + .caption { -webkit-line-clamp: 2; }
.error .caption, .off .caption { color: var(--text); -webkit-line-clamp: 6; }
`;
