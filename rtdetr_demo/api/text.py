"""Settings that stand in a sentence: "threshold 0.6, only dogs and cats, after layer 3".

What is ambiguous is not read: two different thresholds set none, and "only" something that is not
wholly made of class names filters nothing.
"""

import re
from collections.abc import Collection
from typing import Any

# Nothing that goes on as a longer number, a word, or a range ("3 to 5") is a plain number.
_END = r"(?![\w%]|\.\d|\s?%|\s*(?:-|–|to|or|through)\s*[\d.])"
_SCORE = rf"(\d{{1,3}}(?:\.\d+)?\s?%|[01](?:\.\d+)?|\.\d+){_END}"
_JOIN = r"(?:\s+(?:of|is|at|to|above|over|at least|>=?))?\s*[=:>]*\s*"
_THRESHOLD = re.compile(rf"\b(?:threshold|confidence|scores?){_JOIN}{_SCORE}", re.I)
_LAYERS = re.compile(
    r"(?<![\w.-])(?<!or )(?<!to )(?:(\d{1,2})\s+(?:decoder\s+)?layers?\b|"
    rf"(?:decoder[ _])?layers?(?:\s+(?:of|is))?\s*[=:]?\s*(\d{{1,2}}){_END})",
    re.I,
)
_MOST = re.compile(
    r"\b(?:(?:at most|no more than|up to|max(?:imum)?(?:\s+of)?)\s+(\d{1,4})\s+"
    r"(?:detections?|objects?|boxes|results?)\b|"
    rf"(?:max_detections\s*[=:]?|top)\s*(\d{{1,4}}){_END})",
    re.I,
)
_ONLY = re.compile(
    r"(?<!not )\b(?:only|just)\s+(?:the\s+|show\s+|find\s+|detect\s+)?([^.;:!?\n]+)", re.I
)
_WHERE = re.compile(
    r"\s+(?:in|on|from)\s+(?:this|the|that|my)\s+(?:image|picture|photo)\b.*$", re.I
)
_AND = re.compile(r"\s*(?:,|&|/|\band\b|\bor\b)\s*", re.I)

_IRREGULAR = {"people": "person", "persons": "person", "men": "man", "women": "woman",
              "children": "child", "mice": "mouse", "knives": "knife", "geese": "goose",
              "bikes": "bicycle", "bike": "bicycle", "motorbikes": "motorcycle",
              "motorbike": "motorcycle", "planes": "airplane", "plane": "airplane"}  # fmt: skip


def read_settings(text: str, class_names: Collection[str]) -> dict[str, Any]:
    """The settings that a text states without ambiguity, by their names in `Settings`."""
    # Someone's whole essay says nothing to a detector, and costs time to search.
    text = text[:2000]
    settings: dict[str, Any] = {}
    found = {_number(match) for match in _THRESHOLD.findall(text)}
    if len(found) == 1 and 0 <= (threshold := found.pop()) <= 1:
        settings["threshold"] = threshold
    for name, pattern in [("decoder_layers", _LAYERS), ("max_detections", _MOST)]:
        numbers = {int(one or other) for one, other in pattern.findall(text)}
        if len(numbers) == 1 and (number := numbers.pop()) >= 1:
            settings[name] = number
    named = [_classes(match, class_names) for match in _ONLY.findall(text)]
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
            other = _THRESHOLD.search(word) or _LAYERS.search(word) or _MOST.search(word)
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
