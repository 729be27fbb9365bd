"""A name that stays while what it means changes must not pass for the same settings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.flags import resolve
from core.models import revision
from core.models.revision import FOLDER, revision_of
from core.pinning import pinned


def fingerprint(**flags: Any) -> str:
    return pinned(resolve(**flags)).settings_hash


def test_the_embedded_model_is_known_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER / "embedded", tmp_path / "embedded")
    first = revision_of("embedded")
    monkeypatch.setattr(revision, "FOLDER", tmp_path)
    assert revision_of("embedded") == first
    (tmp_path / "embedded" / "model.safetensors").write_bytes(b"other")
    assert revision_of("embedded") not in (first, None)


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    (tmp_path / "config.json").write_bytes(b"{}")
    first = fingerprint(model=str(tmp_path))
    (tmp_path / "notes.md").write_text("of no effect")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "download.json").write_text("of no effect")
    assert fingerprint(model=str(tmp_path)) == first
    (tmp_path / "model.safetensors").write_bytes(b"two")
    os.utime(tmp_path / "model.safetensors", ns=(5, 5))
    second = fingerprint(model=str(tmp_path))
    assert second != first
    (tmp_path / "speech-lora").mkdir()
    (tmp_path / "speech-lora" / "adapter_model.safetensors").write_bytes(b"heard through")
    assert fingerprint(model=str(tmp_path)) not in (first, second)


def test_a_hub_model_is_known_by_the_commit_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    real = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda name, file, revision: real(name, file, tmp_path, revision),
    )
    assert revision_of("some/model", offline=True) is None
    place = tmp_path / "models--some--model"
    for commit in ("a" * 40, "b" * 40):
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / "main").write_text(commit)
        (place / "snapshots" / commit).mkdir(parents=True)
        (place / "snapshots" / commit / "config.json").write_text("{}")
        assert revision_of("some/model", offline=True) == commit
    assert revision_of("some/model", offline=True, asked="a" * 40) == "a" * 40
    assert revision_of("no name at all", offline=True) is None


def test_what_is_not_at_hand_is_looked_up_once_and_only_when_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def fetch(name: str, file: str, revision: None) -> str:
        asked.append(name)
        return f"/cache/snapshots/{'c' * 40}/{file}"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert revision_of("some/model", offline=True) is None
    assert asked == []
    assert revision_of("some/model") == "c" * 40


def test_a_methods_own_file_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Mine: ...\n")
    first = fingerprint(method=f"{path}:Mine")
    monkeypatch.chdir(tmp_path)
    assert fingerprint(method="mine.py:Mine") == first  # however it is written
    assert fingerprint(method="mine.py:Other") != first
    path.write_text("class Mine: pass\n")
    assert fingerprint(method="mine.py:Mine") != first
    path.unlink()
    assert pinned(resolve(method="mine.py:Mine")).method_digest is None
    assert pinned(resolve(method="ward")).method_digest is None
