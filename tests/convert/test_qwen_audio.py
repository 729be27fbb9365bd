"""A tiny Qwen-Audio in its published layout, converted, against its own forward pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import core.convert.checkpoint as checkpoint
from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.engine.windows import longest_prompt
from core.errors import StartError, TranscriptionError, UsageError
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.records import Segment, Waveform
from fastadasp_cli.main import app
from tests.convert import published_qwen_audio as published

SPEECH = Path(__file__).parents[2] / "examples" / "audio" / "office.wav"
# whole pairs of frames, an odd frame, a part of a frame, a part that would round up to a token
LENGTHS = (16_000 * 3, 16_000 * 3 + 160, 47_999, 16_000 * 2 + 320 * 2 + 1, 16_000 * 30)


def convert(*words: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, words)])


def made(folder: Path, chat: bool) -> Path:
    source = published.save(folder / "published", chat)
    result = convert("qwen-audio", source, folder / "converted")
    assert result.exit_code == 0, result.output
    return folder / "converted"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("base"), chat=False)


@pytest.fixture(scope="module")
def lm(folder: Path) -> SpeechLM:
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> SpeechLM:
    return load_model(str(made(tmp_path_factory.mktemp("chat"), chat=True)), device="cpu")


@pytest.fixture(scope="module")
def tensors() -> published.Tensors:
    return published.weights(published.ranks())


def sound(samples: int, seed: int = 0) -> Waveform:
    draw = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    tone = np.sin(2 * np.pi * (180 + 90 * np.sin(1.3 * time + seed)) * time)
    wave = 0.2 * tone * np.abs(np.sin(3.1 * time)) + draw.normal(0, 0.01, samples)
    return wave.astype(np.float32)


@pytest.mark.parametrize("samples", LENGTHS)
def test_audio_tokens_are_the_published_ones(
    lm: SpeechLM, tensors: published.Tensors, samples: int
) -> None:
    with torch.inference_mode():
        ours = lm.encode([sound(samples)]).tokens[0]
        theirs = published.hear(tensors, sound(samples))
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_clips_side_by_side_are_clips_alone(lm: SpeechLM) -> None:
    waves = [sound(samples, seed) for seed, samples in enumerate(LENGTHS)]
    with torch.inference_mode():
        together = lm.encode(waves).tokens
        for row, wave in zip(together, waves, strict=True):
            torch.testing.assert_close(row, lm.encode([wave]).tokens[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", LENGTHS[:4])
def test_logits_are_the_published_ones(
    lm: SpeechLM, tensors: published.Tensors, samples: int
) -> None:
    wave = sound(samples)
    segment = Segment("a", 0, 0.0, wave, 16_000)
    with Engine(lm, config("asr")) as engine:
        start = engine.runner.start([engine.runner.job(segment)])
    ids = published.special_ids(published.ranks())
    heard = published.hear(tensors, wave)
    tags = ["startoftranscript", "en", "transcribe", "en", "notimestamps", "wo_itn"]
    prompt = [ids["<audio>"], *[ids["[[[AUDIO:modality]]]"]] * len(heard), ids["</audio>"]]
    prompt += [ids[f"<|{tag}|>"] for tag in tags]
    theirs = published.logits(tensors, prompt, heard, 0)
    assert theirs[-1].abs().max() > 3
    torch.testing.assert_close(start.logits[0], theirs[-1], rtol=0, atol=1e-4)


def test_every_place_of_the_plain_class_has_the_published_logits(
    folder: Path, lm: SpeechLM, tensors: published.Tensors
) -> None:
    """By transformers alone, with text before the clip: no adapter in between."""
    from transformers import Qwen2AudioForConditionalGeneration

    model = Qwen2AudioForConditionalGeneration.from_pretrained(folder).eval()
    ids = published.special_ids(published.ranks())
    heard = published.hear(tensors, sound(48_000))
    inside = [ids["<audio>"], *[ids["[[[AUDIO:modality]]]"]] * len(heard), ids["</audio>"]]
    prompt = [65, 70, 75, *inside, *range(80, 120)]
    with torch.inference_mode():
        embeds = model.get_input_embeddings()(torch.tensor([prompt]))
        embeds[0, 4 : 4 + len(heard)] = heard
        ours = model(inputs_embeds=embeds).logits[0]
    theirs = published.logits(tensors, prompt, heard, 3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def config(task: str, reduce: float = 0.0, **more: Any) -> RunConfig:
    reduction = ReductionConfig("fastadasp", "constant", reduce, "reindex", 0.0)
    return RunConfig(task, reduction, language="en", max_new_tokens=more.pop("new", 4), **more)


def test_text_is_encoded_as_tiktoken_does(lm: SpeechLM) -> None:
    known = published.ranks()
    draw = np.random.default_rng(0)
    letters = [*sorted(set(published.TEXT)), "\x00", "€", "𝄞", "é", "'s", "  ", "\r\n"]
    texts = ["".join(draw.choice(letters, 40)) for _ in range(300)] + published.TEXT.split(". ")
    pieces = lm.processor.tokenizer.backend_tokenizer.pre_tokenizer
    several = 0
    for text in texts:
        ids = lm.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        cut = [text[first:last] for _, (first, last) in pieces.pre_tokenize_str(text)]
        assert "".join(cut) == text
        expected = [one for piece in cut for one in published.encode_piece(piece.encode(), known)]
        assert ids == expected
        assert lm.processor.tokenizer.decode(ids) == text
        several += any(one > 255 for one in ids)
    assert several > 200


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("it's 2048 words", ["it", "'s", " ", "2", "0", "4", "8", " words"]),
        ("a,  b\n\n c!?\n", ["a", ",", " ", " b", "\n\n", " c", "!?\n"]),
        ("语音识别。 Übung", ["语音识别", "。", " Übung"]),
    ],
)
def test_text_is_cut_as_published(lm: SpeechLM, text: str, pieces: list[str]) -> None:
    cutter = lm.processor.tokenizer.backend_tokenizer.pre_tokenizer
    found = [text[first:last] for _, (first, last) in cutter.pre_tokenize_str(text)]
    assert found == pieces


def test_special_tokens_have_their_published_ids(lm: SpeechLM) -> None:
    words = lm.processor.tokenizer
    expected = published.special_ids(published.ranks())
    assert {token: words.convert_tokens_to_ids(token) for token in expected} == expected
    for token, number in expected.items():
        assert words(f"a{token}b", add_special_tokens=False)["input_ids"][1:-1] == [number]
    assert len(words) == expected["</audio>"] + 1
    # letters that may be written in two ways are one token sequence
    assert words("e\u0301")["input_ids"] == words("é")["input_ids"]


def spelt(lm: SpeechLM, request: Request) -> str:
    before, after = lm.prompt_ids(request)
    words = lm.processor.tokenizer
    return f"{words.decode(before)}~{words.decode(after)}"


@pytest.mark.parametrize(
    ("request_", "tags"),
    [
        (
            Request("asr", "fr"),
            "<|startoftranscript|><|fr|><|transcribe|><|fr|><|notimestamps|><|wo_itn|>",
        ),
        (
            Request("st", "en", "de"),
            "<|startoftranscript|><|en|><|translate|><|de|><|notimestamps|><|itn|>",
        ),
        (
            Request("er"),
            "<|startofanalysis|><|en|><|keyword|><|en|><|notimestamps|><|emotion_recognition|>",
        ),
        (
            Request("ac"),
            "<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|caption_audiocaps|>",
        ),
        (
            Request("sqa", question="who speaks?"),
            "<|startofanalysis|><|en|><|question|>who speaks?<|answer|>",
        ),
        (Request("asr", "en", prompt="what now"), "what now"),
    ],
)
def test_the_pretrained_model_is_asked_by_tags(lm: SpeechLM, request_: Request, tags: str) -> None:
    assert spelt(lm, request_) == f"<audio>~</audio>{tags}"


def test_the_chat_model_is_asked_in_words(chat: SpeechLM) -> None:
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert spelt(chat, Request("asr")) == (
        f"{system}<|im_start|>user\nAudio 1:<audio>~</audio>\nRecognize the speech<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert "into German<" in spelt(chat, Request("st", target_language="de"))
    ids = published.special_ids(published.ranks())
    ends = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
    assert chat.end_tokens == tuple(ids[end] for end in ends)
    chat.check(Request("asr"))


def test_what_the_pretrained_model_cannot_do_is_refused(lm: SpeechLM) -> None:
    ids = published.special_ids(published.ranks())
    assert lm.end_tokens == (ids["<|endoftext|>"],)
    with pytest.raises(UsageError, match=r"told the spoken language: give --language, one of en,"):
        lm.check(Request("asr"))
    with pytest.raises(UsageError, match=r"lacks the task 'chat'; it has asr, st, er, sqa, ac"):
        lm.check(Request("chat", question="hm?"))
    with pytest.raises(UsageError, match=r"lacks the target language 'ru'; it has en, zh"):
        lm.check(Request("st", "en", "ru"))
    lm.check(Request("er"))


@pytest.mark.parametrize("cut", [0, 0.3])
@pytest.mark.parametrize("name", ["lm", "chat"])
def test_the_whole_run(request: pytest.FixtureRequest, name: str, cut: float) -> None:
    place = request.getfixturevalue(name).name
    words = ["run", SPEECH, "--model", place, "--reduce", cut, "--language", "en", "--quiet"]
    words += ["--start-layer", 0, "--device", "cpu", "--max-new-tokens", 5]
    result = CliRunner().invoke(app, list(map(str, words)))
    record = json.loads(result.stdout.splitlines()[-1])
    assert record["status"] == "ok" or "ended by itself" in record["error"]["message"], record
    assert record["pred_text"]
    assert record["flops"]["reduction"] == pytest.approx(cut, abs=0.01)


def test_a_checkpoint_that_was_converted_passes_the_check(lm: SpeechLM) -> None:
    result = CliRunner().invoke(app, ["models", "check", lm.name, "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["family"], found["reason"]) == ("qwen_audio", None)
    assert found["audio_tokens"] == 75


def test_nothing_goes_beyond_the_positions(lm: SpeechLM) -> None:
    assert longest_prompt(lm) == pytest.approx(40.96)
    long = Segment("a", 0, 0.0, sound(16_000 * 41), 16_000)
    short = Segment("a", 0, 0.0, sound(16_000 * 30), 16_000)
    with Engine(lm, config("asr", new=5000)) as engine:
        with pytest.raises(TranscriptionError, match=r"41 s are more than the 40.96 s"):
            engine.runner.job(long)
        job = engine.runner.job(short)
        assert job.prompt.total + job.cap == 2048
    with (
        Engine(lm, config("sqa", question="why? " * 1200)) as engine,
        pytest.raises(TranscriptionError, match=r"no room .* 2048 positions of .* fewer words"),
    ):
        engine.runner.job(short)


def test_one_file_gives_the_same_as_three(tmp_path: Path, folder: Path) -> None:
    from safetensors.torch import load_file

    source = published.save(tmp_path / "one", files=1)
    assert convert("qwen-audio", source, tmp_path / "made").exit_code == 0
    ours, theirs = (load_file(at / "model.safetensors") for at in (tmp_path / "made", folder))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list(folder.glob("*.py")) and "auto_map" not in (folder / "config.json").read_text()


@pytest.mark.parametrize("place", ["../{}", "/tmp/{}", "sub/../../{}", "..\\{}", "C:{}", 5])
def test_an_index_that_names_files_elsewhere_is_refused(tmp_path: Path, place: str | int) -> None:
    source = published.save(tmp_path / "published")
    path = source / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for name, file in index["weight_map"].items():
        index["weight_map"][name] = place.format(file) if isinstance(place, str) else place
        (tmp_path / file).write_bytes((source / file).read_bytes())
    path.write_text(json.dumps(index))
    result = convert("qwen-audio", source, tmp_path / "made")
    assert result.exit_code == 3
    assert "is no file in it" in result.output
    assert not (tmp_path / "made").exists()


def test_weights_are_held_a_shard_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Never two files open, never more than a shard to be written; what is written still loads."""
    opened: list[Path] = []
    most = 0
    real = checkpoint.safe_open

    class Counted:
        def __init__(self, file: Path, **how: Any) -> None:
            self._file, self._inside = file, real(file, **how)

        def __enter__(self) -> Any:
            nonlocal most
            opened.append(self._file)
            most = max(most, len(opened))
            return self._inside.__enter__()

        def __exit__(self, *error: object) -> None:
            opened.remove(self._file)
            self._inside.__exit__(*error)

    limit = 100_000
    monkeypatch.setattr(checkpoint, "safe_open", Counted)
    monkeypatch.setattr(checkpoint.Writer.__init__, "__defaults__", (limit,))
    held: list[int] = []
    write = checkpoint.save_file

    def weighed(tensors: published.Tensors, file: Path, **how: Any) -> None:
        sizes = [tensor.nbytes for tensor in tensors.values()]
        held.append(sum(sizes) if len(sizes) > 1 else 0)
        assert all(one.untyped_storage().nbytes() == one.nbytes for one in tensors.values())
        write(tensors, file, **how)

    monkeypatch.setattr(checkpoint, "save_file", weighed)
    source = published.save(tmp_path / "published")
    result = convert("qwen-audio", source, tmp_path / "made")
    assert result.exit_code == 0, result.output
    assert (most, opened) == (1, [])
    assert max(held) <= limit
    index = json.loads((tmp_path / "made" / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) == len(held) > 3
    assert {one.name for one in (tmp_path / "made").glob("*.safetensors")} == files
    ours = load_model(str(tmp_path / "made"), device="cpu").model.state_dict()
    theirs = load_model(str(folder), device="cpu").model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_bfloat16_checkpoint_stays_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = published.save(tmp_path / "published", files=1)
    file = source / "model.safetensors"
    save_file({name: value.bfloat16() for name, value in load_file(file).items()}, file)
    assert convert("qwen-audio", source, tmp_path / "made").exit_code == 0
    found = load_file(tmp_path / "made" / "model.safetensors")
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "made" / "config.json").read_text())["dtype"] == "bfloat16"


