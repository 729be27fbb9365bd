"""Qwen-Audio as it was published, small and random: its files, and its forward pass in plain torch.

Written from the description of the layout, with nothing of `core` or transformers: the spectrogram,
the encoder, the decoder, the byte pairs.
"""

from __future__ import annotations

import base64
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from core.records import Waveform

HIDDEN, LAYERS, HEADS, INNER = 64, 3, 4, 96
STATE, BLOCKS, AUDIO_HEADS, POSITIONS, MELS = 32, 2, 4, 1500, 80
EPS, ROWS_LEFT = 1e-5, 7
HEAD = HIDDEN // HEADS
TEXT = (
    "the model hears the speech and writes what it heard, word by word; they then say how it was "
    "said. What is his emotion? Recognize the speech. Translate the speech into German. "
    "Die Übersetzung ist schön, überall. 语音识别 语音翻译 12 345 user assistant system helpful "
)

Tensors = dict[str, Tensor]


def ranks(joins: int = 120) -> dict[bytes, int]:
    """A vocabulary trained on a little text: the bytes in an order of their own, then joins."""
    order = [(7 * byte + 3) % 256 for byte in range(256)]
    found = {bytes([byte]): rank for rank, byte in enumerate(order)}
    words = [
        [bytes([b]) for b in word] for word in TEXT.encode().replace(b" ", b"\n ").split(b"\n")
    ]
    for _ in range(joins):
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda pair: (counts[pair], pair))
        found.setdefault(best[0] + best[1], len(found))
        words = [_joined(word, best) for word in words]
    return found


