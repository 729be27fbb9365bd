from __future__ import annotations

import pytest

from core.errors import UsageError
from core.shard import Shard

FIXED = ["talks/0011.wav", "talks/0012.wav"]
NAMES = [f"talks/{number:04d}.wav" for number in range(2000)]


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_shards_are_disjoint_complete_and_about_even(count: int) -> None:
    shares = [
        {name for name in NAMES if Shard(number, count).has(name)} for number in range(1, count + 1)
    ]
    assert sum(map(len, shares)) == len(NAMES)
    assert set.union(*shares) == set(NAMES)
    assert all(abs(len(one) - 2000 / count) < 5 * (2000 / count) ** 0.5 for one in shares)


def test_a_share_is_the_same_for_ever() -> None:
    """On every machine, in every version: a fixed answer, written down."""
    assert [name for name in NAMES[:20] if Shard(3, 4).has(name)] == FIXED


def test_parse() -> None:
    shard = Shard.parse("3/16")
    assert shard == Shard.parse(" 3 / 16 ") == Shard(3, 16)
    assert shard.suffix == "-3-of-16"


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "-1/4", "1/0", "3/16/2", "²/4"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard .*3/16"):
        Shard.parse(text)
