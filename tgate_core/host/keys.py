"""Names under which T-GATE keeps its things in the host's dictionaries."""

# Wrappers and injections of a ModelPatcher.
PATCHER_KEY = "tgate"
# The wrappers that note what comes in before other nodes' wrappers, and what they have noted.
INPUT_KEY = "tgate_input"
# Among its attachments: the records of its runs.
RECORDS_KEY = "tgate_records"
# In transformer_options: the techniques on the model, by name (always); the run's state (while sampling); the pass, the
# network call at its attentions, and what came in before other nodes (in the copies that the host makes for them).
TECHNIQUES_KEY = "tgate_techniques"
RUN_KEY = "tgate_run"
PASS_KEY = "tgate_pass"
CALL_KEY = "tgate_call"
# The block that an attention stands in, in the copies of options for networks that do not tell that themselves.
BLOCK_KEY = "tgate_block"
# Of wrappers that are not ours: of compile nodes, which put compiled modules in place for each call; of the host's
# EasyCache and LazyCache.
COMPILE_KEY = "torch.compile"
STEP_CACHE_KEY = "easycache"
OWN_KEYS = (TECHNIQUES_KEY, RUN_KEY, PASS_KEY, CALL_KEY, INPUT_KEY, BLOCK_KEY)
