"""Measures as sums: each recording's row of counts, and what the sum of such rows says.

A resample of the recordings is then a weighted sum of rows; nothing is aligned twice. jiwer and
sacrebleu are imported inside the calls: they are an extra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..labels import label_of
from .normalise import normaliser, normaliser_name, plain_answer
from .references import Reference

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """What a number means.

    Attributes:
        name: key in JSON.
        title: for people.
        lower_is_better: whether it counts errors.
        signature: how it was computed, as sacrebleu writes it.
    """

    name: str
    title: str
    lower_is_better: bool
    signature: str


@dataclass(frozen=True, slots=True)
class Tally:
    """One measure over a set.

    Attributes:
        measure: what it means.
        rows: counts of each recording, (recordings, counts).
        value: sums of rows, (draws, counts) -> the measure, (draws,), in percent or points.
    """

    measure: Measure
    rows: Counts
    value: Callable[[Counts], Counts]


def tallies(
    task: str, references: Sequence[Reference], answers: Sequence[str], language: str | None
) -> tuple[Tally, ...]:
    """The measures of a task, the one that matters most first; empty for a task without any.

    Args:
        task: asr | st | er | sv | sqa.
        references: right answers of each recording, none of them empty.
        answers: what the model wrote, raw.
        language: code of the language of the texts (for st the target), None = not known.
    """
    return _BY_TASK[task](references, answers, language) if task in _BY_TASK else ()


def _asr(
    references: Sequence[Reference], answers: Sequence[str], language: str | None
) -> tuple[Tally, ...]:
    import jiwer

    clean = normaliser(language)
    pairs = [
        (clean(wanted[0]), clean(text)) for wanted, text in zip(references, answers, strict=True)
    ]
    words = [_errors(jiwer.process_words(*pair)) for pair in pairs]
    letters = [_errors(jiwer.process_characters(*pair)) for pair in pairs]
    how = f"jiwer:{_version('jiwer')}|norm:whisper-{normaliser_name(language)}"
    return (
        Tally(Measure("wer", "WER %", True, how), np.array(words, float), _rate),
        Tally(Measure("cer", "CER %", True, how), np.array(letters, float), _rate),
    )


def _errors(found: Any) -> tuple[int, int]:
    """Errors, and length of the reference, out of jiwer's counts."""
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits


def _rate(sums: Counts) -> Counts:
    share: Counts = 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)
    return share


def _st(
    references: Sequence[Reference], answers: Sequence[str], language: str | None
) -> tuple[Tally, ...]:
    from sacrebleu.metrics import BLEU, CHRF

    found = []
    # 13a splits at spaces, of which these languages have none
    bleu = BLEU(tokenize={"zh": "zh", "yue": "zh", "ja": "char"}.get(language or "", "13a"))
    for name, title, metric in (("bleu", "BLEU", bleu), ("chrf++", "chrF++", CHRF(word_order=2))):
        wanted = [reference[0] for reference in references]
        rows = metric._extract_corpus_statistics(list(answers), [wanted])
        measure = Measure(name, title, False, str(metric.get_signature()))
        found.append(Tally(measure, np.array(rows, float), _sacrebleu(metric)))
    return tuple(found)


def _sacrebleu(metric: Any) -> Callable[[Counts], Counts]:
    return lambda sums: np.array([metric._compute_score_from_stats(row).score for row in sums])


def _labels(task: str) -> Callable[..., tuple[Tally, ...]]:
    def tally(
        references: Sequence[Reference], answers: Sequence[str], language: str | None
    ) -> tuple[Tally, ...]:
        said = [label_of(task, text) for text in answers]
        wanted = [reference[0] for reference in references]
        hits = [one == other for one, other in zip(said, wanted, strict=True)]
        return (
            Tally(Measure("accuracy", "accuracy %", False, "words"), _shares(hits), _rate),
            Tally(
                Measure("macro_f1", "macro-F1 %", False, "labels:of-references"),
                _confusions(said, wanted),
                _macro_f1,
            ),
            _unparsable([label is None for label in said]),
        )

    return tally


def _confusions(said: Sequence[str | None], wanted: Sequence[str]) -> Counts:
    """For each label of the references: hit, said, wanted; (recordings, 3 * labels)."""
    columns = []
    for label in sorted(set(wanted)):
        called = np.array([one == label for one in said])
        right = np.array([one == label for one in wanted])
        columns += [called & right, called, right]
    return np.stack(columns, axis=1).astype(float)


def _macro_f1(sums: Counts) -> Counts:
    """Mean over the labels that a draw has at all."""
    hit, said, wanted = (sums[:, start::3] for start in range(3))
    there = said + wanted > 0
    f1 = np.divide(2 * hit, said + wanted, out=np.zeros_like(hit), where=there)
    mean: Counts = 100 * f1.sum(axis=1) / there.sum(axis=1)
    return mean


def _sqa(
    references: Sequence[Reference], answers: Sequence[str], language: str | None
) -> tuple[Tally, ...]:
    said = [plain_answer(text) for text in answers]
    hits = [
        one in {plain_answer(text) for text in wanted}
        for one, wanted in zip(said, references, strict=True)
    ]
    return (
        Tally(Measure("exact_match", "exact %", False, "norm:squad"), _shares(hits), _rate),
        _unparsable([not one for one in said]),
    )


def _unparsable(lost: Sequence[bool]) -> Tally:
    measure = Measure("unparsable", "unparsable %", True, "no-answer")
    return Tally(measure, _shares(lost), _rate)


def _shares(yes: Sequence[bool]) -> Counts:
    return np.stack([np.array(yes, float), np.ones(len(yes))], axis=1)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


_BY_TASK = {"asr": _asr, "st": _st, "er": _labels("er"), "sv": _labels("sv"), "sqa": _sqa}
MEASURED = tuple(_BY_TASK)
"""Tasks that can be scored."""
