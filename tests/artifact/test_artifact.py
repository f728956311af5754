"""Writing and opening artifacts: what is wrong with one is said, and a build that fails leaves nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcompile.artifact import MANIFEST, Artifact, Manifest, dumps, new_folder, open_artifact, parse, seal
from dcompile.diagnostic import CompileError
from tests.session.fakes import manifest


def write(path: Path, force: bool = False) -> Artifact:
    with new_folder(path, force) as folder:
        (folder / "m").write_bytes(b"graph")
        (folder / "deep").mkdir()
        (folder / "deep" / "w").write_bytes(b"weights")
        return seal(folder, manifest())


def listed(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def code(path: Path) -> str:
    with pytest.raises(CompileError) as caught:
        open_artifact(path)
    return caught.value.diagnostics[0].code


def test_round_trip(tmp_path: Path) -> None:
    written = write(tmp_path / "a")
    opened = open_artifact(tmp_path / "a")
    assert opened.manifest == written.manifest
    assert sorted(opened.manifest.files) == ["deep/w", "m"]
    assert listed(tmp_path) == ["a"]


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    texts = [(write(tmp_path / n), (tmp_path / n / MANIFEST).read_bytes())[1] for n in "ab"]
    assert texts[0] == texts[1]


def test_changed_and_missing_files(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "a/deep/w").write_bytes(b"Weights")
    assert code(tmp_path / "a") == "changed-file"
    (tmp_path / "a/deep/w").unlink()
    assert code(tmp_path / "a") == "missing-file"


def test_what_is_no_artifact(tmp_path: Path) -> None:
    assert code(tmp_path / "none") == "not-an-artifact"
    assert code(tmp_path) == "not-an-artifact"
    (tmp_path / "file").touch()
    assert code(tmp_path / "file") == "not-an-artifact"


def test_existing_output(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with pytest.raises(CompileError, match="output-exists"):
        write(tmp_path / "a")
    write(tmp_path / "a", force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    with pytest.raises(CompileError, match="not an artifact and is not replaced"):
        write(tmp_path / "mine", force=True)
    assert listed(tmp_path) == ["a", "mine"]


@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_build_leaves_what_was_there(tmp_path: Path, exists: bool) -> None:
    if exists:
        write(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "a", force=True) as folder:
        (folder / "m").touch()
        raise KeyboardInterrupt
    assert listed(tmp_path) == (["a"] if exists else [])
    if exists:
        open_artifact(tmp_path / "a")


def tree() -> dict[str, Any]:
    made = manifest(files={"m": "0" * 64})
    loaded: dict[str, Any] = json.loads(dumps(made))
    return loaded


def parse_code(data: bytes) -> str:
    with pytest.raises(CompileError) as caught:
        parse(data)
    return caught.value.diagnostics[0].code


def test_newer_format() -> None:
    assert parse_code(json.dumps({"format": 2, "unheard": "of"}).encode()) == "newer-format"


PATHS = ["../x", "/etc/passwd", "a/../../x", "..", "", ".", "a//b", "C:\\x", "\\\\server\\x", "a\0", MANIFEST]


@pytest.mark.parametrize("path", PATHS)
def test_paths_stay_inside(path: str) -> None:
    in_files, in_graph = tree(), tree()
    in_files["files"][path] = "0" * 64
    in_graph["graphs"][0]["file"] = path
    assert parse_code(json.dumps(in_files).encode()) == "not-an-artifact"
    assert parse_code(json.dumps(in_graph).encode()) == "not-an-artifact"


def test_sense() -> None:
    twice, unlisted, text = tree(), tree(), tree()
    twice["graphs"] *= 2
    unlisted["files"] = {}
    text["strategy"]["text"] = "other"
    assert [parse_code(json.dumps(t).encode()) for t in (twice, unlisted, text)] == [
        "not-an-artifact",
        "not-an-artifact",
        "changed-file",
    ]


def manifest_or_error(data: bytes) -> None:
    with contextlib.suppress(CompileError):
        assert isinstance(parse(data), Manifest)


@given(st.binary())
@settings(deadline=None)
def test_any_bytes(data: bytes) -> None:
    manifest_or_error(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(deadline=None)
def test_any_value_anywhere(data: st.DataObject) -> None:
    """Replace one value of a good manifest, at any depth, by any JSON value."""
    root = tree()
    node: Any = root
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(JSON)
        break
    manifest_or_error(json.dumps(root).encode())


@given(st.integers(0, 3000), st.binary(max_size=4))
@settings(deadline=None)
def test_any_damage(at: int, piece: bytes) -> None:
    good = dumps(manifest(files={"m": "0" * 64})).encode()
    manifest_or_error(good[:at] + piece + good[at + len(piece) :])
