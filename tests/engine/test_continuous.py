"""Continuous batching: an answer does not depend on who is beside it, nor on what fails there."""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config import ReductionConfig
from core.engine import Engine, ceiling, cost, greedy, memory, peak, runner, steps
from core.engine.batching import Waiting, portions
from core.engine.generate import prefill
from core.engine.job import asked
from core.engine.memory import Room, out_of_memory
from core.errors import StartError
from core.models.base import Encoded, SpeechLM
from core.records import Hypothesis, Segment, Waveform
from tests.engine.made import config, segments

RAGGED = (1.9, 0.3, 1.2, 0.7, 1.6, 0.4, 1.0, 0.2, 1.4)
# padding and rounding are not a segment's own
SHARED = {"encode_s", "prefill_s", "decode_s", "first_token_s", "encoder_flops", "peak_bytes"}
HOW = {
    "constant": ReductionConfig("fastadasp", "constant", 0.3, "keep", 0.0),
    "reindex": ReductionConfig("fastadasp", "decay", 0.4, "reindex", 0.3),
    "size bias": ReductionConfig("ward", "once", 0.4, "keep", 0.0),
    "input": ReductionConfig("sa-map", "input", 0.3, "keep", 0.0),
    "full": ReductionConfig("none", "constant", 0.0, "keep", 0.0),
}

counts_anew = pytest.mark.skipif(
    not peak.reset_peak(torch.device("cpu")), reason="no peak can be reset here"
)


@pytest.fixture
def whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups go through encoder and prefill at once, as they do on a GPU."""
    monkeypatch.setattr("core.engine.windows.CPU_PORTION", math.inf)


def own(found: Hypothesis) -> dict[str, Any]:
    """The part of an answer's cost that is the segment's alone."""
    return {name: value for name, value in asdict(found.cost).items() if name not in SHARED}


@pytest.mark.parametrize("how", HOW)
def test_company_changes_neither_text_nor_cost(lm: SpeechLM, how: str) -> None:
    settings = {"reduction": HOW[how], "max_new_tokens": None}
    with Engine(lm, config(**settings, batch_size=4)) as engine:
        together = engine.run(segments(*RAGGED))
    with Engine(lm, config(**settings)) as engine:
        alone = [engine.run([piece])[0] for piece in segments(*RAGGED)]
    assert [found.text for found in together] == [found.text for found in alone]
    assert [own(found) for found in together] == [own(found) for found in alone]
    assert len({found.text for found in alone}) == len(RAGGED)
    assert {found.batch_size for found in together} == {4}


class Watched:
    """Groups that started, and the rows that were open at each step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
        self.groups: list[int] = []
        self.steps: list[int] = []
        start, step = engine.runner.start, greedy.Pool.step

        def started(jobs: Any) -> Any:
            self.groups.append(len(jobs))
            return start(jobs)

        def stepped(pool: greedy.Pool) -> None:
            self.steps.append(pool.open)
            step(pool)

        # a second attempt is a group of its own
        monkeypatch.setattr("core.engine.runner.looped", lambda *_: False)
        monkeypatch.setattr(engine.runner, "start", started)
        monkeypatch.setattr(greedy.Pool, "step", stepped)


