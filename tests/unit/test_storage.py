"""Where captures live. torch's lazy device stands for a device beside the CPU: it is real, and it needs no hardware."""

import pytest
import torch

from tgate_core.engine.storage import CHECK_EVERY_BYTES, CaptureStorage

CPU = torch.device("cpu")
MIB = 2**20


class FreeMemory:
    """Counts how often it is asked, and answers as told."""

    def __init__(self, *short):
        self.short = list(short)
        self.asked = []

    def __call__(self, device):
        self.asked.append(device)
        return self.short.pop(0)


@pytest.fixture(scope="session")
def lazy():
    backend = pytest.importorskip("torch._lazy.ts_backend")
    try:
        backend.init()
        torch.ones(1).to("lazy")
    except RuntimeError as error:
        pytest.skip(f"this torch has no lazy device: {error}")
    return torch.device("lazy:0")


def of_size(mebibytes, device):
    return torch.zeros(1, mebibytes, MIB // 4, device=device)


@pytest.mark.parametrize("choice", ["auto", "model", "cpu"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_needs_no_memory_of_a_device_stays_as_it_is(choice, device):
    memory = FreeMemory()
    capture = torch.zeros(1, 2, 3, device=device)
    assert CaptureStorage(choice, memory)(capture) is capture
    assert memory.asked == []


def test_beside_the_model_nothing_is_moved_or_asked(lazy):
    memory, capture = FreeMemory(), of_size(80, lazy)
    assert CaptureStorage("model", memory)(capture) is capture
    assert memory.asked == []


def test_to_the_cpu_means_a_copy_with_the_same_values(lazy):
    memory, values = FreeMemory(), torch.arange(6.0).reshape(1, 2, 3).half()
    kept = CaptureStorage("cpu", memory)(values.to(lazy))
    assert kept.device == CPU
    assert kept.dtype == torch.float16
    assert torch.equal(kept, values)
    assert memory.asked == []


def test_automatic_stays_with_the_model_while_there_is_memory(lazy):
    memory, capture = FreeMemory(False), of_size(1, lazy)
    assert CaptureStorage("auto", memory)(capture) is capture
    assert memory.asked == [lazy]


def test_automatic_moves_to_the_cpu_where_memory_is_short_from_the_start(lazy):
    assert CaptureStorage("auto", FreeMemory(True))(of_size(1, lazy)).device == CPU


def test_memory_is_looked_at_once_in_64_mebibytes(lazy):
    assert CHECK_EVERY_BYTES == 64 * MIB
    memory = FreeMemory(False, False, True)
    storage, sixteen = CaptureStorage("auto", memory), of_size(16, lazy)
    devices, asked = [], []
    for _ in range(9):
        devices.append(storage(sixteen).device.type)
        asked.append(len(memory.asked))
    assert asked == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert devices == ["lazy"] * 8 + ["cpu"]


def test_bytes_count_the_element_size(lazy):
    memory = FreeMemory(False, False)
    storage, eight = CaptureStorage("auto", memory), of_size(16, lazy).half()
    for _ in range(8):
        storage(eight)
    assert len(memory.asked) == 1
    storage(eight)
    assert len(memory.asked) == 2


def test_what_once_moved_to_the_cpu_keeps_going_there_without_asking_again(lazy):
    memory = FreeMemory(True)
    storage = CaptureStorage("auto", memory)
    assert [storage(of_size(80, lazy)).device for _ in range(3)] == [CPU] * 3
    assert len(memory.asked) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_copy_from_cuda_is_pinned_and_ordered_before_its_way_back():
    values = torch.randn(2, 64, 320, device="cuda")
    kept = CaptureStorage("cpu", FreeMemory())(values)
    assert kept.device == CPU
    assert kept.is_pinned()
    assert torch.equal(kept.to("cuda", non_blocking=True), values)
