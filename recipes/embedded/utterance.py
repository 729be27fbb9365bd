"""One recording with its texts, alignment, mood and speakers: what training reads."""

from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

import numpy as np

from . import lexicon
from .augment import ANY_LEVEL_DB, set_level, silence
from .digits import Bank, draw_string
from .grammar import Clause, Split, digit_clause, draw_clause, draw_digits, draw_number, join
from .moods import MOODS, Mood, draw_mood, draw_prosody
from .speech import SAMPLE_RATE, Speech, Synthesiser
from .voices import Voice, draw_other, draw_voice, waver

Kind = Literal["one", "two", "three", "turns", "long", "digits", "number", "isolated", "real"]
"""What is said. One to three clauses; two parts by one speaker or by two ("turns"); many parts by
one or by two ("long", 10 to 30 s); strings of digits: synthetic, synthetic but said one by one,
real; and one number."""

_CLAUSES = {"one": 1, "two": 2, "three": 3}
_DIGIT_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8)
_LONG_SECONDS = (10.0, 28.0)
_LONGEST_SECONDS = 29.8  # the model's window is 30 s


class Turn(NamedTuple):
    """From `start` seconds on, somebody speaks."""

    start: float
    variant: str


@dataclass(frozen=True, slots=True)
class Utterance:
    """Clean speech with what is known about it.

    Attributes:
        kind: what is said.
        text: in English.
        translation: into German.
        speech: sound and alignment.
        turns: who speaks when; of real speakers the name.
        mood: None where nobody decided on one.
        speakers: 1 or 2 where both were possible and made the same way, else None.
        level: loudest sample of the finished recording, in dB below full scale.
        clauses: what may be asked about; none where nothing can be.
    """

    kind: Kind
    text: str
    translation: str
    speech: Speech
    turns: tuple[Turn, ...]
    mood: Mood | None = None
    speakers: int | None = None
    level: float = -3.0
    clauses: tuple[Clause, ...] = ()

    @property
    def speaker(self) -> str:
        """Everybody who speaks, in order of appearance."""
        return " ".join(dict.fromkeys(turn.variant for turn in self.turns))


