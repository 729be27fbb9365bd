"""Languages as people write them: by name, by code of two or three letters, by tag or locale.

What they are called and which codes are old or overlong says Unicode's CLDR, by way of Babel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache

from .errors import UsageError

_TAG = re.compile(r"([a-z]{2,3})((?:[-_][a-z0-9]{1,8})*)")
_NONE = frozenset(("und", "mul", "zxx", "root"))  # undetermined, several, no language at all
_ALSO = {
    "burmese": "my",
    "castilian": "es",
    "farsi": "fa",
    "haitian": "ht",
    "mandarin": "zh",
    "mandarin chinese": "zh",
    "panjabi": "pa",
    "putonghua": "zh",
    "valencian": "ca",
}
"""English names that CLDR has under another one only."""


def language_code(flag: str, said: str | None) -> str | None:
    """The code that models know a language by: the shortest there is, without script or country.

    Args:
        flag: where it was said.
        said: `German`, `Deutsch`, `de`, `deu`, `ger`, `de-DE`, `de_DE.UTF-8`, ...; `auto` or
            nothing is no language.

    Raises:
        UsageError: no such language; names the nearest.
    """
    word = " ".join((said or "").split())
    if word.casefold() in ("", "auto"):
        return None
    found = canonical(word) or _by_name(word.casefold())
    if found is None:
        nearest = _nearest(word.casefold())
        hint = f"did you mean {english_name(nearest)} ({nearest})?" if nearest else _EXAMPLES
        raise UsageError(f"{flag} {word}: no language has this name, code or tag; {hint}")
    return found


_EXAMPLES = "write it as in German, de or de-DE"


def canonical(tag: str) -> str | None:
    """The shortest code of a code or tag; None if it is none."""
    match = _TAG.fullmatch(re.split("[.@]", tag.lower())[0])
    if match is None:
        return None
    rest = re.split("[-_]", match[2])[1:]
    # an extended language says more than what it extends: zh-yue is yue
    code = rest[0] if rest and re.fullmatch("[a-z]{3}", rest[0]) else match[1]
    code = _aliases().get(code, code).split("_")[0]
    return code if code in _names() else None


def english_name(code: str) -> str:
    """What a language is called in English; the code itself where it has no name."""
    return _names().get(code, code)


@cache
def _names() -> Mapping[str, str]:
    """English names by code."""
    from babel import Locale

    names = Locale("en").languages.items()
    return {code: name for code, name in names if "_" not in code and code not in _NONE}


@cache
def _aliases() -> Mapping[str, str]:
    from babel.core import get_global

    found: Mapping[str, str] = get_global("language_aliases")
    return found


def _by_name(name: str) -> str | None:
    plain = re.sub(r"\s*\(.*\)$", "", name)  # Portuguese (Brazil)
    found = (by.get(one) for by in _lists() for one in (name, plain))
    code = next(filter(None, found), None)
    return code and canonical(code)


def _lists() -> Iterator[Mapping[str, str]]:
    """Codes by name; what they call themselves comes last, for it takes longest."""
    yield _english()
    yield _own()


@cache
def _english() -> Mapping[str, str]:
    from babel import Locale

    names = Locale("en").languages.items()
    return _ALSO | {name.casefold(): code for code, name in names if canonical(code)}


@cache
def _own() -> Mapping[str, str]:
    from babel import Locale
    from babel.localedata import locale_identifiers

    codes = (code for code in locale_identifiers() if code in _names())
    names = ((Locale(code).languages.get(code), code) for code in sorted(codes))
    return {name.casefold(): code for name, code in names if name}


def _nearest(word: str) -> str | None:
    """A language that may be meant: of a country whose code this is, or of a name like this."""
    from babel.core import get_global

    if len(word) < 4:
        likely = get_global("likely_subtags")
        country = word.upper() in get_global("territory_languages")
        return canonical(likely.get(f"und_{word.upper()}", likely["und"])) if country else None
    names = {**_own(), **_english()}
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return canonical(names[close[0]]) if close else None
