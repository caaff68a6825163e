"""Settings that stand in a sentence: "threshold 0.6, only dogs and cats, after layer 3".

What is ambiguous is not read: two different thresholds set none, and "only" something that is not
wholly made of class names filters nothing.
"""

import re
from collections.abc import Collection
from typing import Any

# Nothing that goes on as a longer number, a word, or a range ("3 to 5") is a plain number.
_END = r"(?![\w%]|\.\d|\s?%|\s*(?:-|–|to|or|through)\s*[\d.])"
_PART = r"\d{1,3}(?:\.\d+)?\s?%|0?\.\d+"
_IS = r"\s*(?:(?:of|is|at|to|above|over|at least)\s+)?[=:>]*\s*"
_THRESHOLD = re.compile(
    rf"\bthreshold{_IS}({_PART}|0|1|1\.0+){_END}"
    # A game has scores, too: here only a comparison with a fraction will do.
    rf"|\b(?:confidence|scores?)\s*(?:above|over|at least|>=?)\s*({_PART}){_END}",
    re.I,
)
_LAYERS = re.compile(
    r"(?<![\w.-])(?<!or )(?<!to )(?:(\d{1,2})\s+decoder\s+layers?\b|"
    rf"(?:decoder[ _]layers?|after layer)(?:\s+(?:of|is))?\s*[=:]?\s*(\d{{1,2}}){_END})",
    re.I,
)
_MAX_DETECTIONS = re.compile(
    r"\b(?:at most|no more than|up to|max(?:imum)?(?:\s+of)?|top)\s+(\d{1,4})\s+"
    r"(?:detections?|objects?|boxes|results?)\b|"
    rf"\bmax_detections\s*[=:]?\s*(\d{{1,4}}){_END}",
    re.I,
)
_ONLY = re.compile(r"\b(?:only|just)\s+(?:the\s+|show\s+|find\s+|detect\s+)?(.+)", re.I)
_CLAUSE = re.compile(r"[;!?\n]+|\.(?!\d)")
_DENIED = re.compile(r"\b(?:not|never|except|without|unless)\b|n['’]?t\b", re.I)
_WHERE = re.compile(
    r"\s+(?:in|on|from)\s+(?:this|the|that|my)\s+(?:image|picture|photo)\b.*$", re.I
)
_AND = re.compile(r"\s*(?:,|&|/|\band\b|\bor\b)\s*", re.I)

_IRREGULAR = {"people": "person", "persons": "person", "men": "man", "women": "woman",
              "children": "child", "mice": "mouse", "knives": "knife", "geese": "goose",
              "bikes": "bicycle", "bike": "bicycle", "motorbikes": "motorcycle",
              "motorbike": "motorcycle", "planes": "airplane", "plane": "airplane"}  # fmt: skip


def read_settings(text: str, class_names: Collection[str], depth: int) -> dict[str, Any]:
    """The settings that a text states without ambiguity, by their names in `Settings`.

    `depth`: how many decoder layers there are; a number beyond them means something else.
    """
    # Someone's whole essay says nothing to a detector, and costs time to search.
    text = re.sub(r"[^\S\n]+", " ", text[:2000])
    clauses = [clause for clause in _CLAUSE.split(text) if not _DENIED.search(clause)]
    settings: dict[str, Any] = {}
    thresholds = {_number(a or b) for clause in clauses for a, b in _THRESHOLD.findall(clause)}
    if len(thresholds) == 1 and (threshold := thresholds.pop()) <= 1:
        settings["threshold"] = threshold
    for name, pattern, limit in [
        ("decoder_layers", _LAYERS, depth),
        ("max_detections", _MAX_DETECTIONS, 10_000),
    ]:
        numbers = {int(a or b) for clause in clauses for a, b in pattern.findall(clause)}
        if len(numbers) == 1 and 1 <= (number := numbers.pop()) <= limit:
            settings[name] = number
    named = [_classes(words, class_names) for c in clauses for words in _ONLY.findall(c)]
    if len(named) == 1 and named[0]:
        settings["classes"] = named[0]
    return settings


def _number(text: str) -> float:
    return float(text.rstrip("% ")) / 100 if text.endswith("%") else float(text)


def _classes(phrase: str, class_names: Collection[str]) -> list[str] | None:
    """The classes that a list of words names, or None where any of it is something else.

    The list ends where another setting begins: "only dogs, threshold 0.6".
    """
    known = {name.lower(): name for name in class_names}
    classes: list[str] = []
    for part in filter(None, _AND.split(_WHERE.sub("", phrase.strip()))):
        word = re.sub(r"^(?:the|a|an|any|all)\s+", "", part.lower())
        word = re.sub(r"\s+(?:please|objects?)$", "", word)
        name = next((known[one] for one in _singulars(word) if one in known), None)
        if name is None:
            other = _THRESHOLD.search(word) or _LAYERS.search(word) or _MAX_DETECTIONS.search(word)
            return classes if classes and other else None
        if name not in classes:
            classes.append(name)
    return classes or None


def _singulars(word: str) -> list[str]:
    """The word itself, and what it may be the plural of."""
    head, _, last = word.rpartition(" ")
    forms = [last, _IRREGULAR.get(last, last)]
    for ending, instead in [("ies", "y"), ("es", ""), ("s", "")]:
        if last.endswith(ending):
            forms.append(last.removesuffix(ending) + instead)
    return [f"{head} {form}".strip() for form in forms]
