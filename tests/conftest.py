"""Fixtures shared by all tests: tiny random models built in code, no network, no files.

Nothing heavy is imported here: a test that asks for no model pays for neither torch nor
transformers. The builders themselves live in `tests.tiny`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# before anything imports transformers: a test that would download fails instead
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.tiny import PromptBatch


_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember why tests were skipped."""
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped.append(report.longrepr[2])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where FASTADASP_SKIPS names a file of reasons, fail for any other: no test is lost unseen."""
    allowed = os.environ.get("FASTADASP_SKIPS")
    if not allowed:
        return
    lines = Path(allowed).read_text().splitlines()
    known = [line for line in lines if line and not line.startswith("#")]
    odd = {why for why in _skipped if not any(re.search(line, why) for line in known)}
    if odd:
        session.config.get_terminal_writer().line(f"skipped for no listed reason: {sorted(odd)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def tiny_qwen2_audio() -> Callable[..., Any]:
    """Builder `tiny_qwen2_audio(kv_heads=4, seed=0)`; equal arguments give the same model."""
    from tests import tiny

    return tiny.tiny_qwen2_audio


@pytest.fixture(scope="session")
def prompt_batch() -> Callable[..., PromptBatch]:
    """Builder `prompt_batch(model, audio_lengths, text_before, text_after, seed=0)`."""
    from tests import tiny

    return tiny.prompt_batch


@pytest.fixture(scope="session", params=[4, 2], ids=["mha", "gqa"])
def tiny_model(request: pytest.FixtureRequest) -> Any:
    """A tiny Qwen2-Audio, once with a key head for each query head and once with half."""
    from tests import tiny

    return tiny.tiny_qwen2_audio(kv_heads=request.param)


@pytest.fixture(scope="session")
def gqa_model() -> Any:
    """The tiny Qwen2-Audio with two query heads on each key head, where one model will do."""
    from tests import tiny

    return tiny.tiny_qwen2_audio(kv_heads=2)


@pytest.fixture(autouse=True)
def nothing_given_up() -> Iterator[None]:
    """No test hears of fast code that another one has spoilt."""
    yield
    proving = sys.modules.get("core.reduction.proving")
    if proving is not None:
        proving._given_up.clear()


@pytest.fixture
def split_by(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., Any]], None]]:
    """`split_by(kernel)`: from here on the CPU has that kernel, and can record decode steps."""
    from core.engine import recorder
    from core.reduction import split
    from tests.tape import captured

    def put(kernel: Callable[..., Any]) -> None:
        monkeypatch.setattr(split, "_kernel", lambda: kernel)
        monkeypatch.setattr(split, "_DEVICES", ("cpu",))
        monkeypatch.setattr(recorder, "_captured", captured)

    split._fastest.cache_clear()
    yield put
    split._fastest.cache_clear()


@pytest.fixture
def played(
    split_by: Callable[[Callable[..., Any]], None], monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
    """A device with a kernel that is right; gains an entry with every step played back on it."""
    from core.engine import recorder
    from core.reduction import split
    from tests.tape import captured

    split_by(lambda *seen: split.attend_split(*seen))
    plays = list[Any]()

    def counting(work: recorder.Work) -> recorder.Work:
        play = captured(work)

        def once() -> Any:
            plays.append(work)
            return play()

        return once

    monkeypatch.setattr(recorder, "_captured", counting)
    return plays