def test_rows_that_end_are_replaced(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(lm, config(max_new_tokens=None, batch_size=4)) as engine:
        watched = Watched(monkeypatch, engine)
        found = list(engine.transcribe(segments(*RAGGED)))
    assert watched.groups == [4, 1, 1, 1, 1, 1]
    # nobody waits for the longest: only the last rows step alone
    first_short = next(n for n, rows in enumerate(watched.steps) if rows < 4)
    assert sum(watched.steps) == sum(one.cost.generated - 1 for one in found)
    assert set(watched.steps[:first_short]) == {4}
    assert len(watched.steps) < sum(sorted(one.cost.generated for one in found)[-3:])


@pytest.mark.usefixtures("whole_groups")
def test_a_group_waits_until_a_quarter_of_the_rows_is_free(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(lm, config(max_new_tokens=None, batch_size=8)) as engine:
        watched = Watched(monkeypatch, engine)
        list(engine.transcribe(segments(*(0.1 * n for n in range(1, 17)))))
    assert watched.groups == [8, 2, 2, 2, 2]


def test_a_cpu_takes_a_group_in_portions(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [0.1 * n for n in range(1, 12)]
    monkeypatch.setattr("core.engine.windows.CPU_PORTION", 2.05)
    monkeypatch.setattr("core.engine.runner.looped", lambda *_: False)
    with Engine(lm, config(max_new_tokens=None)) as engine:
        expected = [engine.run([piece])[0].text for piece in segments(*lengths)]
    with Engine(lm, config(max_new_tokens=None, batch_size=9)) as engine:
        watched = Watched(monkeypatch, engine)
        found = engine.run(segments(*lengths))
    # as many as, each as long as the longest, take no more than 2 s
    assert watched.groups == [2, 2, 4, 1, 1, 1]
    assert watched.steps[0] == 9
    assert [one.text for one in found] == expected


@pytest.mark.parametrize(
    "settings", [{"num_beams": 2}, {"reduction": ReductionConfig("h2o", None, 0.3, None, 0.0)}]
)
def test_rows_that_cannot_be_moved_are_not_parted(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    with Engine(lm, config(batch_size=6, **settings)) as engine:
        watched = Watched(monkeypatch, engine)
        assert all(found.text for found in engine.run(segments(*[0.5] * 6)))
    assert watched.groups == [6]


def test_the_tasks_of_a_sound_stay_in_one_portion(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(lm, config()) as engine:
        tasks = (("asr", "sqa"), ("asr",), ("asr", "sqa", "st"), ("asr",))
        pieces = segments(*[0.5] * 4)
        asking = [replace(one, tasks=own) for one, own in zip(pieces, tasks, strict=True)]
        jobs = [engine.runner.job(one) for piece in asking for one in asked(piece)]
    monkeypatch.setattr("core.engine.windows.CPU_PORTION", 1.0)
    parts = portions(jobs, lm.device)
    assert [[job.segment.index for job in part] for part in parts] == [[0, 0, 1], [2, 2, 2, 3]]
    assert [job for part in parts for job in part] == jobs


def test_answers_come_as_soon_as_they_end(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(lm, config(max_new_tokens=None)) as engine:
        watched = Watched(monkeypatch, engine)
        stream = engine.transcribe(segments(0.2, 1.9))
        assert next(stream).index == 0
        assert len(watched.steps) < 20
        assert next(stream).index == 1
    assert len(watched.steps) > 30


def test_shares_of_the_time_add_up(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def later(seconds: float, plain: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal now
            now += seconds
            return plain(*args, **kwargs)

        return timed

    monkeypatch.setattr(cost.time, "perf_counter", lambda: now)
    with Engine(lm, config(max_new_tokens=None, batch_size=2)) as engine:
        watched = Watched(monkeypatch, engine)
        monkeypatch.setattr(lm, "encode", later(1.0, lm.encode))
        monkeypatch.setattr("core.engine.runner.prefill", later(10.0, prefill))
        monkeypatch.setattr(greedy.Pool, "join", later(100.0, greedy.Pool.join))
        monkeypatch.setattr(greedy.Pool, "step", later(1000.0, greedy.Pool.step))
        found = []
        for answer in engine.transcribe(segments(1.5, 1.0, 0.5)):
            found.append(answer)
            now += 1e6  # what the reader of the answers does is not the model's time
    groups, steps = len(watched.groups), len(watched.steps)
    assert sum(one.cost.encode_s for one in found) == pytest.approx(groups)
    assert sum(one.cost.prefill_s for one in found) == pytest.approx(110 * groups)
    assert sum(one.cost.decode_s for one in found) == pytest.approx(1000 * steps)
    assert {one.cost.first_token_s for one in found} == {111.0}
    long, middle, _ = (one.cost for one in sorted(found, key=lambda one: one.index))
    assert (long.encode_s, middle.encode_s) == (pytest.approx(0.6), pytest.approx(0.4))
    # the middle one had company in each of its steps
    assert middle.decode_s == pytest.approx(500 * (middle.generated - 1))


def test_a_first_token_waits_for_all_portions_of_its_group(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def later(plain: Any) -> Any:
        def timed(*args: Any) -> Any:
            nonlocal now
            now += 1.0
            return plain(*args)

        return timed

    monkeypatch.setattr(cost.time, "perf_counter", lambda: now)
    monkeypatch.setattr("core.engine.windows.CPU_PORTION", 2.0)
    with Engine(lm, config(batch_size=6)) as engine:
        monkeypatch.setattr(lm, "encode", later(lm.encode))
        found = engine.run(segments(*[0.5] * 6))
    assert [one.cost.encode_s for one in found] == pytest.approx([0.25] * 4 + [0.5] * 2)
    assert {one.cost.first_token_s for one in found} == {2.0}


class Narrow:
    """An encoder that runs out of memory above so many rows."""

    def __init__(self, plain: Any, most: int) -> None:
        self.plain, self.most, self.sizes = plain, most, list[int]()

    def __call__(self, waves: Sequence[Waveform], scored: bool = False) -> Encoded:
        self.sizes.append(len(waves))
        if len(waves) > self.most or any(len(wave) == 16_000 for wave in waves):
            raise torch.OutOfMemoryError("out of memory")
        encoded: Encoded = self.plain(waves, scored)
        return encoded


@pytest.mark.usefixtures("whole_groups")
@pytest.mark.parametrize("beams", [1, 2])
def test_what_does_not_fit_is_halved_and_remembered(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    narrow = Narrow(lm.encode, 2)
    monkeypatch.setattr(lm, "encode", narrow)
    with Engine(lm, config(num_beams=beams, batch_size=8)) as engine:
        found = engine.run(segments(*[0.5] * 11))
    assert [piece.index for piece in found] == list(range(11))
    assert all(piece.text and piece.error is None for piece in found)
    assert narrow.sizes[:3] == [8, 4, 2]
    assert max(narrow.sizes[2:]) == 2
    assert {piece.batch_size for piece in found} <= {1, 2}


@pytest.mark.usefixtures("whole_groups")
@pytest.mark.parametrize("beams", [1, 2])
def test_halving_goes_down_to_one_and_stays_there(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    narrow = Narrow(lm.encode, 1)
    monkeypatch.setattr(lm, "encode", narrow)
    with Engine(lm, config(num_beams=beams, batch_size=8)) as engine:
        found = engine.run(segments(*[0.5] * 5, 1.0, *[0.5] * 5))
    assert [piece.index for piece in found if piece.error] == [5]
    assert all(piece.text for piece in found if piece.index != 5)
    # each is tried once, but for those of the tries that failed
    assert narrow.sizes == [8, 4, 2, 1, *narrow.sizes[4:]]
    assert max(narrow.sizes[-8:]) == 1


@pytest.mark.usefixtures("whole_groups")
@pytest.mark.parametrize("reduce", [0.0, 0.6])
def test_rows_are_as_many_as_the_memory_holds(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, reduce: float
) -> None:
    with Engine(lm, config(0.0, max_new_tokens=None)) as engine:
        full = max(engine.runner.job(piece).size for piece in segments(1.8))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2 * 5.5 * full)
    with Engine(lm, config(reduce, max_new_tokens=None)) as engine:
        watched = Watched(monkeypatch, engine)
        list(engine.transcribe(segments(*[1.8] * 10)))
    # a shorter cache leaves room for more
    assert watched.groups[0] > 5 if reduce else watched.groups[0] == 5
    with Engine(lm, config(reduce, batch_size=10)) as engine:
        watched = Watched(monkeypatch, engine)
        list(engine.transcribe(segments(*[1.8] * 10)))
    assert watched.groups == [10]


class Hungry:
    """An encoder that takes so many bytes a row while it works, and gives them back."""

    def __init__(self, plain: Any, row: int) -> None:
        self.plain, self.row, self.sizes = plain, row, list[int]()

    def __call__(self, waves: Sequence[Waveform], scored: bool = False) -> Encoded:
        self.sizes.append(len(waves))
        taken = [torch.ones(self.row * (1 + 9 * (len(wave) == 16_000)) // 4) for wave in waves]
        encoded: Encoded = self.plain(waves, scored)
        del taken
        return encoded


def really_held(lm: SpeechLM) -> int:
    """Bytes of this process, without what earlier tests freed and the allocator kept."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return peak.held_bytes(lm.device) or 0


@pytest.mark.usefixtures("whole_groups")
@counts_anew
@pytest.mark.parametrize("beams", [1, 2])
def test_what_goes_above_max_memory_is_halved_and_remembered(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    with Engine(lm, config(num_beams=beams)) as engine:  # what is taken once is taken before
        expected = [found.text for found in engine.run(segments(*[0.5] * 10))]
    hungry = Hungry(lm.encode, 100 * 2**20)
    monkeypatch.setattr(lm, "encode", hungry)
    limit = really_held(lm) + 300 * 2**20
    with Engine(lm, config(num_beams=beams, batch_size=8, max_memory=limit)) as engine:
        found = engine.run(segments(*[0.5] * 10))
    assert hungry.sizes[:3] == [8, 4, 2]
    assert max(hungry.sizes[2:]) == 2
    assert [piece.text for piece in found] == expected


@counts_anew
def test_a_segment_that_alone_goes_above_max_memory_fails_alone(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(lm, config()) as engine:
        engine.run(segments(1.0, *[0.5] * 3))
    hungry = Hungry(lm.encode, 40 * 2**20)
    monkeypatch.setattr(lm, "encode", hungry)
    limit = really_held(lm) + 240 * 2**20
    with Engine(lm, config(batch_size=4, max_memory=limit)) as engine:
        found = engine.run(segments(1.0, *[0.5] * 3))
    assert [piece.error is None for piece in found] == [False, True, True, True]
    assert "--max-memory is" in str(found[0].error)
    assert hungry.sizes == [4, 2, 1, 3]


@pytest.mark.skipif(peak.held_bytes(torch.device("cpu")) is None, reason="nothing is told here")
def test_only_one_segment_fails_above_max_memory_where_the_peak_stays(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lengths = (0.5, 1.0, 0.5, 0.5)
    with Engine(lm, config()) as engine:
        engine.run(segments(*lengths))
    monkeypatch.setattr(peak, "_CLEAR_REFS", tmp_path / "no folder" / "clear_refs")
    held = really_held(lm)
    row = ((peak.peak_bytes(lm.device) or 0) - held) // 10 + 24 * 2**20  # the long one takes ten
    monkeypatch.setattr(lm, "encode", Hungry(lm.encode, row))
    with Engine(lm, config(batch_size=1, max_memory=held + 5 * row)) as engine:
        found = engine.run(segments(*lengths))
    assert [piece.error is None for piece in found] == [True, False, True, True]


def test_max_memory_below_the_model_itself_cannot_start(lm: SpeechLM) -> None:
    engine = Engine(lm, config(max_memory=2**20))
    with pytest.raises(StartError, match=r"--max-memory 0.00G: .* in use already; give more"):
        engine.__enter__()
    # nothing was left behind on the model
    with Engine(lm, config()) as engine:
        assert engine.run(segments(0.5))[0].error is None


def test_max_memory_bounds_the_rows_beforehand(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(lm, config(0.0)) as engine:
        size = max(engine.runner.job(piece).size for piece in segments(1.8))
    monkeypatch.setattr(ceiling, "held_bytes", lambda device: 100)
    monkeypatch.setattr(ceiling, "peak_bytes", lambda device: 100)
    with Engine(lm, config(0.0, max_memory=int(100 + 3.5 * size))) as engine:
        watched = Watched(monkeypatch, engine)
        list(engine.transcribe(segments(*[1.8] * 10)))
    assert watched.groups[0] == 3


def test_what_this_machine_has_is_known() -> None:
    left = memory.available_bytes(torch.device("cpu"))
    assert left is None or left > 2**20


@pytest.mark.parametrize("beams", [1, 2])
def test_a_segment_too_large_for_the_memory_fails_alone_and_is_forgotten(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    narrow = Narrow(lm.encode, 4)
    monkeypatch.setattr(lm, "encode", narrow)
    with Engine(lm, config(num_beams=beams, batch_size=4)) as engine:
        found = engine.run(segments(1.0, *[0.5] * 6))
    assert [piece.error for piece in found] == ["out of memory", *[None] * 6]
    # the others are as many at a time as before
    assert narrow.sizes[:4] == [4, 2, 1, 4]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), KeyError("a bug")])
def test_a_step_that_fails_starts_its_rows_over(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plain, rows = steps.step, list[int]()

    def step(decoder: Any, cache: Any, tokens: Any, *more: Any) -> Any:
        rows.append(len(tokens))
        if len(tokens) > 3:
            raise error
        return plain(decoder, cache, tokens, *more)

    with Engine(lm, config(batch_size=6)) as engine:
        expected = [found.text for found in engine.run(segments(*RAGGED))]
        monkeypatch.setattr(steps, "step", step)
        found = engine.run(segments(*RAGGED))
    assert [piece.text for piece in found] == expected
    assert rows[0] == 6
    assert 3 in rows


def test_a_beam_search_that_runs_out_of_memory_is_halved(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, sizes = runner.beam_search, list[int]()

    def search(decoder: Any, start: Any, caps: Sequence[int], *more: Any) -> Any:
        sizes.append(len(caps))
        if len(caps) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return plain(decoder, start, caps, *more)

    with Engine(lm, config(num_beams=3, batch_size=6)) as engine:
        expected = [found.text for found in engine.run(segments(*RAGGED))]
        monkeypatch.setattr(runner, "beam_search", search)
        found = engine.run(segments(*RAGGED))
    assert [piece.text for piece in found] == expected
    assert sizes[:2] == [6, 3]
    assert max(sizes[2:]) <= 2
    assert sum(sizes[2:]) == len(RAGGED)


def test_a_bug_costs_the_segment_that_meets_it(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = lm.encode

    def encode(waves: Sequence[Waveform], scored: bool = False) -> Encoded:
        if any(len(wave) == 16_000 for wave in waves):
            raise AttributeError("a bug")
        return plain(waves, scored)

    monkeypatch.setattr(lm, "encode", encode)
    with Engine(lm, config()) as engine:
        found = engine.run(segments(0.5, 1.0, 0.8, 1.2, 0.3))
    assert [piece.error for piece in found] == [None, "a bug", None, None, None]


def test_what_the_source_raises_ends_it(lm: SpeechLM) -> None:
    def source() -> Iterator[Segment]:
        yield from segments(0.5, 1.0)
        raise KeyError("the reader's own")

    with Engine(lm, config()) as engine, pytest.raises(KeyError, match="own"):
        list(engine.transcribe(source()))


def test_windows_are_bounded_and_meet_at_like_lengths(lm: SpeechLM) -> None:
    made = Engine(lm, config()).runner
    taken = []

    def source() -> Any:
        for piece in segments(*[0.1 * n for n in range(1, 13)]):
            taken.append(piece.index)
            yield made.job(piece)

    waiting = Waiting(source(), 1)
    one = waiting.take(1, lambda group: True)
    # the model begins as soon as one batch is there
    assert len(taken) == 1
    first = waiting.take(9, lambda group: len(group) < 6)
    assert [job.segment.index for job in one + first] == [0, 1, 2, 6, 5, 4]
    assert len(taken) == 7
    waiting.put_back(first)
    rest = [job.segment.index for job in waiting.take(99, lambda group: True)]
    assert rest == [1, 2, 6, 5, 4, 3, 7, 8, 9, 10, 11]


def test_allocators_say_it_in_several_ways() -> None:
    assert out_of_memory(torch.OutOfMemoryError("x"))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert out_of_memory(RuntimeError("MPS backend out of memory"))
    assert not out_of_memory(RuntimeError("shape mismatch"))
    assert not out_of_memory(ValueError("out of memory"))


def test_room_forgets_only_what_one_row_taught_it() -> None:
    room = Room(100)
    room.shrink(80)
    assert not room.holds(41)
    room.shrink(30)
    room.forgive()
    assert room.holds(100)
    room.shrink(80)
    room.settle()
    room.forgive()
    assert not room.holds(41)
