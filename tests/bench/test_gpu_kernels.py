"""The attention kernels of `bench gpu`: a row is measured with the one that it is named after, or fails."""

from __future__ import annotations

import inspect
import logging

import comfy.ldm.modules.attention as host_attention
import pytest

from tgate_dev.bench.gpu.parts import FALLBACKS, own_kernel


@pytest.mark.newest
@pytest.mark.parametrize("said", FALLBACKS)
def test_the_host_says_so_where_it_takes_another_kernel(said: str) -> None:
    assert said in inspect.getsource(host_attention)


@pytest.mark.parametrize("said", FALLBACKS)
def test_a_run_on_another_kernel_is_none(said: str) -> None:
    with pytest.raises(RuntimeError, match=said), own_kernel():
        logging.error("Error running it: no such head, %s instead.", said)
    assert not [one for one in logging.getLogger().handlers if type(one).__module__ == own_kernel.__module__]


def test_other_messages_are_no_fault() -> None:
    with own_kernel():
        logging.warning("attention takes long")
