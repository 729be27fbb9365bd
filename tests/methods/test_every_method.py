"""What holds for every method, whatever the audio looks like. A new one is taken up by itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.flops import PromptLengths
from core.methods import METHODS, AudioView, EncoderScores, get_method
from core.reduction import ReducedCache, Reduction
from core.reduction.layers import _merge
from tests.telling import telling

KINDS = ("random", "smooth", "equal", "zero")
HEADS, HEAD_DIM, HIDDEN = 2, 4, 6
everywhere = pytest.mark.parametrize(
    ("name", "at_input"),
    [(name, False) for name in METHODS if METHODS[name].in_layer]
    + [(name, True) for name in METHODS if METHODS[name].at_input],
)


@dataclass(frozen=True)
class Case:
    """Rows of audio of some kind, and how many tokens each is to keep, as shares."""

    lengths: tuple[int, ...]
    shares: tuple[float, ...]
    kind: str
    dtype: torch.dtype
    seed: int

    def kept(self, name: str) -> list[int]:
        """Counts between what the method can do at most and all."""
        found = []
        for length, share in zip(self.lengths, self.shares, strict=True):
            fewest = max(1, length - int(length * METHODS[name].most))
            found.append(fewest + round(share * (length - fewest)))
        return found

    def view(self, at_input: bool) -> AudioView:
        batch, width = len(self.lengths), max(self.lengths)
        draw = torch.Generator().manual_seed(self.seed)
        keys = self._values(batch, HEADS, width, HEAD_DIM, draw)
        states = self._values(batch, 1, width, HIDDEN, draw)
        received = torch.rand(4, batch, width, generator=draw)
        if self.kind in ("equal", "zero"):
            received = torch.full_like(received, 0.5 if self.kind == "equal" else 0.0)
        return AudioView(
            lengths=self.lengths,
            keys=states if at_input else keys,
            states=states[:, 0],
            received=None if at_input else telling(received[0]),
            last_query=None if at_input else received[1],
            sizes=torch.randint(1, 4, (batch, width), generator=draw).float(),
            at_input=at_input,
            encoder=EncoderScores(received[2], received[3]) if at_input else None,
        )

    def _values(
        self, batch: int, heads: int, width: int, size: int, draw: torch.Generator
    ) -> Tensor:
        noise = torch.randn(batch, heads, width, size, generator=draw)
        if self.kind == "smooth":
            noise = noise.cumsum(2)
        elif self.kind == "equal":
            noise = noise[:, :, :1].expand_as(noise)
        elif self.kind == "zero":
            noise = torch.zeros_like(noise)
        return noise.to(self.dtype)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lengths = tuple(draw(st.lists(st.integers(1, 33), min_size=1, max_size=3)))
    return Case(
        lengths=lengths,
        shares=tuple(draw(st.floats(0, 1)) for _ in lengths),
        kind=draw(st.sampled_from(KINDS)),
        dtype=draw(st.sampled_from([torch.float32, torch.bfloat16])),
        seed=draw(st.integers(0, 99)),
    )


@everywhere
@given(case=cases())
@settings(max_examples=25, deadline=None)
def test_exactly_what_is_asked_stays_in_order(name: str, at_input: bool, case: Case) -> None:
    kept, seen = case.kept(name), case.view(at_input)
    plan = get_method(name).plan(seen, kept)
    assert plan.kept == tuple(kept)
    moved = 0
    for row, length in enumerate(case.lengths):
        slots = plan.slot[row].tolist()
        assert set(slots[length:]) <= {-1}
        used = [slot for slot in slots[:length] if slot >= 0]
        assert used == sorted(used)
        assert sorted(set(used)) == list(range(kept[row]))
        moved = max(moved, len(used) - kept[row])
        if kept[row] == length:
            assert used == list(range(length))
    assert plan.moved >= moved


@everywhere
@given(case=cases())
@settings(max_examples=25, deadline=None)
def test_means_are_finite_and_lie_among_their_members(
    name: str, at_input: bool, case: Case
) -> None:
    kept, seen = case.kept(name), case.view(at_input)
    plan = get_method(name).plan(seen, kept)
    mean = plan.mean(seen.states)
    assert mean.dtype == case.dtype
    assert mean.isfinite().all()
    for row, count in enumerate(kept):
        for slot in range(count):
            members = seen.states[row][plan.slot[row] == slot]
            assert (mean[row, slot] <= members.amax(0) + 0.02 * members.abs().amax()).all()
            assert (mean[row, slot] >= members.amin(0) - 0.02 * members.abs().amax()).all()


@everywhere
@given(case=cases())
@settings(max_examples=25, deadline=None)
def test_a_row_does_not_depend_on_its_neighbours(name: str, at_input: bool, case: Case) -> None:
    kept, seen = case.kept(name), case.view(at_input)
    together = get_method(name).plan(seen, kept)
    again = get_method(name).plan(seen, kept)
    assert torch.equal(together.slot, again.slot)
    for row, length in enumerate(case.lengths):
        alone = get_method(name).plan(_single(seen, row), [kept[row]])
        assert torch.equal(alone.slot[0], together.slot[row, :length])
        assert alone.kept == (kept[row],)


def _single(seen: AudioView, row: int) -> AudioView:
    length = seen.lengths[row]
    cut = slice(row, row + 1)
    return AudioView(
        lengths=(length,),
        keys=seen.keys[cut, :, :length],
        states=seen.states[cut, :length],
        received=None if seen.received is None else telling(seen.received()[cut, :length]),
        last_query=None if seen.last_query is None else seen.last_query[cut, :length],
        sizes=seen.sizes[cut, :length],
        at_input=seen.at_input,
        encoder=None
        if seen.encoder is None
        else EncoderScores(seen.encoder.received[cut, :length], seen.encoder.own[cut, :length]),
    )


@st.composite
def texts(draw: st.DrawFn) -> tuple[Case, tuple[int, ...], tuple[int, ...]]:
    """A case with text around it, or none on one side or on both."""
    case = draw(cases())
    before = tuple(draw(st.integers(0, 3)) for _ in case.lengths)
    after = tuple(draw(st.integers(0, 3)) for _ in case.lengths)
    return case, before, after


@everywhere
@given(drawn=texts())
@settings(max_examples=25, deadline=None)
def test_text_is_untouched_wherever_the_audio_stands(
    name: str, at_input: bool, drawn: tuple[Case, tuple[int, ...], tuple[int, ...]]
) -> None:
    case, before, after = drawn
    kept, seen = case.kept(name), case.view(at_input)
    rows = [PromptLengths(*row) for row in zip(before, case.lengths, after, strict=True)]
    reduction = Reduction(get_method(name))
    cache = ReducedCache(rows, [(left,) for left in kept], reduction)
    width = cache.state.width
    hidden = torch.full((len(rows), width, HIDDEN), torch.nan, dtype=case.dtype)
    for index, row in enumerate(rows):
        texts = torch.arange(row.text * HIDDEN).view(-1, HIDDEN).to(case.dtype)
        audio = seen.states[index, : row.audio]
        hidden[index, width - row.total :] = torch.cat(
            [texts[: row.before], audio, texts[row.before :]]
        )
    merged = _merge(hidden, seen, cache)
    assert cache.state.origin is not None and cache.state.sizes is not None
    for index, (row, left) in enumerate(zip(rows, kept, strict=True)):
        real = merged[index, merged.shape[1] - row.text - left :]
        texts = torch.arange(row.text * HIDDEN).view(-1, HIDDEN).to(case.dtype)
        assert torch.equal(real[: row.before], texts[: row.before])
        assert torch.equal(real[row.before + left :], texts[row.before :])
        assert real.isfinite().all()
        origin = cache.state.origin[index, merged.shape[1] - row.text - left :]
        assert (origin.diff() > 0).all()
        assert (origin >= width - row.total).all()
