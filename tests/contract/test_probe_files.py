"""Probes as files: what was saved comes back, nothing leaves the host's folders, bad files say what they are."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor

import folder_paths
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def folders(tmp_path):
    before = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    folder_paths.set_output_directory(str(tmp_path / "output"))
    yield tmp_path
    folder_paths.set_input_directory(before[0])
    folder_paths.set_output_directory(before[1])


@pytest.fixture
def probe(pack):
    patched, probe = pack.nodes["TGATEProbe"].execute(model=tiny.sd15()).args
    tiny.sample(patched)
    return type(probe)(probe.profile)


@pytest.fixture
def save(pack, folders):
    def run(probe, prefix="tgate/probe"):
        pack.nodes["TGATESaveProbe"].execute(probe=probe, filename_prefix=prefix)
        return sorted((folders / "output").rglob("*.probe.safetensors"))

    return run


@pytest.fixture
def load(pack):
    return lambda file: pack.nodes["TGATELoadProbe"].execute(file=file).args[0]


def test_what_comes_back_is_what_was_saved(probe, save, load, pack):
    (path,) = save(probe)
    assert path.relative_to(path.parents[1]).as_posix() == "tgate/probe_00001_.probe.safetensors"
    assert len(save(probe)) == 2
    name = "tgate/probe_00001_.probe.safetensors [output]"
    schema = pack.nodes["TGATELoadProbe"].define_schema()
    assert name in schema.inputs[0].options
    loaded, saved = load(name).profile, probe.profile
    assert (loaded.network, loaded.signature) == (saved.network, saved.signature)
    assert loaded.sigmas == pytest.approx(saved.sigmas)
    for kind in ("attn1", "attn2"):
        assert list(loaded.changes[kind]) == list(saved.changes[kind])
        for site, values in saved.changes[kind].items():
            assert loaded.changes[kind][site] == pytest.approx(values, nan_ok=True)
    assert loaded.cosines == pytest.approx(saved.cosines)


def test_a_loaded_probe_gates(probe, save, load, gated):
    save(probe)
    loaded = load("tgate/probe_00001_.probe.safetensors [output]")
    settings = {"gate": 60.0, "gate_unit": "measured", "guidance": "cond"}
    model = tiny.sd15()
    assert torch.equal(
        tiny.sample(gated(model, **settings, probe=loaded)), tiny.sample(gated(model, **settings, probe=probe))
    )


@pytest.mark.parametrize("prefix", ["../probe", "/probe", "tgate/../../probe"])
def test_nothing_is_saved_outside(probe, save, folders, prefix):
    with pytest.raises(Exception, match="outside"):
        save(probe, prefix)
    assert list(folders.rglob("*.probe.safetensors")) == []


# A name that no file can have to some system, the input that it is given to, and what the error calls it.
LONG = "n" * 300
NO_NAMES = [None, 7, 2.5, True, ["x"], {"x": 1}, torch.zeros(2), b"x"]
BAD_NAMES = ["a\0b", "a\ud800b", "a\udcffb", LONG, f"tgate/{LONG}", f"{LONG}/x"]


@pytest.mark.parametrize("prefix", NO_NAMES, ids=lambda value: type(value).__name__)
def test_a_prefix_is_text(probe, save, prefix):
    with pytest.raises(ValueError, match=r"^TGATE: filename_prefix is .{1,70}; give a name in the output folder\.$"):
        save(probe, prefix)


@pytest.mark.parametrize("prefix", ["", ".", "..", "tgate/..", "/"])
def test_a_prefix_has_a_name(probe, save, prefix):
    with pytest.raises(ValueError, match=r"^TGATE: filename_prefix is "):
        save(probe, prefix)


@pytest.mark.parametrize("prefix", BAD_NAMES, ids=ascii)
def test_a_prefix_that_no_file_can_have_is_refused_in_a_sentence(probe, save, folders, prefix):
    with pytest.raises(ValueError, match=r"^TGATE: (filename_prefix is |the probe cannot be saved as )") as error:
        save(probe, prefix)
    assert str(folders) not in str(error.value)
    assert list(folders.rglob("*.probe.safetensors")) == []


def test_a_folder_that_is_a_file_is_no_folder(probe, save, folders):
    (folders / "output" / "taken").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^TGATE: the probe cannot be saved as 'taken/probe' \(") as error:
        save(probe, "taken/probe")
    assert str(folders) not in str(error.value)


def test_a_full_disk_leaves_no_half_of_a_file(probe, save, folders):
    resource = pytest.importorskip("resource", reason="a limit that the system keeps, as a full disk does")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(ValueError, match=r"^TGATE: the probe cannot be saved .*; make room") as error:
            save(probe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(folders) not in str(error.value)
    assert list(folders.rglob("*.probe.safetensors")) == []
    assert len(save(probe)) == 1


def test_all_that_save_at_once_have_a_file_of_their_own(probe, save, pack):
    def one(_number):
        return pack.nodes["TGATESaveProbe"].execute(probe=probe, filename_prefix="tgate/probe").ui["text"][0]

    with ThreadPoolExecutor(16) as saving:
        told = list(saving.map(one, range(64)))
    assert len(set(told)) == 64
    assert len(save(probe)) == 65


def test_nothing_is_written_through_a_link(probe, save, folders):
    (folders / "output" / "probe_00001_.probe.safetensors").symlink_to(folders / "elsewhere")
    (path, _) = sorted(path.name for path in save(probe, "probe"))[::-1]
    assert path == "probe_00002_.probe.safetensors"
    assert not (folders / "elsewhere").exists()


@pytest.mark.parametrize("steps", [1, 10_001])
def test_what_could_not_be_loaded_is_not_saved(pack, save, steps):
    profiles = pack.core("probe.profile")
    row = (math.nan,) + (0.5,) * (steps - 1)
    changes = {"attn1": {}, "attn2": {"input.1.0": row}}
    profile = profiles.ConvergenceProfile("UNet", "x", (1.0,) * steps, changes, (math.nan,) * steps)
    with pytest.raises(ValueError, match=r"^TGATE: the probe cannot be saved: it has "):
        save(profiles.Probe(profile))


@pytest.mark.parametrize("name", ["../x.probe.safetensors", "/x.probe.safetensors", "../output/../x.probe.safetensors"])
def test_nothing_is_loaded_from_outside(folders, load, pack, name):
    (folders / "x.probe.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="lies outside"):
        load(name)
    assert "lies outside" in pack.nodes["TGATELoadProbe"].validate_inputs(file=name)


def test_a_link_does_not_lead_outside(folders, load):
    (folders / "x.probe.safetensors").write_bytes(b"")
    (folders / "input" / "link.probe.safetensors").symlink_to(folders / "x.probe.safetensors")
    with pytest.raises(ValueError, match="lies outside"):
        load("link.probe.safetensors")


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda value: type(value).__name__)
def test_a_file_is_named_by_text(folders, load, pack, name):
    node = pack.nodes["TGATELoadProbe"]
    with pytest.raises(ValueError, match=r"^TGATE: file is .{1,70}; connect the name of a file\.$"):
        load(name)
    # What a link brings is not known before the node runs, and the host then says None.
    assert (node.validate_inputs(file=name) is True) is (name is None)


@pytest.mark.parametrize("mark", ["", " [output]"])
@pytest.mark.parametrize(
    "name", [*BAD_NAMES, "", ".", "loop", "loop/x", "folder", "fifo", "dangling", "none"], ids=ascii
)
def test_a_name_without_a_file_is_refused_in_a_sentence(folders, load, pack, name, mark):
    populate(folders / ("output" if mark else "input"))
    node, file = pack.nodes["TGATELoadProbe"], f"{name}.probe.safetensors{mark}"
    with pytest.raises(ValueError, match=r"^TGATE: file is .+\.$") as error:
        load(file)
    assert str(folders) not in str(error.value)
    assert node.validate_inputs(file=file) == str(error.value)
    # The host then runs the node, which says what is wrong.
    assert math.isnan(node.fingerprint_inputs(file=file))


def test_the_list_offers_what_can_be_loaded_alone(folders, pack):
    for name in ("input", "output"):
        populate(folders / name)
        (folders / name / "good.probe.safetensors").write_bytes(b"")
        (folders / name / "linked.probe.safetensors").symlink_to(folders / name / "good.probe.safetensors")
        os.close(os.open(os.fsencode(folders / name) + b"/\xff.probe.safetensors", os.O_CREAT))
    options = pack.nodes["TGATELoadProbe"].define_schema().inputs[0].options
    assert options == [
        *("good.probe.safetensors", "linked.probe.safetensors"),
        *("good.probe.safetensors [output]", "linked.probe.safetensors [output]"),
    ]
    assert all(pack.nodes["TGATELoadProbe"].validate_inputs(file=file) is True for file in options)


def test_a_host_without_its_folders_has_an_empty_list(folders, pack):
    for name in ("input", "output"):
        (folders / name).rmdir()
    assert pack.nodes["TGATELoadProbe"].define_schema().inputs[0].options == []


def populate(folder):
    """All that has a probe's name and is none."""
    places = {name: folder / f"{name}.probe.safetensors" for name in ("loop", "folder", "fifo", "dangling")}
    places["loop"].symlink_to(places["loop"])
    places["folder"].mkdir()
    os.mkfifo(places["fifo"])
    places["dangling"].symlink_to(folder / "nothing.probe.safetensors")


