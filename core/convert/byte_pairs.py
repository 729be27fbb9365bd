"""A tiktoken vocabulary as a tokenizer of the `tokenizers` library.

tiktoken knows tokens by rank alone and joins the adjacent pair whose union has the lowest. The
`tokenizers` library wants pairs. The pair of a token is what its own bytes come to when only lower
ranks may be joined: wherever a text leads to the token, it leads there by the same steps.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import StartError

Ranks = dict[bytes, int]


def load_ranks(path: Path) -> Ranks:
    """Tokens and ranks of a tiktoken file: a token in base64 and its rank in every line.

    Raises:
        StartError: no such file, or it is something else.
    """
    try:
        lines = path.read_bytes().splitlines()
        pairs = [line.split() for line in lines if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except (OSError, ValueError) as error:
        raise StartError(f"{path} is no tiktoken vocabulary; download the checkpoint") from error
    single = sum(len(token) == 1 for token in ranks)
    if single != 256 or sorted(ranks.values()) != list(range(len(ranks))):
        raise StartError(f"{path} lacks some of its tokens; download it again")
    return ranks


def tokenizer(ranks: Ranks, pattern: str, special: Sequence[str]) -> Any:
    """A `tokenizers.Tokenizer` that encodes as tiktoken does, after normalisation to NFC.

    Args:
        ranks: tokens and their ids.
        pattern: regular expression of the pieces that a text is cut into.
        special: tokens behind them, in the order of their ids.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as before

    signs = _signs()
    spelt = {token: "".join(signs[byte] for byte in token) for token in ranks}
    vocabulary = {spelt[token]: rank for token, rank in ranks.items()}
    merges = [(spelt[left], spelt[right]) for left, right in _merges(ranks)]
    # tiktoken looks a whole piece up before it joins anything
    made = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    made.normalizer = normalizers.NFC()
    pieces = before.Split(Regex(pattern), behavior="isolated")
    made.pre_tokenizer = before.Sequence(
        [pieces, before.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
    return made


def _merges(ranks: Ranks) -> list[tuple[bytes, bytes]]:
    """The pair of each token that has one, by rank."""
    longer = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    parts = [_joined(token, ranks) for token in longer]
    return [(pair[0], pair[1]) for pair in parts if len(pair) == 2]


def _joined(token: bytes, ranks: Ranks) -> list[bytes]:
    """What the bytes of a token come to by joins of lower rank."""
    own = ranks[token]
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(parts[at] + parts[at + 1], own) for at in range(len(parts) - 1)]
        lowest = min(pairs)
        if lowest >= own:
            break
        at = pairs.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _signs() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies, as GPT-2 has it.

    Bytes that print stand for themselves, the others for characters from 256 on.
    """
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in printed]
    return [chr(byte if byte in printed else 256 + hidden.index(byte)) for byte in range(256)]
