// @ts-check
/**
 * The pack's templates in the editor's list.
 */

/**
 * Puts one pack's templates in the order of their names. The server lists files as its disk does, and the editor shows
 * them as the server lists them.
 * @param {any} api the editor's
 * @param {string} pack its folder
 */
export function orderTemplates(api, pack) {
  const before = api.getWorkflowTemplates;
  if (!before) return;
  api.getWorkflowTemplates = async function (/** @type {any[]} */ ...given) {
    const templates = await before.apply(this, given);
    templates?.[pack]?.sort?.((/** @type {string} */ one, /** @type {string} */ other) => one.localeCompare(other));
    return templates;
  };
}