@dataclass(frozen=True, slots=True)
class Source:
    """Where utterances of a split come from; seeded by its two generators."""

    split: Split
    rng: Random
    noise: np.random.Generator
    synthesiser: Synthesiser
    digits: Bank | None

    def draw(self, kind: Kind) -> list[Utterance]:
        """Draw what a kind says, in one or two ways.

        "one" comes in two moods, "turns" and "long" by one speaker and by two: the same words, so
        that words tell neither.
        """
        if kind == "real":
            return [self._real_digits()]
        if kind == "isolated":
            return [self._isolated_digits()]
        if kind == "one":
            clauses = [draw_clause(self.rng, self.split)]
            return [self._say(kind, clauses, mood) for mood in self.rng.sample(list(MOODS), 2)]
        if kind == "turns":
            clauses = self._clauses(self.rng.choice((1, 2)))
            return self._once_and_twice(kind, clauses, self._parts(clauses))
        if kind == "long":
            clauses = self._clauses(12)
            return self._once_and_twice(kind, clauses, [clause.en for clause in clauses])
        return [self._say(kind, self._content(kind), draw_mood(self.noise))]

    def draw_one(self, kind: Kind) -> Utterance:
        """Draw one utterance of a kind."""
        return self.rng.choice(self.draw(kind))

    def _content(self, kind: Kind) -> list[Clause]:
        if kind == "digits":
            return [draw_digits(self.rng, self.split, self.rng.choice(_DIGIT_COUNTS))]
        if kind == "number":
            return [draw_number(self.rng, self.split)]
        return self._clauses(_CLAUSES[kind])

    def _clauses(self, count: int) -> list[Clause]:
        return [draw_clause(self.rng, self.split) for _ in range(count)]

    def _say(self, kind: Kind, clauses: list[Clause], mood: Mood) -> Utterance:
        """Say clauses with one voice: joined by a word or by a pause, half of them each."""
        prosody = draw_prosody(self.noise, mood)
        voice = draw_voice(self.noise, self.split, prosody)
        joiners = [
            self.rng.choice(lexicon.JOINERS) if self.rng.random() < 0.5 else None
            for _ in clauses[1:]
        ]
        whole = join(clauses, joiners)
        groups = _groups(clauses, joiners)
        speech, _ = self._speak(groups, [voice] * len(groups))
        return Utterance(
            kind,
            whole.en,
            whole.de,
            speech,
            (Turn(0.0, voice.variant),),
            mood,
            level=prosody.level,
            # a string of digits is too long for an answer: only "unknown" would be left
            clauses=() if kind == "digits" else tuple(clauses),
        )

    def _once_and_twice(
        self, kind: Kind, clauses: list[Clause], parts: list[str]
    ) -> list[Utterance]:
        """Say the parts by one speaker, then by two who take turns: same mood, same pauses."""
        mood = draw_mood(self.noise)
        prosody = draw_prosody(self.noise, mood)
        voice = draw_voice(self.noise, self.split, prosody)
        other = draw_other(self.noise, self.split, voice, mood)
        # somebody may say two parts before the other one speaks
        together = 1 if kind == "turns" else int(self.noise.integers(1, 3))
        limit = self.rng.uniform(*_LONG_SECONDS) if kind == "long" else _LONGEST_SECONDS
        pauses, made = self.rng.getstate(), []
        for cast in ((voice, voice), (voice, other)):
            self.rng.setstate(pauses)
            speech, turns = self._speak(
                parts,
                [waver(self.noise, cast[part // together % 2]) for part in range(len(parts))],
                limit,
            )
            said = clauses if kind == "turns" else clauses[: len(turns)]
            whole = join(said, [None] * (len(said) - 1))
            made.append(
                Utterance(
                    kind,
                    whole.en,
                    whole.de,
                    speech,
                    turns,
                    mood,
                    speakers=len({turn.variant for turn in turns}),
                    level=prosody.level,
                    clauses=tuple(said),
                )
            )
        return made

    def _parts(self, clauses: list[Clause]) -> list[str]:
        """Cut what is said into two parts: between two clauses or in the middle of one."""
        if len(clauses) == 2:
            return [clause.en for clause in clauses]
        words = clauses[0].en.split()
        middle = max(1, len(words) // 2 + self.rng.choice((-1, 0, 1)))
        return [" ".join(words[:middle]), " ".join(words[middle:])]

    def _speak(
        self, parts: list[str], voices: list[Voice], limit: float = _LONGEST_SECONDS
    ) -> tuple[Speech, tuple[Turn, ...]]:
        """Say parts one after another with pauses, as many as fit into `limit` seconds."""
        speech = Speech(silence(self._edge()), ())
        turns: list[Turn] = []
        for text, voice in zip(parts, voices, strict=True):
            pause = self.rng.uniform(0.0, 0.7) if turns else 0.0
            said = _with_silence(self.synthesiser.say(text, voice), pause, self._edge())
            if turns and speech.seconds + said.seconds > limit:
                break
            turns.append(Turn(speech.seconds, voice.variant))
            speech = concatenate(speech, said)
        return speech, tuple(turns)

    def _edge(self) -> float:
        return self.rng.uniform(0.0, 0.35)

    def _isolated_digits(self) -> Utterance:
        """Say digits one by one, as the real recordings are made, in one voice."""
        mood = draw_mood(self.noise)
        prosody = draw_prosody(self.noise, mood)
        voice = draw_voice(self.noise, self.split, prosody)
        count = self.rng.choice(_DIGIT_COUNTS)
        clause = digit_clause([self.rng.choice(lexicon.DIGITS).en for _ in range(count)])
        speech = Speech(silence(self._edge()), ())
        for word in clause.en.split():
            digit = _trimmed(self.synthesiser.say(word, voice))
            gap = self.rng.uniform(0.03, 0.35)
            speech = concatenate(speech, _with_silence(digit, 0.0, gap))
        turns = (Turn(0.0, voice.variant),)
        return Utterance("isolated", clause.en, clause.de, speech, turns, mood, level=prosody.level)

    def _real_digits(self) -> Utterance:
        if self.digits is None:
            raise ValueError("real digit strings need the folder of digit recordings")
        heldout = self.split == "heldout"
        count = self.rng.choice(_DIGIT_COUNTS[2:] if heldout else _DIGIT_COUNTS)
        speaker, words, speech = draw_string(
            self.digits, self.noise, count, 0.0 if heldout else 0.2
        )
        clause = digit_clause(words)
        speech = _with_silence(speech, self._edge(), self._edge())
        level = float(self.noise.uniform(*ANY_LEVEL_DB))
        return Utterance("real", clause.en, clause.de, speech, (Turn(0.0, speaker),), level=level)


def concatenate(first: Speech, second: Speech) -> Speech:
    """Join two recordings; the second's words are counted on from the first's."""
    words = 1 + max((word for _, _, word in first.phones), default=-1)
    moved = tuple(
        (start + first.seconds, name, word + words if word >= 0 else -1)
        for start, name, word in second.phones
    )
    return Speech(np.concatenate([first.samples, second.samples]), first.phones + moved)


def _groups(clauses: list[Clause], joiners: list[lexicon.Pair | None]) -> list[str]:
    """Texts that are said in one breath."""
    groups = [clauses[0].en]
    for clause, joiner in zip(clauses[1:], joiners, strict=True):
        if joiner is None:
            groups.append(clause.en)
        else:
            groups[-1] += f" {joiner.en} {clause.en}"
    return groups


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
