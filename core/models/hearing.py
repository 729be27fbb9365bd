"""The ears of a processor that could also see.

The image and video parts of such processors need torchvision, which a tool for audio has no other
use for. The processor's own code runs here with nothing in their places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class _Blind:
    """Stands where an image or video processor would; knows the one number asked of it."""

    merge_size = 2
    model_input_names: tuple[str, ...] = ()


def hearing(name: str, extractor: Any, tokenizer: Any, template: str | None) -> Any:
    """A processor of transformers' class `name` that takes text and audio.

    Args:
        name: of a class whose parts are image, video (maybe), audio and tokenizer, in this order.
        extractor: its audio part.
        tokenizer: its tokenizer.
        template: chat template; None = the tokenizer's.
    """
    import transformers

    seeing: Any = getattr(transformers, name)

    def check(self: Any, part: str, given: Any) -> Any:
        return (
            None
            if isinstance(given, _Blind)
            else seeing.check_argument_for_proper_class(self, part, given)
        )

    made: Any = type(name, (seeing,), {"check_argument_for_proper_class": check})
    eyes = [
        _Blind() for part in seeing.get_attributes() if part.split("_")[0] in ("image", "video")
    ]
    return made(*eyes, extractor, tokenizer, chat_template=template or tokenizer.chat_template)


def load_hearing(name: str, place: str, how: Mapping[str, Any]) -> Any:
    """`hearing` with the parts of a folder or a hub id."""
    import transformers
    from transformers import AutoFeatureExtractor, AutoTokenizer

    extractor = AutoFeatureExtractor.from_pretrained(place, **how)
    tokenizer = AutoTokenizer.from_pretrained(place, **how)
    known, _ = getattr(transformers, name).get_processor_dict(place, **how)
    return hearing(name, extractor, tokenizer, known.get("chat_template"))
