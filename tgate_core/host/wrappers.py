"""Wrappers around the host's sampling: the run, its evaluations, their passes, the network calls.

All are plain functions that find their state in the options they are given; none keeps anything of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..deepcache.technique import DeepCall
from ..engine.batch_pass import CondBatchPass
from ..engine.forward import ForwardCall
from ..engine.identity import Place, latent_key
from ..engine.reasons import EXTRA_PASS, RUN_TWICE, SPLIT_BEFORE
from ..engine.run import NetworkFacts, NetworkKey, Run
from ..engine.technique import BatchPlan, FinishedBatch
from .attention import Options, arranged, without_own
from .bypass import bypass
from .compiled import COMPILED_IN_PLACE, is_compiled_in_place, is_compiled_per_call, uncompiled
from .compiled_calls import CompiledNetwork, why_uncompiled
from .conds import cond_batch, window_key
from .forwards import current_call
from .inline import arranged_inline
from .keys import PASS_KEY, RUN_KEY, TECHNIQUES_KEY
from .network_runs import has_network_run, is_cut_by_host, is_from_host, surrounding
from .networks import inline_attentions, visits_per_run
from .reporting import TELL_US, counted, harmless, reported
from .run_start import ATTENTION_TECHNIQUES, start_run
from .unet_blocks import arranged_in_depth

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

# What to do where measuring failed.
UNMEASURED = f"The probe holds no measurement: sample again; if that fails too, {TELL_US}"


class RepeatEvaluation(BaseException):
    """Another node turned out to need the branch that was dropped: the evaluation is void.

    Not an Exception, so that no node on the way takes it for an error of its own.
    """


def outer_sample_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """A sampling run. Positional: noise, latent_image, sampler, sigmas (N + 1 values), …; class_obj is the guider."""
    guider, sampler, sigmas = executor.class_obj, args[2], args[3]
    options = guider.model_options["transformer_options"]
    run = start_run(guider, sampler, sigmas, args[0].shape)
    with reported(guider, run) as outcome:
        if run is None or run.is_plain:
            with bypass(guider):
                outcome.result = executor(*args, **kwargs)
            return outcome.result
        options[RUN_KEY] = run
        try:
            outcome.result = executor(*args, **kwargs)
            with harmless("measuring this run", UNMEASURED):
                run.complete(outcome.result)
            return outcome.result
        finally:
            options.pop(RUN_KEY, None)
            run.close()


def predict_noise_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """One evaluation of the model by the sampler. Positional: x (B, C, …), timestep, model_options, seed."""
    run: Run | None = args[2].get("transformer_options", {}).get(RUN_KEY)
    if run is None:
        return executor(*args, **kwargs)
    outer_evaluation, evaluation = run.evaluation, run.begin_evaluation(args[0])
    try:
        run.evaluation = evaluation
        with suppress(RepeatEvaluation):
            return executor(*args, **kwargs)
        run.evaluation = evaluation.again()
        return executor(*args, **kwargs)
    finally:
        run.evaluation = outer_evaluation


def calc_cond_batch_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> list[Tensor]:
    """One pass over the conds of all branches. Positional: model, conds, x_in, timestep (B,), model_options."""
    model, conds, x_in, timestep, model_options = args[:5]
    options = model_options.get("transformer_options", {})
    run: Run | None = options.get(RUN_KEY)
    evaluation = None if run is None else run.evaluation
    if run is None or evaluation is None:
        return executor(*args, **kwargs)
    window = window_key(options)
    if not evaluation.claim_main_pass(id(model), window, x_in):
        if run.note_auxiliary(evaluation, (cond["uuid"] for branch in conds for cond in branch or ())):
            raise RepeatEvaluation
        run.counts.note(SPLIT_BEFORE if evaluation.step is None else EXTRA_PASS)
        return executor(*args, **kwargs)
    sigma = float(timestep.flatten()[0])  # the one read of the device in a pass
    step = run.locate(evaluation, sigma)
    place = Place(id(model), window, evaluation.ordinal, None, latent_key(x_in, evaluation.shifts))
    plan = run.plan(cond_batch(conds, sigma, place, tuple(x_in.shape[2:])), step)
    predictions, batch_pass = _run_pass(executor, run, plan, args, kwargs)
    repeated = run.plan_again(plan, batch_pass)
    if repeated is not None:
        plan = repeated
        predictions, batch_pass = _run_pass(executor, run, plan, args, kwargs)
    return run.finish(FinishedBatch(plan, x_in, sigma, batch_pass.has_run), predictions)


def _run_pass(
    executor: WrapperExecutor, run: Run, plan: BatchPlan, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Tensor], CondBatchPass]:
    """What the network predicts for each branch by a plan; what does not run is meaningless."""
    model, conds, x_in, timestep, model_options, *rest = args
    batch_pass = run.begin_pass(plan, x_in, is_cut_by_host(model_options))
    if not plan.runs_network:
        return [x_in] * len(conds), batch_pass
    branches = [branch if plan.branch in (None, index) else None for index, branch in enumerate(conds)]
    pass_options = {**model_options, "transformer_options": _pass_options(run, batch_pass, model, model_options)}
    predictions = executor(model, branches, x_in, timestep, pass_options, *rest, **kwargs)
    for reason in batch_pass.reasons:
        run.counts.note(reason)
    return predictions, batch_pass


def _pass_options(run: Run, batch_pass: CondBatchPass, model: Any, model_options: Options) -> Options:
    """The options of a pass: they hold its state, and its network calls run uncompiled where they have to."""
    options = model_options["transformer_options"]
    if not batch_pass.plan.is_idle and is_compiled_per_call(options):
        facts = _facts(run, batch_pass, model, uncompiled(options))
        reason = why_uncompiled(run, batch_pass, facts, model_options)
        if reason is not None:
            run.counts.note(reason)
            options = uncompiled(options)
    return surrounding({**options, PASS_KEY: batch_pass})


def apply_model_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
    """One network call. Positional: x (conds * B, C, …), t, c_concat, c_crossattn, control, transformer_options."""
    *before, control, transformer_options = args[:6]
    run: Run | None = transformer_options.get(RUN_KEY)
    if run is None:
        return executor(*args, **kwargs)
    model, batch_pass = executor.class_obj, transformer_options.get(PASS_KEY)
    facts = _facts(run, batch_pass, model, transformer_options)
    call = _begin_call(batch_pass, facts, model, transformer_options, args[0])
    with current_call(call), counted(run, call, args, kwargs), _compiled(run, facts.compiled, call) as is_arranged:
        if call.is_active and not is_arranged:
            options = arranged_inline(model.diffusion_model, facts.inline, call, arranged(transformer_options, call))
        else:
            options = without_own(transformer_options)
            call.computed += sum(map(len, facts.inline.values()))
        if call.is_active and isinstance(call.depth, DeepCall):
            control, options = arranged_in_depth(model.diffusion_model, call.depth, control, options)
        result = executor(*before, control, options, *args[6:], **kwargs)
    if batch_pass is not None:
        is_gated = not ATTENTION_TECHNIQUES.isdisjoint(transformer_options.get(TECHNIQUES_KEY, {}))
        # Compiled code tells nothing of whether it ran.
        has_run = facts.is_compiled or has_network_run(call, transformer_options, is_gated)
        batch_pass.has_run = batch_pass.has_run and has_run
        if not batch_pass.end_call(call):
            run.counts.note(RUN_TWICE)
    return result


@contextmanager
def _compiled(run: Run, network: CompiledNetwork | None, call: ForwardCall) -> Iterator[bool]:
    """Around a network call; gives whether compiled code captures and reuses in it, without any options of ours."""
    if network is None:
        yield False
    elif not call.is_active:
        with network.plain_call(call):
            yield False
    else:
        with network.gated_call(call) as reason:
            if reason is not None:
                run.counts.note(reason)
            yield reason is None


def _facts(run: Run, batch_pass: CondBatchPass | None, model: Any, transformer_options: Options) -> NetworkFacts:
    """What is known of the network that is called, as it is there now: a node may have put in another for the call."""
    network, is_per_call = model.diffusion_model, is_compiled_per_call(transformer_options)
    # Outside of passes of ours the node's wrapper may still be to come.
    key = NetworkKey(id(network), is_per_call, is_outside=batch_pass is None)
    if key not in run.networks:
        compiled = CompiledNetwork(network) if is_per_call else None
        is_in_place = not is_per_call and is_compiled_in_place(network)
        run.networks[key] = NetworkFacts(visits_per_run(network), inline_attentions(network), is_in_place, compiled)
    return run.networks[key]


def _begin_call(
    batch_pass: CondBatchPass | None, facts: NetworkFacts, model: Any, transformer_options: Options, x: Tensor
) -> ForwardCall:
    """The forward call; outside of main passes nothing is captured or reused."""
    if batch_pass is None:
        return ForwardCall(model)
    if facts.is_compiled and not batch_pass.plan.is_idle:
        return batch_pass.step_aside(COMPILED_IN_PLACE, model)
    branches, uuids = transformer_options.get("cond_or_uncond", ()), transformer_options.get("uuids", ())
    is_own = is_from_host(x, transformer_options)
    return batch_pass.begin_call(branches, uuids, x, model, is_own, facts.visits)
