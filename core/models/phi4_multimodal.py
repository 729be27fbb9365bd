"""Phi-4-multimodal (Microsoft, arXiv 2503.01743): conformer encoder, Phi-3-like decoder.

Speech is heard through a LoRA of its own, in the folder `speech-lora` of the checkpoint: without
it the model answers that it cannot listen. The native classes read the revision `refs/pr/70`.
Prompts: the Open ASR Leaderboard's and the model card's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .facts import Family, Request
from .native import Native, spoken, wanted
from .weights import load_adapter

_LORA = "speech-lora"
_LANGUAGES = ("en", "zh", "de", "fr", "it", "ja", "es", "pt")


class Phi4Multimodal(Native):
    """Adapter of `Phi4MultimodalForCausalLM`."""

    about = Family(
        example="microsoft/Phi-4-multimodal-instruct",
        tasks=("asr", "st", "sqa", "chat"),
        max_seconds=40.0,
        tokens_per_second=12.5,
        source_languages=_LANGUAGES,
        target_languages=_LANGUAGES,
        through_english=True,
    )
    # the encoder's mask is a bias only: padding would be heard
    together: ClassVar[bool] = False
    ears = "Phi4MultimodalProcessor"

    @classmethod
    def prepare(cls, model: Any, place: str, how: Mapping[str, Any]) -> None:
        """Load the LoRA that hears; a folder without one is taken to have it in its weights."""
        folder = Path(place)
        if not folder.is_dir() or (folder / _LORA).is_dir():
            load_adapter(model, place, _LORA, how)

    @property
    def extractor(self) -> Any:
        """What makes features of waveforms."""
        return self.processor.audio_processor

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The end of a turn too, which not every copy of the checkpoint lists."""
        turn = self.processor.tokenizer.convert_tokens_to_ids("<|end|>")
        known = super().end_tokens
        return known if turn is None or turn in known else (*known, turn)

    def words(self, request: Request) -> str:
        """The leaderboard's for asr, the card's for st."""
        heard = spoken("the", request, "audio clip")
        words = {
            "asr": f"Transcribe {heard} into text.",
            "st": f"Translate the audio to {wanted(request)}.",
        }
        return words.get(request.task, request.question or "")

    def messages(self, request: Request) -> list[dict[str, Any]]:
        """One turn of plain text with the audio's token in it: so the template wants it."""
        return [{"role": "user", "content": self.processor.audio_token + self.instruction(request)}]

    def _features(self, inputs: dict[str, Tensor]) -> Tensor:
        # its projection is entwined with the embedding of text: what is asked is a prompt of audio
        sizes: Sequence[int] = inputs["audio_embed_sizes"].tolist()
        embedding: nn.Module = self.model.get_input_embeddings()
        ids = torch.full((1, sum(sizes)), self.audio_id, device=self.device)
        made: Tensor = self.model.model.embed_tokens_extend.audio_embed(
            ids,
            embedding(ids),
            audio_input_features=inputs["audio_input_features"],
            audio_embed_sizes=sizes,
            audio_attention_mask=inputs.get("audio_attention_mask"),
        )
        return made[0]


FAMILY = Phi4Multimodal
