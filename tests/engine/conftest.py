from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.made import CARD

if TYPE_CHECKING:
    from core.models.base import SpeechLM


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> SpeechLM:
    """A tiny random model with a window of two seconds."""
    from core.models import load_model
    from tests.folders import save_tiny

    return load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"), CARD)), device="cpu")
