"""Shards on disk -> batches of tensors. Knows features, labels and packing, not the model.

Every utterance is packed once: the chat prefix, its audio, then one suffix per task. The suffixes
see the prefix and themselves but not each other, and each restarts its positions behind the audio,
so that every task sees exactly what it would see alone.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .features import N_MELS, encoder_lengths, floor_of
from .tasks import TASKS, Texts
from .tokens import answer_ids, prompt_ids

IGNORED = -100
"""Label of a position that no loss looks at."""

_MAX_MASKS, _MAX_BANDS, _MAX_FRAMES = 2, 12, 10  # SpecAugment, light


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
    (B, 1, S, S); transcript (sum of lengths,) word numbers and transcript_lengths (B,) for CTC.
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
    transcript: Tensor
    transcript_lengths: Tensor
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


def phone_table(items: Iterable[Item]) -> dict[str, int]:
    """Number the phoneme names from 1; 0 stands for silence, unnamed phonemes are ignored."""
    names = {name for item in items for _, name, _ in item.row["phones"]} - {"", "_"}
    return {name: number for number, name in enumerate(sorted(names), start=1)}


class Collator:
    """Turns items into a `Batch`, with SpecAugment drawn from its own generator."""

    def __init__(self, processor: Any, phones: dict[str, int], words: list[str], seed: int) -> None:
        """Take the phoneme numbers and the words that the frame losses know."""
        self._processor = processor
        self._phones = phones
        self._words = {word: number for number, word in enumerate(words, start=1)}
        self._rng = np.random.default_rng(seed)
        prompts = [prompt_ids(processor, name) for name in TASKS]
        self._prefix = prompts[0][0]
        self._suffixes = {name: after for name, (_, after) in zip(TASKS, prompts, strict=True)}
        self._audio = processor.tokenizer.convert_tokens_to_ids(processor.audio_token)
        self._answers: dict[str, list[int]] = {}

    def __call__(self, items: list[Item], augmented: bool = True) -> Batch:
        """Collate items of similar length; `augmented` masks bands and frames."""
        mels = [item.mel() for item in items]
        frames = max(len(mel) for mel in mels)
        frames += 4 - frames % 4  # at least one padded frame, which the last convolution reads
        mel = np.empty((len(items), frames, N_MELS), np.float32)
        for row, source in zip(mel, mels, strict=True):
            row[:] = floor_of(source)
            row[: len(source)] = self._masked(source) if augmented else source
        lengths = [encoder_lengths(len(source)) for source in mels]
        tokens = [count for _, count in lengths]
        phones, words = self._frame_labels(items, lengths, frames)
        transcripts = [[self._words[w] for w in item.row["text"].split()] for item in items]
        ids, positions, labels, groups = self._pack(items, tokens)
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
            transcript=torch.tensor([number for line in transcripts for number in line]),
            transcript_lengths=torch.tensor([len(line) for line in transcripts]),
            seconds=sum(item.seconds for item in items),
        )

    def _masked(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shift the level a little and overwrite random bands and frames with the mean."""
        mel += self._rng.uniform(-0.15, 0.15)
        mean = mel.mean()
        for _ in range(_MAX_MASKS):
            bands = int(self._rng.integers(_MAX_BANDS))
            first = int(self._rng.integers(N_MELS - bands))
            mel[:, first : first + bands] = mean
            span = min(int(self._rng.integers(_MAX_FRAMES)), len(mel) - 1)
            first = int(self._rng.integers(len(mel) - span))
            mel[first : first + span] = mean
        return mel

    def _frame_labels(
        self, items: list[Item], lengths: list[tuple[int, int]], frames: int
    ) -> tuple[Tensor, Tensor]:
        phones = np.full((len(items), frames // 2), IGNORED, np.int64)
        words = np.full((len(items), frames // 4), IGNORED, np.int64)
        for row, (item, (n_frames, n_tokens)) in enumerate(zip(items, lengths, strict=True)):
            said = item.row["text"].split()
            by_frame = np.zeros(n_frames, np.int64)
            phones[row, :n_frames] = 0
            for start, name, word in item.row["phones"]:
                known = 0 if name == "_" or word < 0 else self._phones.get(name, IGNORED)
                phones[row, start:n_frames] = known
                by_frame[start:] = self._words[said[word]] if word >= 0 else 0
            words[row, :n_tokens] = by_frame[: 2 * n_tokens : 2]
        return torch.from_numpy(phones), torch.from_numpy(words)

    def _pack(self, items: list[Item], tokens: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ids, positions, labels and groups (B, S); group 0 is shared, -1 is padding."""
        rows = [self._pack_one(item, count) for item, count in zip(items, tokens, strict=True)]
        size = max(len(row[0]) for row in rows)
        fills = (self._processor.tokenizer.pad_token_id, 0, IGNORED, -1)
        packed = []
        for column, fill in enumerate(fills):
            full = np.full((len(rows), size), fill, np.int64)
            for target, row in zip(full, rows, strict=True):
                target[: len(row[column])] = row[column]
            packed.append(torch.from_numpy(full))
        ids, positions, labels, groups = packed
        return ids, positions, labels, groups

    def _pack_one(self, item: Item, tokens: int) -> tuple[list[int], ...]:
        texts = Texts(item.row["text"], item.row["translation"])
        ids = self._prefix + [self._audio] * tokens
        shared = len(ids)
        positions, labels, groups = list(range(shared)), [IGNORED] * shared, [0] * shared
        for group, (name, task) in enumerate(TASKS.items(), start=1):
            question, answer = self._suffixes[name], self._answer(task.answer(texts))
            length = len(question) + len(answer)
            ids = ids + question + answer
            positions += range(shared, shared + length)
            labels += [IGNORED] * len(question) + answer
            groups += [group] * length
        return ids, positions, labels, groups

    def _answer(self, text: str) -> list[int]:
        if text not in self._answers:
            self._answers[text] = answer_ids(self._processor, text)
        return self._answers[text]


def _visible(groups: Tensor) -> Tensor:
    """Return who sees whom (B, 1, S, S): earlier positions of the shared or the own group."""
    size = groups.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    key, query = groups[:, None, :], groups[:, :, None]
    visible = causal & ((key == 0) | (key == query))
    return visible[:, None]
