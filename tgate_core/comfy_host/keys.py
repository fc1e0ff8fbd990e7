"""Names under which T-GATE keeps its things in the host's dictionaries."""

# Wrappers and injections of a ModelPatcher.
PATCHER_KEY = "tgate"
# The wrappers that note what comes in before other nodes' wrappers, and what they have noted.
INPUT_KEY = "tgate_input"
# Among its attachments: the records of its runs.
RECORDS_KEY = "tgate_records"
# In transformer_options: the nodes' frozen settings, the probe that measures and the one whose measurement counts
# (always); the run's state (while sampling); the pass and the network call at hand (in the copies that the host makes
# of its options for them).
SETTINGS_KEY = "tgate_settings"
DEEP_CACHE_KEY = "tgate_deep_cache"
PROBE_KEY = "tgate_probe"
MEASURED_KEY = "tgate_measured"
RUN_KEY = "tgate_run"
PASS_KEY = "tgate_pass"
CALL_KEY = "tgate_call"
# Of wrappers that are not ours: of the host's compile node, and of its EasyCache and LazyCache.
COMPILE_KEY = "torch.compile"
STEP_CACHE_KEY = "easycache"
OWN_KEYS = (SETTINGS_KEY, DEEP_CACHE_KEY, PROBE_KEY, MEASURED_KEY, RUN_KEY, PASS_KEY, CALL_KEY, INPUT_KEY)
