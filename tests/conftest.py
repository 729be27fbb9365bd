"""Fixtures shared by all tests: tiny random models built in code, no network, no files.

Nothing heavy is imported here: a test that asks for no model pays for neither torch nor
transformers. The builders themselves live in `tests.tiny`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

# before anything imports transformers: a test that would download fails instead
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tiny import PromptBatch


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
