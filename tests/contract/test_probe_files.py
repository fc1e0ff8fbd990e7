"""Probes as files: what was saved comes back, nothing leaves the host's folders, bad files say what they are."""

from __future__ import annotations

import json

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


def newer(path):
    rewrite(path, names={"version": "2"})


def rewrite(path, names=None, **tensors):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), **tensors}, path, {**metadata, **(names or {})})


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
        (lambda path: path.unlink(), "there is no file"),
    ],
)
def test_a_bad_file_says_what_is_wrong(probe, save, load, damage, message):
    (path,) = save(probe)
    damage(path)
    with pytest.raises(ValueError, match=message):
        load("tgate/probe_00001_.probe.safetensors [output]")


def test_another_ending_is_refused(folders, load):
    (folders / "input" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="has to end in"):
        load("model.safetensors")
