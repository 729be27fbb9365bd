"""A user's own method in a file of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.errors import UsageError
from core.methods import AudioView, get_method

OWN = """
from dataclasses import dataclass
from typing import ClassVar

from core.methods import Method
from core.methods.choose import largest
from core.methods.uniform import Uniform
from core.merge import Plan


@dataclass(frozen=True)
class Loudest(Method):
    name: ClassVar[str] = "loudest"
    share: float = 1.0

    def plan(self, view, kept):
        loud = view.states.float().norm(dim=-1) * self.share
        return Plan.from_kept(largest(loud, view.lengths, kept), kept)


@dataclass(frozen=True)
class Demanding(Uniform):
    name: ClassVar[str] = "demanding"

    def __post_init__(self):
        raise ValueError("no licence\\nat all")
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my methods.py"
    path.write_text(OWN)
    return path


def test_a_method_in_a_file_is_used(own: Path) -> None:
    method = get_method(f"{own}:Loudest")
    assert method.name == "loudest"
    states = torch.tensor([3.0, 1.0, 5.0, 2.0]).view(1, 4, 1)
    ones = torch.ones(1, 4)
    view = AudioView((4,), states.unsqueeze(1), states, None, None, ones, at_input=True)
    assert method.plan(view, [2]).slot.tolist() == [[0, -1, 1, -1]]


def test_paths_are_relative_to_where_the_user_stands(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    assert type(get_method("my methods.py:Loudest")) is type(get_method(f"{own}:Loudest"))


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (OWN, "Quietest", "no method 'Quietest' in .*it has Loudest, Demanding; as in --method"),
        (OWN, "", "no method '' in .*it has Loudest, Demanding; as in --method .*:Loudest"),
        # imported from elsewhere, so not this file's to offer
        (OWN, "Uniform", "no method 'Uniform'"),
        (OWN, "Demanding", "cannot make Demanding of .*: ValueError: no licence$"),
        ("x = 1", "x", "it has no subclass of Method"),
        ("import nowhere_to_be_found", "A", "ModuleNotFoundError: No module named"),
        ("def f(:", "A", "SyntaxError: "),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path, text: str, name: str, said: str
) -> None:
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        get_method(f"{path}:{name}" if name else str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--method .*absent.py: no such file"):
        get_method(f"{tmp_path}/absent.py:Name")
