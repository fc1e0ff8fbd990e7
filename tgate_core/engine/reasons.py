"""Why a run saved less than its settings ask for: what its report and the log say of that.

Noted once a run, where the cause is met. No reason names a step or an attention, so noting one builds no text and waits
for nothing. Reasons that belong to one technique are in its folder.
"""

from __future__ import annotations

# Met while the run goes on.
OTHER_BATCH = "another node gives the network a batch of its own (several tiles, some of the frames): computed in full"
UNPLACED = "another node gives the network tiles whose place in the latent cannot be told: computed in full"
SPLIT_BEFORE = "another node splits or reorders the latent first (windows or tiles of its own): computed in full"
EXTRA_PASS = "extra passes of another node (as of PAG, SAG or PerpNeg) are computed in full"
MANY_EVALUATIONS = "the sampler evaluates a step more often than captures are kept for: the rest is computed in full"
MISFIT = "attention came in another size, batch or precision than it was captured in: computed in full"
UNREACHED = "another node replaces the network or its blocks, or leaves them out: T-GATE's hooks were not reached"
MOVED = "the sampler moves the latent between steps, so captures of the steps before are elsewhere: computed in full"
RUN_TWICE = "another node runs the network more than once in a call, so captures have no place: computed in full"
CACHE_FULL = "guidance kept: cache_limit_mb leaves no room for the captures that replace it"

# Known when it is over.
NO_PASS = "another node runs the model past the host's sampling functions: T-GATE saw no pass of this run"
NO_CALL = "another node runs the network's blocks itself (as another DeepCache node does): T-GATE saw no call of it"
CACHE_LIMIT = "cache_limit_mb leaves no room for some captures: those attentions are computed"
