"""Languages by name, code, tag or locale; what is none is refused, with the nearest."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from babel import Locale
from babel.core import get_global
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UsageError
from core.flags import resolve
from core.languages import canonical, english_name, language_code
from core.models.facts import LANGUAGES, Request, language_name
from core.models.load import _family, families
from core.models.qwen2_audio import Qwen2Audio

CODES = sorted({canonical(code) for code in Locale("en").languages} - {None})


@pytest.mark.parametrize(
    ("said", "code"),
    [
        *((one, "de") for one in ("de", "DE", "deu", "ger", "German", "deutsch", " DEUTSCH ")),
        *((one, "de") for one in ("de-DE", "de_AT", "de_DE.UTF-8", "de_DE@euro", "de-x-twain")),
        *((one, "zh") for one in ("zh-Hans", "zh_Hant_TW", "zho", "chi", "cmn", "cmn-Hans-CN")),
        *(
            (one, "zh")
            for one in ("Mandarin", "Chinese (Simplified)", "Simplified Chinese", "中文")
        ),
        *((one, "yue") for one in ("Cantonese", "zh-yue", "yue-HK")),
        *((one, "pt") for one in ("Portuguese (Brazil)", "brazilian portuguese", "pt-BR")),
        *((one, "en") for one in ("en-us", "EN_gb", "british english", "eng")),
        *((one, "fil") for one in ("tl", "Tagalog", "filipino")),
        *((one, "he") for one in ("iw", "heb", "עברית")),
        *((one, "fa") for one in ("Farsi", "Persian", "per", "prs")),
        *((one, "fr") for one in ("français", "fre", "fr-CA-x-quebec")),
        *((one, None) for one in ("auto", "AUTO", "", "  ", None)),
    ],
)
def test_what_people_write(said: str | None, code: str | None) -> None:
    assert language_code("-l", said) == code


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Germen", "did you mean German (de)?"),
        ("francais", "did you mean French (fr)?"),
        ("spansih", "did you mean Spanish (es)?"),
        ("jp", "did you mean Japanese (ja)?"),
        ("cz", "did you mean Czech (cs)?"),
        ("us", "did you mean English (en)?"),
        ("xx", "write it as in German, de or de-DE"),
        ("und", "write it as in German, de or de-DE"),
        ("<|en-us|>", "write it as in German, de or de-DE"),
        ("de-!!", "write it as in German, de or de-DE"),
    ],
)
def test_what_is_none_is_refused_with_the_nearest(said: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        language_code("--language", said)
    assert str(refused.value) == (
        f"--language {said}: no language has this name, code or tag; {hint}"
    )


@given(
    st.sampled_from(CODES),
    st.sampled_from(["", "-DE", "_br", "-Latn", "-Cyrl_RS", "-419", "-x-own", "_MX.UTF-8", "@a"]),
    st.booleans(),
)
def test_script_and_country_leave_the_language(code: str, more: str, loud: bool) -> None:
    said = (code + more).upper() if loud else code + more
    assert language_code("-l", said) == code


@given(st.sampled_from(sorted(get_global("language_aliases"))))
def test_old_and_overlong_codes_are_short_ones(alias: str) -> None:
    found = canonical(alias)
    assert found is None or (canonical(found) == found and found in CODES)


@pytest.mark.parametrize("how", [str.lower, str.upper, str.title])
def test_every_language_goes_by_its_english_name(how: Callable[[str], str]) -> None:
    assert len(CODES) > 500
    for code in CODES:
        name = english_name(code)
        if canonical(name) is None:  # a name that is a code, such as Ga, is the code
            assert language_code("-l", how(name)) == code


@given(st.text() | st.text(string.ascii_letters + "-_", max_size=6))
def test_nothing_else_comes_out(said: str) -> None:
    try:
        assert language_code("-l", said) in (None, *CODES)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1


def test_families_go_by_the_same_codes() -> None:
    for name in families():
        about = _family(name).about
        for code in (*(about.source_languages or ()), *(about.target_languages or ())):
            assert canonical(code) == code, name
    assert all(canonical(code) == code for code in LANGUAGES)
    assert (language_name("fil"), language_name("sw"), language_name(None)) == (
        "Filipino",
        "Swahili",
        None,
    )


def test_settings_are_those_of_the_code() -> None:
    plain = resolve(language="de")
    assert plain.language == "de"
    for said in ("German", "deu", "de-DE"):
        assert resolve(language=said) == plain
        assert resolve(language=said).settings_hash == plain.settings_hash
    assert resolve(task="st", lang="Deutsch", language="en-US").target_language == "de"
    assert resolve(lang="German", language="de").language == "de"


@pytest.mark.parametrize("code", ["pl", "sw", "en-us"])
def test_qwen2_audio_is_asked_in_its_own_languages_only(code: str) -> None:
    lm = object.__new__(Qwen2Audio)
    lm.name, lm.card = "some", {}
    extractor = type("E", (), {"sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30})
    lm.processor = type("P", (), {"feature_extractor": extractor})
    with pytest.raises(UsageError, match=f"lacks the spoken language '{code}'; it has zh, en, yue"):
        lm.check(Request("asr", code))
    lm.check(Request("asr", "yue"))
    lm.card = {"source_languages": None}
    lm.check(Request("asr", "pl"))
    lm.card = {"source_languages": ["cmn", "en-GB", "qzz"]}
    assert lm.facts.source_languages == ("zh", "en", "qzz")