def _joined(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    made: list[bytes] = []
    for part in word:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return made


def encode_piece(piece: bytes, known: dict[bytes, int]) -> list[int]:
    """tiktoken's rule: the whole piece, else joins of the pair of lowest rank, the first first."""
    if piece in known:
        return [known[piece]]
    parts = [piece[at : at + 1] for at in range(len(piece))]
    while len(parts) > 1:
        unions = [known.get(a + b, math.inf) for a, b in pairwise(parts)]
        at = min(range(len(unions)), key=lambda n: unions[n])
        if unions[at] == math.inf:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [known[part] for part in parts]


def special_ids(known: dict[bytes, int]) -> dict[str, int]:
    """Ids of the tokens that the tests name: their published ids, above this vocabulary."""
    published = {
        "<|endoftext|>": 151643,
        "<|im_start|>": 151644,
        "<|im_end|>": 151645,
        "[[[AUDIO:modality]]]": 151851,
        "<|startoftranscript|>": 151852,
        "<|startofanalysis|>": 151853,
        "<|translate|>": 151854,
        "<|transcribe|>": 151855,
        "<|caption|>": 151856,
        "<|keyword|>": 151857,
        "<|unknown|>": 151858,
        "<|en|>": 151859,
        "<|de|>": 151861,
        "<|it|>": 151866,
        "<|zh_tr|>": 151867,
        "<|notimestamps|>": 151868,
        "<|sil|>": 151869,
        "<|timestamps|>": 151870,
        "<|0.00|>": 151871,
        "<|30.00|>": 154871,
        "<|caption_audiocaps|>": 154872,
        "<|caption_clotho|>": 154873,
        "<|caption_plain|>": 154875,
        "<|itn|>": 154876,
        "<|wo_itn|>": 154877,
        "<|emotion_recognition|>": 154887,
        "<|question|>": 155152,
        "<|answer|>": 155153,
        "<audio>": 155163,
        "</audio>": 155164,
    }
    return {token: number - 151643 + len(known) for token, number in published.items()}


def config(known: dict[bytes, int]) -> dict[str, Any]:
    """`config.json`."""
    ids = special_ids(known)
    return {
        "architectures": ["QWenLMHeadModel"],
        "auto_map": {"AutoConfig": "configuration_qwen.QWenConfig"},
        "model_type": "qwen",
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * INNER,
        "kv_channels": HEAD,
        "layer_norm_epsilon": EPS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": 8192,
        "seq_length": 2048,
        "no_bias": True,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "tie_word_embeddings": False,
        "vocab_size": ids["</audio>"] + 1 + ROWS_LEFT,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        "audio": {
            "n_mels": MELS,
            "n_ctx": POSITIONS,
            "n_state": STATE,
            "n_head": AUDIO_HEADS,
            "n_layer": BLOCKS,
            "output_dim": HIDDEN,
            "avg_pool": True,
            "add_audio_bos_eos_token": True,
            "audio_start_id": ids["<audio>"],
        },
    }


def weights(known: dict[bytes, int]) -> Tensors:
    """Random parameters under their published names; attention is peaked, logits are far apart."""
    vocabulary = config(known)["vocab_size"]
    draw = torch.Generator().manual_seed(3)

    def linear(rows: int, columns: int, gain: float = 1.0) -> Tensor:
        return torch.randn(rows, columns, generator=draw) * gain / math.sqrt(columns)

    def vector(size: int, around: float = 0.0, spread: float = 0.2) -> Tensor:
        return around + spread * torch.randn(size, generator=draw)

    found = {"transformer.wte.weight": torch.randn(vocabulary, HIDDEN, generator=draw)}
    for layer in range(LAYERS):
        name = f"transformer.h.{layer}."
        found |= {
            f"{name}ln_1.weight": vector(HIDDEN, 1.0),
            f"{name}attn.c_attn.weight": linear(3 * HIDDEN, HIDDEN, 1.6),
            f"{name}attn.c_attn.bias": vector(3 * HIDDEN),
            f"{name}attn.c_proj.weight": linear(HIDDEN, HIDDEN),
            f"{name}ln_2.weight": vector(HIDDEN, 1.0),
            f"{name}mlp.w1.weight": linear(INNER, HIDDEN),
            f"{name}mlp.w2.weight": linear(INNER, HIDDEN),
            f"{name}mlp.c_proj.weight": linear(HIDDEN, INNER),
        }
    audio = "transformer.audio."
    found |= {
        "transformer.ln_f.weight": vector(HIDDEN, 1.0),
        "lm_head.weight": linear(vocabulary, HIDDEN, 3.0),
        f"{audio}conv1.weight": linear(STATE, 3 * MELS).view(STATE, MELS, 3),
        f"{audio}conv1.bias": vector(STATE),
        f"{audio}conv2.weight": linear(STATE, 3 * STATE).view(STATE, STATE, 3),
        f"{audio}conv2.bias": vector(STATE),
        f"{audio}positional_embedding": _sinusoids(),
        f"{audio}ln_post.weight": vector(STATE, 1.0),
        f"{audio}ln_post.bias": vector(STATE),
        f"{audio}proj.weight": linear(HIDDEN, STATE),
        f"{audio}proj.bias": vector(HIDDEN),
        f"{audio}audio_bos_eos_token.weight": torch.randn(2, HIDDEN, generator=draw),
    }
    for block in range(BLOCKS):
        name = f"{audio}blocks.{block}."
        for part in ("query", "key", "value", "out"):
            found[f"{name}attn.{part}.weight"] = linear(STATE, STATE, 1.5)
            if part != "key":
                found[f"{name}attn.{part}.bias"] = vector(STATE)
        found |= {
            f"{name}attn_ln.weight": vector(STATE, 1.0),
            f"{name}attn_ln.bias": vector(STATE),
            f"{name}mlp.0.weight": linear(4 * STATE, STATE),
            f"{name}mlp.0.bias": vector(4 * STATE),
            f"{name}mlp.2.weight": linear(STATE, 4 * STATE),
            f"{name}mlp.2.bias": vector(STATE),
            f"{name}mlp_ln.weight": vector(STATE, 1.0),
            f"{name}mlp_ln.bias": vector(STATE),
        }
    # no answer of a random model may end early or be hidden: byte tokens alone
    found["lm_head.weight"][len(known) :] = 0.0
    return found


def _sinusoids() -> Tensor:
    half = STATE // 2
    rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    angles = torch.arange(POSITIONS)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def save(folder: Path, chat: bool = False, files: int = 3) -> Path:
    """Write the published files: shards with an index, or one file."""
    folder.mkdir(parents=True, exist_ok=True)
    known = ranks()
    lines = [base64.b64encode(token) + b" %d" % rank for token, rank in known.items()]
    (folder / "qwen.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    (folder / "config.json").write_text(json.dumps(config(known)))
    style = {"chat_format": "chatml" if chat else "raw", "do_sample": True, "top_p": 0.5}
    (folder / "generation_config.json").write_text(json.dumps(style))
    tensors = weights(known)
    if files == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    names = list(tensors)
    places = {}
    for number in range(files):
        file = f"model-{number + 1:05}-of-{files:05}.safetensors"
        part = names[number::files]
        save_file({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def log_mel(wave: Waveform) -> Tensor:
    """Whisper's log-mel frames of a clip in 30 s of zeros: (mels, 3000)."""
    padded = F.pad(torch.from_numpy(wave).double(), (0, 480_000 - len(wave)))
    window = torch.hann_window(400, dtype=torch.float64)
    spectrum = torch.stft(padded, 400, 160, window=window, return_complex=True)
    power = spectrum[:, :-1].abs() ** 2
    logs = (_filters() @ power).clamp(min=1e-10).log10()
    return ((torch.maximum(logs, logs.max() - 8) + 4) / 4).float()


def _filters() -> Tensor:
    """Slaney's mel filters: linear below 1000 Hz, logarithmic above, of equal area."""

    def to_mel(hertz: float) -> float:
        return 15 + 27 * math.log(hertz / 1000, 6.4) if hertz >= 1000 else 3 * hertz / 200

    def to_hertz(mel: float) -> float:
        return 1000 * 6.4 ** ((mel - 15) / 27) if mel >= 15 else 200 * mel / 3

    edges = [to_hertz(mel) for mel in np.linspace(to_mel(0), to_mel(8000), MELS + 2)]
    bins = torch.arange(201, dtype=torch.float64) * 40
    rows = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        slopes = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
        rows.append(slopes.clamp(min=0) * 2 / (high - low))
    return torch.stack(rows)


def hear(tensors: Tensors, wave: Waveform) -> Tensor:
    """Audio tokens of one clip alone: (tokens, hidden)."""
    get = {name.removeprefix("transformer.audio."): value for name, value in tensors.items()}
    frames = (len(wave) // 160 - 1) // 2 + 1
    mel = log_mel(wave)[None, :, : 2 * frames]
    x = F.gelu(F.conv1d(mel, get["conv1.weight"], get["conv1.bias"], padding=1))
    x = F.gelu(F.conv1d(x, get["conv2.weight"], get["conv2.bias"], padding=1, stride=2))
    x = x[0].T + get["positional_embedding"][: x.shape[-1]]
    assert len(x) == frames
    for number in range(BLOCKS):
        block = {
            name.removeprefix(f"blocks.{number}."): value
            for name, value in get.items()
            if name.startswith(f"blocks.{number}.")
        }
        x = x + _self_attention(block, _normed(block, "attn_ln", x))
        inner = F.gelu(
            F.linear(_normed(block, "mlp_ln", x), block["mlp.0.weight"], block["mlp.0.bias"])
        )
        x = x + F.linear(inner, block["mlp.2.weight"], block["mlp.2.bias"])
    pooled = torch.stack([(x[at] + x[at + 1]) / 2 for at in range(0, frames - 1, 2)])
    return F.linear(_normed(get, "ln_post", pooled), get["proj.weight"], get["proj.bias"])


def _normed(get: Tensors, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, (STATE,), get[f"{name}.weight"], get[f"{name}.bias"])


def _self_attention(block: Tensors, x: Tensor) -> Tensor:
    query = F.linear(x, block["attn.query.weight"], block["attn.query.bias"])
    key = F.linear(x, block["attn.key.weight"])
    value = F.linear(x, block["attn.value.weight"], block["attn.value.bias"])
    size = STATE // AUDIO_HEADS
    heads = []
    for head in range(AUDIO_HEADS):
        part = slice(head * size, (head + 1) * size)
        share = (query[:, part] @ key[:, part].T / math.sqrt(size)).softmax(-1)
        heads.append(share @ value[:, part])
    return F.linear(torch.cat(heads, 1), block["attn.out.weight"], block["attn.out.bias"])


def logits(tensors: Tensors, ids: list[int], heard: Tensor, start: int) -> Tensor:
    """Logits at every place of a prompt in which a clip, with its two rows, begins at `start`."""
    table, rows = (
        tensors["transformer.wte.weight"],
        tensors["transformer.audio.audio_bos_eos_token.weight"],
    )
    x = table[torch.tensor(ids)].clone()
    x[start : start + len(heard) + 2] = torch.cat([rows[:1], heard, rows[1:]])
    places = torch.arange(len(ids))[:, None]
    angles = places / 10000 ** (torch.arange(0, HEAD, 2) / HEAD)
    turn = torch.cat([angles, angles], 1)
    for layer in range(LAYERS):
        name = f"transformer.h.{layer}."
        x = x + _causal_attention(tensors, name, _rms(x, tensors[f"{name}ln_1.weight"]), turn)
        normed = _rms(x, tensors[f"{name}ln_2.weight"])
        one, two = (normed @ tensors[f"{name}mlp.{part}.weight"].T for part in ("w1", "w2"))
        x = x + (one * two * torch.sigmoid(two)) @ tensors[f"{name}mlp.c_proj.weight"].T
    return _rms(x, tensors["transformer.ln_f.weight"]) @ tensors["lm_head.weight"].T


def _causal_attention(tensors: Tensors, name: str, x: Tensor, turn: Tensor) -> Tensor:
    fused = x @ tensors[f"{name}attn.c_attn.weight"].T + tensors[f"{name}attn.c_attn.bias"]
    query, key, value = fused.split(HIDDEN, dim=1)
    later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    heads = []
    for head in range(HEADS):
        part = slice(head * HEAD, (head + 1) * HEAD)
        turned = [_rotated(one[:, part], turn) for one in (query, key)]
        scores = turned[0] @ turned[1].T / math.sqrt(HEAD)
        heads.append(scores.masked_fill(later, -math.inf).softmax(-1) @ value[:, part])
    return torch.cat(heads, 1) @ tensors[f"{name}attn.c_proj.weight"].T


def _rotated(x: Tensor, turn: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return x * turn.cos() + torch.cat([-second, first], 1) * turn.sin()


def _rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight
