// @ts-check
/**
 * What the schedule strip says, in the languages it speaks. Where a text holds {name}, the value of that name goes.
 */

/** @typedef {Record<string, string>} Texts */

/** @type {Texts} */
const ENGLISH = {
  plan: "Plan",
  run: "Last run",
  stop: ". ",
  interrupted: "Stopped",
  gate: "gate after {gate} of {steps} steps",
  gateAtOnce: "gated from the first of {steps} steps",
  noGate: "no gate within {steps} steps",
  predictedOf: "{predicted} of {steps} steps predicted",
  measuredGate: "gate where the probe saw attention settle",
  saved: "−{percent} % work",
  savedAbout: "about −{percent} % work",
  savedUpTo: "up to −{percent} % work",
  savedNothing: "no work saved",
  secondsBeside: "{seconds} s (plain {plain} s)",
  plainSeconds: "plain {plain} s",
  otherPreset: "{name} −{percent} %",
  samePreset: "{name} = {other}",
  gateMark: "The gate: from here on the text's attention is frozen and guidance is reduced.",
  stripLabel: "T-GATE schedule, {title}. Taller bars compute more.",
  oneStep: "Step {first} of {steps}",
  manySteps: "Steps {first} to {last} of {steps}",
  planning: "planning",
  computed: "computed",
  fidelity: "gated",
  refresh: "refreshed",
  refreshShort: "refresh",
  protected: "in full",
  reused: "self-attention reused",
  reusedShort: "reused",
  frozen: "cross-attention frozen",
  part: "{what} in {percent} %",
  twoPasses: "both guidance passes",
  onePass: "one pass",
  shallow: "outer blocks alone",
  shallowShort: "DeepCache",
  predicted: "predicted from the steps before, without a run of the network",
  predictedShort: "predicted",
  skipped: "not run",
  tallerIsMore: "Taller bars compute more.",
  assumed: "As for SDXL: connect a model.",
  assumedFile: "As for SDXL; the model is known after a run.",
  approximate: "Approximate: the sampler's noise levels decide.",
  unguided: "cfg is 1: no second pass to save.",
  measured: "Measured: known after a run.",
  byError: "Refreshed where the error asks for it: known after a run.",
  noSampler: "No sampler connected: {steps} steps assumed.",
  noSteps: "Steps are known after a run: {steps} assumed.",
  linked: "{name} is known after a run.",
  family: "Model: {name}.",
  jointAttention: "Joint attention: nothing is frozen.",
  guidanceAlone: "Only guidance is dropped: this model's attention cannot be frozen.",
  seconds: "{seconds} s",
  noAnswer: "No preview: the server does not answer.",
  noProbe: "gate_unit is 'measured': connect the probe of TGATE Convergence Plot or TGATE Load Probe.",
  bypassed: "Bypassed: the model is passed on as it is.",
  neverRun: "Switched off: this node does not run.",
  unseen: "left as it is",
};

/** @type {Texts} */
const CHINESE = {
  plan: "计划",
  run: "上次运行",
  stop: "。",
  interrupted: "已中断",
  gate: "共 {steps} 步，第 {gate} 步后门控",
  gateAtOnce: "共 {steps} 步，从第一步起门控",
  noGate: "{steps} 步内没有门控",
  predictedOf: "{steps} 步中有 {predicted} 步为推算",
  measuredGate: "在探测到注意力稳定处门控",
  saved: "省 {percent} % 计算",
  savedAbout: "约省 {percent} % 计算",
  savedUpTo: "最多省 {percent} % 计算",
  savedNothing: "没有节省计算",
  secondsBeside: "{seconds} 秒（原速 {plain} 秒）",
  plainSeconds: "原速 {plain} 秒",
  otherPreset: "{name} 省 {percent} %",
  samePreset: "{name} = {other}",
  gateMark: "门控点：从这里起冻结文本注意力，并减少引导。",
  stripLabel: "T-GATE 计划：{title}。条越高，计算越多。",
  oneStep: "第 {first} 步，共 {steps} 步",
  manySteps: "第 {first} 至 {last} 步，共 {steps} 步",
  planning: "规划",
  computed: "计算",
  fidelity: "门控",
  refresh: "刷新",
  refreshShort: "刷新",
  protected: "完整",
  reused: "复用自注意力",
  reusedShort: "复用",
  frozen: "冻结交叉注意力",
  part: "{what}（{percent} %）",
  twoPasses: "两次引导计算",
  onePass: "一次计算",
  shallow: "只算外层块",
  shallowShort: "DeepCache",
  predicted: "由前面的步推算，不运行网络",
  predictedShort: "推算",
  skipped: "未运行",
  tallerIsMore: "条越高，计算越多。",
  assumed: "按 SDXL 显示：请连接模型。",
  assumedFile: "按 SDXL 显示；运行一次后即知模型。",
  approximate: "近似值：取决于采样器的噪声等级。",
  unguided: "cfg 为 1：没有第二次计算可省。",
  measured: "按测量：运行一次后即知。",
  byError: "按误差刷新：运行一次后即知。",
  noSampler: "未连接采样器：按 {steps} 步显示。",
  noSteps: "步数运行一次后即知：按 {steps} 步显示。",
  linked: "{name} 运行一次后即知。",
  family: "模型：{name}。",
  jointAttention: "联合注意力：不冻结。",
  guidanceAlone: "只省去引导：此模型的注意力不能冻结。",
  seconds: "{seconds} 秒",
  noAnswer: "无法预览：服务器没有回应。",
  noProbe: "gate_unit 为 measured：请接入“TGATE 收敛曲线”或“TGATE 加载探测结果”的探测结果。",
  bypassed: "已绕过：模型原样传下去。",
  neverRun: "已关闭：本节点不运行。",
  unseen: "未作改动",
};

/** In place of a family where no attention of a model can be frozen: the text that says so. */
const SCOPES = new Map([
  ["joint attention", "jointAttention"],
  ["inline joint attention", "jointAttention"],
  ["guidance alone", "guidanceAlone"],
]);

/** Names of model families that no language translates. */
const FAMILIES = new Map([
  ["sd15", "SD 1.5"],
  ["sd21", "SD 2"],
  ["sdxl", "SDXL"],
  ["playground-2.5", "Playground 2.5"],
  ["svd", "Stable Video Diffusion"],
  ["pixart", "PixArt"],
]);

/**
 * The texts of a language.
 * @param {unknown} locale as the editor names it, such as "en", "zh" or "zh-TW".
 * @returns {Texts}
 */
export function textsFor(locale) {
  return String(locale).startsWith("zh") ? CHINESE : ENGLISH;
}

/**
 * A text with its values filled in.
 * @param {string} text
 * @param {Record<string, string | number>} values
 */
export function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(values, name) ? String(values[name]) : whole));
}

/**
 * What is said of a model of which no attention can be frozen; empty for any other.
 * @param {any} family as a saved graph has it, which may be anything
 * @param {Texts} texts
 */
export function scopeText(family, texts) {
  return texts[SCOPES.get(family) ?? ""] ?? "";
}

/**
 * What people call a family of models; null for one that has no name of its own.
 * @param {any} family as a saved graph has it, which may be anything
 * @returns {string | null}
 */
export function familyName(family) {
  return FAMILIES.get(family) ?? null;
}
