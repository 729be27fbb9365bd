"""Cardinal numbers from 0 to 9999 as English words and as one German compound word."""

from . import lexicon as lex

LIMIT = 10_000
"""Numbers below this one have a name here."""

_SMALL = (*lex.DIGITS, *lex.TEENS)


def english(number: int) -> str:
    """Say a number in English: "three thousand two hundred and five"."""
    _check(number)
    thousands, below = divmod(number, 1000)
    hundreds, rest = divmod(below, 100)
    said = [f"{_SMALL[thousands].en} thousand"] if thousands else []
    said += [f"{_SMALL[hundreds].en} hundred"] if hundreds else []
    if rest or not said:
        said += ["and"] if said else []
        said.append(_english_below_hundred(rest))
    return " ".join(said)


def german(number: int) -> str:
    """Write a number in German as one word: "dreitausendzweihundertfünf"."""
    _check(number)
    thousands, below = divmod(number, 1000)
    hundreds, rest = divmod(below, 100)
    written = f"{_inner(thousands)}tausend" if thousands else ""
    written += f"{_inner(hundreds)}hundert" if hundreds else ""
    return written + _german_below_hundred(rest) if rest or not written else written


def english_words() -> list[str]:
    """All English words that a number can contain."""
    return [*(pair.en for pair in (*_SMALL, *lex.TENS)), "hundred", "thousand", "and"]


def german_words() -> list[str]:
    """Return the German numbers that are no compounds of others: every piece can start a word."""
    return [pair.de for pair in (*_SMALL, *lex.TENS)]


def german_pieces() -> list[str]:
    """Return the parts that continue a German compound, for tokens without a leading space."""
    return sorted({"tausend", "hundert", "und", "ein", *german_words()} - {lex.DIGITS[0].de})


def _english_below_hundred(number: int) -> str:
    if number < len(_SMALL):
        return _SMALL[number].en
    tens, ones = divmod(number, 10)
    return lex.TENS[tens - 2].en + (f" {lex.DIGITS[ones].en}" if ones else "")


def _german_below_hundred(number: int) -> str:
    if number < len(_SMALL):
        return _SMALL[number].de
    tens, ones = divmod(number, 10)
    return (f"{_inner(ones)}und" if ones else "") + lex.TENS[tens - 2].de


def _inner(digit: int) -> str:
    """Write a digit that more of the compound follows: "eins" loses its s."""
    return "ein" if digit == 1 else lex.DIGITS[digit].de


def _check(number: int) -> None:
    if not 0 <= number < LIMIT:
        raise ValueError(f"number {number} is outside 0..{LIMIT - 1}")
