"""Shards on disk -> batches of tensors. Knows features, labels and packing, not the model.

Every utterance is packed once: the chat prefix, its audio, then one suffix per task. The suffixes
see the prefix and themselves but not each other, and each restarts its positions behind the audio,
so that every task sees exactly what it would see alone.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .features import N_MELS, encoder_lengths, floor_of
from .moods import MOODS
from .questions import singular
from .tasks import examples_of
from .tokens import answer_ids, prompt_ids

IGNORED = -100
"""Label of a position that no loss looks at."""

_MAX_MASKS, _MAX_BANDS, _MAX_FRAMES = 2, 12, 10  # SpecAugment, light
_WARPED, _WARP = 0.4, 0.12  # vocal tract length perturbation: share of recordings, reach
_REAL_WARPED, _REAL_WARP = 0.8, 0.2  # real digits: many speakers of a few
_TONE, _REAL_TONE = 0.06, 0.25  # reach of another microphone, 40 dB = 1: 2.4 and 10 dB
_TONE_POINTS = 7
_LEVEL_SHIFT = 0.04  # 1.6 dB: loudness tells moods apart, so it must not be blurred more
_CACHED = 50_000

CLAUSES = 3
"""A question's marks tell so many clauses apart; longer recordings have none."""


@dataclass(frozen=True, slots=True)
class Item:
    """A row of a shard's index and the shard's features (n_frames, N_MELS), mapped lazily."""

    row: dict[str, Any]
    shard: NDArray[np.float16]

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return float(self.row["seconds"])

    def mel(self) -> NDArray[np.float32]:
        """Read the features (n_frames, N_MELS)."""
        start = self.row["start"]
        return self.shard[start : start + self.row["frames"]].astype(np.float32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step; B utterances, T mel frames, S packed positions.

    mel (B, N_MELS, T); frames (B,) encoder frames; tokens (B,) audio tokens; phones (B, T / 2) and
    words (B, T / 4) frame labels; ids, positions, labels (B, S); is_audio (B, S); visible
    (B, 1, S, S); weights (B, S) of the labels; fits and sought (B, S): where a question has named
    something, bit k of the one is set if clause k fits so far, and the other is the word's number,
    which heard (B, S) has at the audio tokens that say it; voices, moods and others (B, T / 4)
    frame labels, others 1 where somebody else speaks in the same recording;
    transcript (sum of lengths,) word numbers and transcript_lengths (B,) for CTC, and likewise
    sounds, phoneme numbers of recordings without alignment; a length of 0 has no CTC.
    """

    mel: Tensor
    frames: Tensor
    tokens: Tensor
    phones: Tensor
    words: Tensor
    ids: Tensor
    positions: Tensor
    labels: Tensor
    is_audio: Tensor
    visible: Tensor
    weights: Tensor
    fits: Tensor
    sought: Tensor
    heard: Tensor
    voices: Tensor
    moods: Tensor
    others: Tensor
    transcript: Tensor
    transcript_lengths: Tensor
    sounds: Tensor
    sounds_lengths: Tensor
    seconds: float


def load_items(folder: Path) -> list[Item]:
    """Read the index of every complete shard in a folder."""
    items = []
    for index in sorted(folder.glob("shard-*.jsonl")):
        shard = np.load(index.with_suffix(".npy"), mmap_mode="r")
        with index.open(encoding="utf-8") as lines:
            items += [Item(json.loads(line), shard) for line in lines]
    if not items:
        raise ValueError(f"no shards in {folder}: run recipes.embedded.synthesise first")
    return items


def group_by_length(items: list[Item], batch_seconds: float, rng: Random) -> list[list[Item]]:
    """Cut items into shuffled batches of similar length, `batch_seconds` of padded audio each."""
    ordered = sorted(items, key=lambda item: item.seconds + rng.uniform(0, 0.5))
    batches: list[list[Item]] = []
    current: list[Item] = []
    longest = 0.0
    for item in ordered:
        longest = max(longest, item.seconds)
        current.append(item)
        if len(current) * longest >= batch_seconds:
            batches.append(current)
            current, longest = [], 0.0
    if current:
        batches.append(current)
    rng.shuffle(batches)
    return batches


@dataclass(frozen=True, slots=True)
class Tables:
    """Numbers of what the frame losses tell apart, from 1 (0: silence), voices and moods from 0."""

    phones: dict[str, int]
    words: dict[str, int]
    voices: dict[str, int]
    moods: dict[str, int]


def tables_of(items: Iterable[Item], words: list[str]) -> Tables:
    """Number the phonemes and voices of a data set; unnamed phonemes are ignored."""
    phones: set[str] = set()
    voices: set[str] = set()
    for item in items:
        phones.update(name for _, name, _ in item.row["phones"])
        voices.update(variant for _, variant in item.row["turns"])
    return Tables(
        _numbered(sorted(phones - {"", "_"}), 1),
        _numbered(words, 1),
        _numbered(sorted(voices), 0),
        _numbered(list(MOODS), 0),
    )


def _numbered(names: Iterable[str], first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names, start=first)}


class Collator:
    """Turns items into a `Batch`, with SpecAugment and questions drawn from its own generators."""

    def __init__(self, processor: Any, tables: Tables, seed: int) -> None:
        """Take the numbers that the frame losses know."""
        self._processor = processor
        self._tables = tables
        self._noise = np.random.default_rng(seed)
        self._rng = Random(seed)
        self._prefix, _ = prompt_ids(processor, "")
        self._audio = processor.tokenizer.convert_tokens_to_ids(processor.audio_token)
        who = processor.tokenizer.encode("who", add_special_tokens=False)[0]
        self._question = prompt_ids(processor, "who")[1].index(who)
        numbers = tables.words
        self._singular = torch.arange(len(numbers) + 1)
        for word, number in numbers.items():
            self._singular[number] = numbers[singular(word)]
        self._suffix = lru_cache(_CACHED)(lambda prompt: prompt_ids(processor, prompt)[1])
        self._answer = lru_cache(_CACHED)(lambda answer: answer_ids(processor, answer))

    def __call__(self, items: list[Item], augmented: bool = True) -> Batch:
        """Collate items of similar length; `augmented` masks bands and frames."""
        mels = [self._masked(item) if augmented else item.mel() for item in items]
        frames = max(len(mel) for mel in mels)
        frames += 4 - frames % 4  # at least one padded frame, which the last convolution reads
        mel = np.empty((len(items), frames, N_MELS), np.float32)
        for row, source in zip(mel, mels, strict=True):
            row[:] = floor_of(source)
            row[: len(source)] = source
        lengths = [encoder_lengths(len(source)) for source in mels]
        tokens = [count for _, count in lengths]
        phones, words = self._frame_labels(items, lengths, frames)
        voices, moods, others = self._speaker_labels(items, words)
        said = [[self._tables.words[w] for w in item.row["text"].split()] for item in items]
        # espeak names a few phonemes of the readings that no grammar word has
        heard = [
            [self._tables.phones[s] for s in item.row["sounds"] if s in self._tables.phones]
            for item in items
        ]
        ids, positions, labels, groups, fits, sought, weights = self._pack(items, tokens)
        return Batch(
            mel=torch.from_numpy(mel).transpose(1, 2),
            frames=torch.tensor([count for count, _ in lengths]),
            tokens=torch.tensor(tokens),
            phones=phones,
            words=words,
            ids=ids,
            positions=positions,
            labels=labels,
            is_audio=ids == self._audio,
            visible=_visible(groups),
            weights=weights,
            fits=fits,
            sought=sought,
            heard=self._heard(words, tokens, ids.shape[1]),
            voices=voices,
            moods=moods,
            others=others,
            transcript=torch.tensor([number for line in said for number in line]),
            transcript_lengths=torch.tensor([len(line) for line in said]),
            sounds=torch.tensor([number for line in heard for number in line]),
            sounds_lengths=torch.tensor([len(line) for line in heard]),
            seconds=sum(item.seconds for item in items),
        )

    def _masked(self, item: Item) -> NDArray[np.float32]:
        """Make another speaker and microphone, shift the level, overwrite bands and frames."""
        mel, real = item.mel(), item.row["kind"] == "real"
        share, reach = (_REAL_WARPED, _REAL_WARP) if real else (_WARPED, _WARP)
        tone = _REAL_TONE if real else _TONE
        if self._noise.random() < share:
            mel = _warped(mel, float(self._noise.uniform(1 - reach, 1 + reach)))
        mel += _tone(self._noise.uniform(-tone, tone, _TONE_POINTS))
        mel += self._noise.uniform(-_LEVEL_SHIFT, _LEVEL_SHIFT)
        mean = mel.mean()
        for _ in range(_MAX_MASKS):
            bands = int(self._noise.integers(_MAX_BANDS))
            first = int(self._noise.integers(N_MELS - bands))
            mel[:, first : first + bands] = mean
            span = min(int(self._noise.integers(_MAX_FRAMES)), len(mel) - 1)
            first = int(self._noise.integers(len(mel) - span))
            mel[first : first + span] = mean
        return mel

    def _frame_labels(
        self, items: list[Item], lengths: list[tuple[int, int]], frames: int
    ) -> tuple[Tensor, Tensor]:
        numbers = self._tables
        phones = np.full((len(items), frames // 2), IGNORED, np.int64)
        words = np.full((len(items), frames // 4), IGNORED, np.int64)
        for row, (item, (n_frames, n_tokens)) in enumerate(zip(items, lengths, strict=True)):
            said = item.row["text"].split()
            by_frame = np.zeros(n_frames, np.int64)
            if not item.row["phones"]:
                continue
            phones[row, :n_frames] = 0
            for start, name, word in item.row["phones"]:
                known = 0 if name == "_" or word < 0 else numbers.phones.get(name, IGNORED)
                phones[row, start:n_frames] = known
                by_frame[start:] = numbers.words[said[word]] if word >= 0 else 0
            words[row, :n_tokens] = by_frame[: 2 * n_tokens : 2]
        return torch.from_numpy(phones), torch.from_numpy(words)

    def _speaker_labels(self, items: list[Item], words: Tensor) -> list[Tensor]:
        """Who speaks, in what mood, and whether somebody else does too, where anybody speaks.

        The last only where one speaker and two were equally likely.
        """
        voices, moods, others = (torch.full_like(words, IGNORED) for _ in range(3))
        for row, item in enumerate(items):
            turns = item.row["turns"]
            for start, variant in turns:
                voices[row, start // 2 :] = self._tables.voices[variant]
            if item.row["speakers"]:
                others[row] = item.row["speakers"] - 1
            moods[row] = self._tables.moods.get(item.row["mood"], IGNORED)
        silent = words <= 0
        return [labels.masked_fill(silent, IGNORED) for labels in (voices, moods, others)]

    def _heard(self, words: Tensor, tokens: list[int], size: int) -> Tensor:
        """Numbers of the words, in the singular, at the columns (B, size) of their audio tokens."""
        heard = torch.zeros(len(tokens), size, dtype=torch.long)
        first = len(self._prefix)
        for row, count in enumerate(tokens):
            heard[row, first : first + count] = self._singular[words[row, :count].clamp_min(0)]
        return heard

    def _pack(self, items: list[Item], tokens: list[int]) -> list[Tensor]:
        """Return ids, positions, labels, groups (0 shared, -1 padding), fits, sought, weights."""
        rows = [self._pack_one(item, count) for item, count in zip(items, tokens, strict=True)]
        size = max(len(row[0]) for row in rows)
        fills = (self._processor.tokenizer.pad_token_id, 0, IGNORED, -1, IGNORED, IGNORED, 0.0)
        packed = []
        for column, fill in enumerate(fills):
            full = np.full((len(rows), size), fill)
            for target, row in zip(full, rows, strict=True):
                target[: len(row[column])] = row[column]
            packed.append(torch.from_numpy(full))
        packed[-1] = packed[-1].float()
        return packed

    def _pack_one(self, item: Item, tokens: int) -> tuple[list[Any], ...]:
        ids = self._prefix + [self._audio] * tokens
        shared = len(ids)
        positions, labels, groups = list(range(shared)), [IGNORED] * shared, [0] * shared
        fits, sought = [IGNORED] * shared, [IGNORED] * shared
        weights = [0.0] * shared
        for group, asked in enumerate(examples_of(item.row, self._rng), start=1):
            question, answer = self._suffix(asked.prompt), self._answer(asked.answer)
            length = len(question) + len(answer)
            ids = ids + question + answer
            positions += range(shared, shared + length)
            labels += [IGNORED] * len(question) + answer
            groups += [group] * length
            fits += [IGNORED] * length
            sought += [IGNORED] * length
            for mark in asked.marks:
                place = self._question - length + mark.word
                sought[place] = self._tables.words[mark.said]
                if 0 < len(mark.fits) <= CLAUSES:
                    fits[place] = sum(fit << number for number, fit in enumerate(mark.fits))
            weights += [asked.weight] * length
        return ids, positions, labels, groups, fits, sought, weights


def _warped(mel: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Stretch the mel axis (n_frames, N_MELS): a longer or shorter vocal tract."""
    source = np.minimum(np.arange(N_MELS) * factor, N_MELS - 1.001)
    below = source.astype(np.intp)
    share = (source - below).astype(np.float32)
    warped: NDArray[np.float32] = mel[:, below] * (1 - share) + mel[:, below + 1] * share
    return warped


def _tone(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Draw a smooth curve (N_MELS,) through points; its mean is 0, for the level tells moods."""
    curve = np.interp(np.linspace(0, len(points) - 1, N_MELS), np.arange(len(points)), points)
    tone: NDArray[np.float32] = (curve - curve.mean()).astype(np.float32)
    return tone


def _visible(groups: Tensor) -> Tensor:
    """Return who sees whom (B, 1, S, S): earlier positions of the shared or the own group."""
    size = groups.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    key, query = groups[:, None, :], groups[:, :, None]
    visible = causal & ((key == 0) | (key == query))
    return visible[:, None]