def test_a_file_that_changes_is_read_again_and_one_that_does_not_is_not(probe, save, pack):
    (path,) = save(probe)
    fingerprint = pack.nodes["TGATELoadProbe"].fingerprint_inputs
    name = "tgate/probe_00001_.probe.safetensors [output]"
    first = fingerprint(file=name)
    assert fingerprint(file=name) == first
    os.utime(path, ns=(first + 1, first + 1))
    assert fingerprint(file=name) == first + 1
    # Of a name that a link brings the host tells nothing: to it, even one and the same "not a number" is equal.
    assert fingerprint(file=None) is not fingerprint(file=None)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def no_safetensors(path):
    path.write_bytes(b"not a safetensors file at all")


def empty(path):
    path.write_bytes(b"")


def other_safetensors(path):
    save_file({"weight": torch.zeros(2)}, path)


def huge(path):
    with path.open("r+b") as file:
        file.truncate(2**27)


def other_steps(path):
    rewrite(path, cosines=torch.zeros(3))


def other_numbers(path):
    rewrite(path, sigmas=torch.zeros(8, dtype=torch.int64))


def no_noise(path):
    rewrite(path, sigmas=torch.full((8,), torch.nan))


def other_sites(path):
    rewrite(path, names={"cross": json.dumps(["input.1.0"])})


