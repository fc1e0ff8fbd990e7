"""Why a run saved less than its settings ask for: what its report and the log say of that.

Noted once a run, where the cause is met. No reason names a step or an attention, so noting one builds no text and waits
for nothing. Reasons that guidance stays are in `branches`.
"""

from __future__ import annotations

# Known when the run starts.
GATE_BEYOND = "the gate lies beyond this run of {steps} steps; lower it"
NOTHING_TO_REUSE = "the settings leave nothing to reuse in this run"
NO_SHALLOW_STEP = "DeepCache: no step of this run lies between its full ones"
NO_GUIDANCE = "no guidance to drop where one branch runs alone (cfg 1)"
NOT_MEASURED = "the probe measured nothing: it measures runs that TGATE and DeepCache leave as they are"
PROBE_MEASURES = "TGATE Probe measures this run and leaves it as it is"

# Met while it goes on.
OTHER_BATCH = "another node gives the network a batch of its own (several tiles, some of the frames): computed in full"
UNPLACED = "another node gives the network tiles whose place in the latent cannot be told: computed in full"
SPLIT_BEFORE = "another node splits or reorders the latent first (windows or tiles of its own): computed in full"
EXTRA_PASS = "extra passes of another node (as of PAG, SAG or PerpNeg) are computed in full"
MANY_EVALUATIONS = "the sampler evaluates a step more often than captures are kept for: the rest is computed in full"
MISFIT = "attention came in another size, batch or precision than it was captured in: computed in full"
UNREACHED = "another node replaces the network or its blocks, or leaves them out: T-GATE's hooks were not reached"
OLD_COMPILER = (
    "torch before 2.6 compiles whatever comes: calls that would capture or reuse attention are computed in full"
)

# Known when it is over.
NO_PASS = "another node runs the model past the host's sampling functions: T-GATE saw no pass of this run"
NO_CALL = "another node runs the network's blocks itself (as another DeepCache node does): T-GATE saw no call of it"
CACHE_LIMIT = "cache_limit_mb leaves no room for some captures: those attentions are computed"
NOTHING_BEFORE = "the first step behind the gate runs in full: nothing was captured before it"
NOTHING_AGAIN = "what was captured did not come up again at the same place of the run: computed in full"
NO_FEATURE_AGAIN = "DeepCache: what a full step kept did not come up again at the same place of the run"
