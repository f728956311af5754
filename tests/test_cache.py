"""What builds keep: entries are whole or not there, and never for anything but what they were made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcompile import cache


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCOMPILE_CACHE", str(tmp_path))
    return tmp_path / "builds"


def put(name: str, text: str = "text") -> None:
    cache.put(name, lambda folder: (folder / "file").write_text(text) and None)


def test_an_entry_is_found_again() -> None:
    assert cache.find("one") is None
    put("one")
    found = cache.find("one")
    assert found is not None and (found / "file").read_text() == "text"
    put("one", "other")  # it is there: nothing is written
    assert (found / "file").read_text() == "text"
    assert cache.usage()["entries"] == 1


def test_a_file_that_was_changed_or_cut_short_drops_its_entry(place: Path) -> None:
    for text in ("texT", "tex", ""):
        put("one")
        (place / "one" / "file").write_text(text)
        assert cache.find("one") is None and not (place / "one").exists()
    put("one")
    (place / "one" / "file").unlink()
    assert cache.find("one") is None
    put("one")
    (place / "one" / cache.SUMS).write_text("{")
    assert cache.find("one") is None


def test_a_build_that_dies_leaves_no_entry(place: Path) -> None:
    def die(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.put("one", die)
    assert cache.find("one") is None and list(place.iterdir()) == []


def test_the_quicker_of_two_processes_wins(place: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "file").write_text("slow")
        put("one", "quick")

    cache.put("one", write)
    found = cache.find("one")
    assert found is not None and (found / "file").read_text() == "quick"
    assert [p.name for p in place.iterdir()] == ["one"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DCOMPILE_CACHE", str(tmp_path / "file"))
    put("one")
    assert cache.find("one") is None


def test_off(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    put("one")
    with cache.chosen("off"):
        put("two")
        assert cache.find("one") is None and cache.entries() is None
    monkeypatch.setenv("DCOMPILE_CACHE", "off")
    assert cache.find("one") is None
    with cache.chosen(place.parent):
        assert cache.find("one") is not None and cache.find("two") is None


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    import os

    for n, name in enumerate(("a", "b", "c")):
        put(name, "x" * 1000)
        os.utime(place / name, (n, n))
    assert cache.find("a") is not None  # used now
    monkeypatch.setattr(cache, "LIMIT", 3800)
    put("d", "x" * 1000)
    assert sorted(p.name for p in place.iterdir()) == ["a", "c", "d"]


def test_a_key_is_of_versions_parts_and_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("one")

    def key(*parts: object) -> str:
        return cache.key("kind", *parts, packages=("torch",), sources=(source,))

    first = key("a", 1)
    assert first == key("a", 1) != key("a", 2)
    source.write_text("two")
    second = key("a", 1)
    monkeypatch.setattr(cache.metadata, "version", lambda name: "0.0")
    third = key("a", 1)
    monkeypatch.setattr(cache, "VERSION", "0.0")
    assert len({first, second, third, key("a", 1)}) == 4