def no_sites(path):
    rewrite(path, names={"cross": "{"})


def sites_in_sites(path):
    rewrite(path, names={"cross": "[" * 100_000 + "]" * 100_000})


def sites_of_no_text(path):
    rewrite(path, names={"cross": json.dumps(list(range(7)))})


def no_attention(path):
    rewrite(path, names={"cross": "[]", "self": "[]"}, cross=torch.empty(0, 8), self=torch.empty(0, 8))


def no_change(path):
    rewrite(path, cross=torch.full((7, 8), torch.nan))


def too_many_steps(path):
    steps = 300_000
    one = {"sigmas": torch.ones(steps), "cosines": torch.ones(steps), "cross": torch.ones(1, steps)}
    rewrite(path, names={"cross": '["input.1.0"]', "self": "[]"}, **one, self=torch.empty(0, steps))


def rows_without_end(path):
    """No more bytes than any other, but as many lists as there are rows."""
    rewrite(path, cross=torch.empty(10**6, 0))


def long_network_name(path):
    rewrite(path, names={"network": "n" * 20_000_000})


def network_name_of_a_page(path):
    rewrite(path, names={"network": "n" * 2000})


def too_many_tensors(path):
    rewrite(path, **{f"extra{number}": torch.zeros(1) for number in range(30_000)})


def one_tensor_more(path):
    rewrite(path, extra=torch.zeros(1))


def too_few_names(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    del metadata["network"]
    save_file(load_file(path), path, metadata)


def newer(path):
    rewrite(path, names={"version": "2"})


def rewrite(path, names=None, **tensors):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), **tensors}, path, {**metadata, **(names or {})})


@pytest.mark.newest
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "cut short"),
        (no_safetensors, "no safetensors file"),
        (empty, "no safetensors file"),
        (other_safetensors, "not one of TGATE Save Probe"),
        (huge, "too large"),
        (other_steps, "does not fit together"),
        (other_numbers, "does not fit together"),
        (no_noise, "does not fit together"),
        (other_sites, "does not fit together"),
        (no_sites, "does not fit together"),
        (newer, "newer TGATE"),
        (sites_in_sites, "does not fit together"),
        (sites_of_no_text, "no names of cross-attentions"),
        (no_attention, "no change of any attention to go by"),
        (no_change, "no change of any attention to go by"),
        (too_many_steps, "300000 steps instead of 1 to 10000"),
        (rows_without_end, "cross of shape"),
        (long_network_name, "describes too much"),
        (network_name_of_a_page, "names of other lengths"),
        (too_many_tensors, "describes too much"),
        (one_tensor_more, "not one of TGATE Save Probe"),
        (too_few_names, "not one of TGATE Save Probe"),
        (lambda path: path.unlink(), "there is no file"),
    ],
)
def test_a_bad_file_says_what_is_wrong(probe, save, load, folders, damage, message):
    (path,) = save(probe)
    damage(path)
    with pytest.raises(ValueError, match=rf"^TGATE: .*{message}") as error:
        load("tgate/probe_00001_.probe.safetensors [output]")
    assert len(str(error.value)) < 400
    assert str(folders) not in str(error.value)


def test_another_ending_is_refused(folders, load):
    (folders / "input" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="has to end in"):
        load("model.safetensors")
