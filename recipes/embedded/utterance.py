"""One recording with its texts and alignment: what synthesis makes and training reads."""

from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np

from . import lexicon
from .augment import set_level, silence
from .digits import Bank, draw_string
from .grammar import Clause, Split, digit_clause, draw_clause, draw_digits, join
from .speech import SAMPLE_RATE, Speech, Synthesiser
from .voices import Voice, draw_voice

Kind = Literal["one", "two", "three", "digits", "isolated", "real"]
"""One to three clauses; strings of digits: synthetic, synthetic but said one by one, real."""

_CLAUSES = {"one": 1, "two": 2, "three": 3}
_DIGIT_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Clean speech with its English text, its German translation and its speaker."""

    kind: Kind
    text: str
    translation: str
    speaker: str
    speech: Speech


@dataclass(frozen=True, slots=True)
class Source:
    """Where utterances of a split come from; seeded by its two generators."""

    split: Split
    rng: Random
    noise: np.random.Generator
    synthesiser: Synthesiser
    digits: Bank | None

    def draw(self, kind: Kind) -> Utterance:
        """Draw a random utterance of a kind."""
        if kind == "real":
            return self._real_digits()
        if kind == "digits":
            count = self.rng.choice(_DIGIT_COUNTS)
            return self._say(kind, [draw_digits(self.rng, self.split, count)])
        if kind == "isolated":
            return self._isolated_digits()
        clauses = [draw_clause(self.rng, self.split) for _ in range(_CLAUSES[kind])]
        return self._say(kind, clauses)

    def _say(self, kind: Kind, clauses: list[Clause]) -> Utterance:
        """Say clauses with one voice: joined by a word or by a pause, half of them each."""
        voice = draw_voice(self.noise, self.split)
        joiners = [
            self.rng.choice(lexicon.JOINERS) if self.rng.random() < 0.5 else None
            for _ in clauses[1:]
        ]
        whole = join(clauses, joiners)
        speech = self._concatenate(clauses, joiners, voice)
        return Utterance(kind, whole.en, whole.de, voice.name, speech)

    def _concatenate(
        self, clauses: list[Clause], joiners: list[lexicon.Pair | None], voice: Voice
    ) -> Speech:
        groups = [clauses[0].en]
        for clause, joiner in zip(clauses[1:], joiners, strict=True):
            if joiner is None:
                groups.append(clause.en)
            else:
                groups[-1] += f" {joiner.en} {clause.en}"
        speech = _with_silence(self.synthesiser.say(groups[0], voice), self._edge(), self._edge())
        for text in groups[1:]:
            pause = self.rng.uniform(0.0, 0.9)
            following = _with_silence(self.synthesiser.say(text, voice), pause, self._edge())
            speech = concatenate(speech, following)
        return speech

    def _edge(self) -> float:
        return self.rng.uniform(0.0, 0.35)

    def _isolated_digits(self) -> Utterance:
        """Say digits one by one, as the real recordings are made, in one voice."""
        voice = draw_voice(self.noise, self.split)
        count = self.rng.choice(_DIGIT_COUNTS)
        clause = digit_clause([self.rng.choice(lexicon.DIGITS).en for _ in range(count)])
        speech = Speech(silence(self._edge()), ())
        for word in clause.en.split():
            digit = _trimmed(self.synthesiser.say(word, voice))
            gap = self.rng.uniform(0.03, 0.35)
            speech = concatenate(speech, _with_silence(digit, 0.0, gap))
        return Utterance("isolated", clause.en, clause.de, voice.name, speech)

    def _real_digits(self) -> Utterance:
        if self.digits is None:
            raise ValueError("real digit strings need the folder of digit recordings")
        heldout = self.split == "heldout"
        count = self.rng.choice(_DIGIT_COUNTS[2:] if heldout else _DIGIT_COUNTS)
        speaker, words, speech = draw_string(
            self.digits, self.noise, count, 0.0 if heldout else 0.15
        )
        clause = digit_clause(words)
        speech = _with_silence(speech, self._edge(), self._edge())
        return Utterance("real", clause.en, clause.de, speaker, speech)


def concatenate(first: Speech, second: Speech) -> Speech:
    """Join two recordings; the second's words are counted on from the first's."""
    words = 1 + max((word for _, _, word in first.phones), default=-1)
    moved = tuple(
        (start + first.seconds, name, word + words if word >= 0 else -1)
        for start, name, word in second.phones
    )
    return Speech(np.concatenate([first.samples, second.samples]), first.phones + moved)


def _trimmed(speech: Speech) -> Speech:
    """Drop the pause that the synthesiser puts behind a sentence."""
    end = next((start for start, _, word in speech.phones if word < 0 and start > 0), None)
    last = len(speech.samples) if end is None else int(end * SAMPLE_RATE)
    phones = tuple(phone for phone in speech.phones if end is None or phone[0] <= end)
    return Speech(speech.samples[:last], phones)


def _with_silence(speech: Speech, before: float, after: float) -> Speech:
    lead = silence(before)
    samples = np.concatenate([lead, set_level(speech.samples, -3.0), silence(after)])
    shift = len(lead) / SAMPLE_RATE
    phones = tuple((start + shift, name, word) for start, name, word in speech.phones)
    return Speech(samples, phones)