def without(*names: str) -> Any:
    def change(source: Path) -> None:
        rewrite(source, lambda tensors: [tensors.pop(name) for name in names])

    return change


def rewrite(source: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    change(tensors)
    save_file(tensors, source / "model.safetensors")


def also(name: str, *shape: int) -> Any:
    def change(source: Path) -> None:
        rewrite(source, lambda tensors: tensors.update({name: torch.zeros(*shape)}))

    return change


def said(**changes: Any) -> Any:
    def change(source: Path) -> None:
        old = json.loads((source / "config.json").read_text())
        audio = {key: value for key, value in changes.items() if key in old["audio"]}
        other = {key: value for key, value in changes.items() if key not in audio}
        new = old | other | {"audio": old["audio"] | audio}
        (source / "config.json").write_text(json.dumps(new))

    return change


def pickled(source: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")


def broken(source: Path) -> None:
    with (source / "model.safetensors").open("r+b") as file:
        file.truncate(100_000)


def gone(name: str) -> Any:
    return lambda source: (source / name).unlink()


def fewer_tokens(source: Path) -> None:
    file = source / "qwen.tiktoken"
    file.write_bytes(b"\n".join(file.read_bytes().splitlines()[:-1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pickled, r"pickled weights only.* hf download ID --include"),
        (gone("model.safetensors"), r"holds neither .*; download the whole checkpoint"),
        (broken, r"model.safetensors cannot be read: .*; download it again"),
        (gone("generation_config.json"), r"generation_config.json cannot be read"),
        (gone("qwen.tiktoken"), r"qwen.tiktoken is no tiktoken vocabulary"),
        (fewer_tokens, r"the vocabulary puts <audio> at \d+, config.json at \d+"),
        (
            without("transformer.h.1.mlp.w1.weight", "lm_head.weight"),
            r"lacks lm_head.weight, model.language_model.layers.1.mlp.up_proj.weight; is it whole",
        ),
        (without("transformer.audio.audio_bos_eos_token.weight"), r"lacks .*bos_eos_token.weight"),
        (also("transformer.h.1.attn.c_proj.bias", 64), r"no use for .*h.1.attn.c_proj.bias"),
        (also("transformer.h.9.ln_1.weight", 64), r"no use for transformer.h.9.ln_1.weight"),
        (also("transformer.visual.conv1.weight", 2), r"no use for transformer.visual.conv1.weight"),
        (also("transformer.ln_f.weight", 3), r"ln_f.weight is \[3\], which is not what config"),
        (said(model_type="llama"), r"as published: model_type 'llama'"),
        (said(no_bias=False, avg_pool=False), r"as published: no_bias False, avg_pool False"),
        (said(kv_channels=8), r"as published: kv_channels 8"),
        (lambda source: (source / "config.json").write_text("{}"), r"config.json lacks 'audio'"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    from core.convert import convert as converted

    source = published.save(tmp_path / "published", files=1)
    change(source)
    with pytest.raises(StartError, match=message) as caught:
        converted("qwen-audio", source, tmp_path / "made", lambda _: None)
    assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["published"]


def test_buffers_of_older_files_are_left_out(tmp_path: Path) -> None:
    source = published.save(tmp_path / "published", files=1)
    also("transformer.h.0.attn.rotary_emb.inv_freq", 8)(source)
    also("transformer.h.0.attn.masked_bias", 1)(source)
    assert convert("qwen-audio", source, tmp_path / "made").exit_code == 0


def test_the_command_refuses_what_it_cannot_mean(tmp_path: Path) -> None:
    source = published.save(tmp_path / "published")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    for words, message in (
        (("qwen2", source, tmp_path / "made"), "unknown layout 'qwen2'; choose one of qwen-audio"),
        (("qwen-audio", tmp_path / "none", tmp_path / "made"), "does not exist; download"),
        (("qwen-audio", source, tmp_path / "full"), "is there and not empty; name a new folder"),
    ):
        result = convert(*words)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())
    assert (tmp_path / "full" / "mine").read_text() == "kept"
    (tmp_path / "empty").mkdir()
    result = convert("qwen-audio", source, tmp_path / "empty")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "reading model-00002-of-00003.safetensors" in result.stderr


def test_a_published_checkpoint_is_sent_to_convert(tmp_path: Path) -> None:
    source = published.save(tmp_path / "published")
    with pytest.raises(StartError, match=r"never run; fastadasp convert --help says"):
        load_model(str(source), device="cpu")
