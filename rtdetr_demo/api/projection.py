"""The answer in the form of a client's own JSON schema.

Every field that a schema requires must exist in an answer (`schemas.Pictures`), in any nesting:
fields are matched by name and type, arrays also by their items. The rest is checked on the result.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

from .errors import Refusal
from .schema_kinds import alternatives, is_nullable, kinds_of_schema, kinds_of_value

_SECONDS = 2.0
_MAX_DEPTH, _MAX_STEPS = 40, 5_000

_BOX = {"xmin": 1, "ymin": 1, "xmax": 2, "ymax": 2}
_DETECTION = {"label": "dog", "score": 0.5, "box": _BOX}
_PICTURE = {
    "checkpoint": "bundled",
    "decoder_layers": 6,
    "image": {"width": 8, "height": 8},
    "detections": [_DETECTION],
    "timing_ms": {"preprocess": 0.5, "model": 0.5, "postprocess": 0.5, "total": 1.5},
}
_SETTINGS = {"decoder_layers": 6, "threshold": 0.5, "classes": ["dog"], "max_detections": 9}
_ANSWER = {"settings": _SETTINGS, "results": [_PICTURE]}
"""An answer that has every field: what a schema is matched against."""

FIELDS = (
    "label, score, box (xmin, ymin, xmax, ymax), image (width, height), checkpoint, "
    "decoder_layers, timing_ms, settings"
)

Frames = tuple[dict[str, Any], ...]
"""The objects around a place in an answer, outermost first."""

Take = Callable[[Frames], Any]
"""Gives the value of one place of the client's form."""


class _Misfit(Exception):
    """The schema asks for what an answer lacks; the text is where."""


class _NoDetection(Exception):
    """One detection is wanted, and nothing was detected."""


class _OtherLabel(Exception):
    """The label of a detection is none of the schema's."""


class _Unusable(Exception):
    """The schema itself is at fault."""


@dataclass(frozen=True)
class _Scope:
    """Where a part of the schema is matched: inside these objects of `_ANSWER`."""

    frames: Frames
    path: str = ""
    in_array: bool = False
    depth: int = 0

    def inside(self, name: str, *frames: dict[str, Any], in_array: bool = False) -> "_Scope":
        path = f"{self.path}.{name}".strip(".")
        return _Scope(self.frames + frames, path, self.in_array or in_array, self.depth + 1)

    def index(self, specimen: dict[str, Any]) -> int | None:
        """Which of the frames this is, the innermost one if it is several."""
        places = [i for i, frame in enumerate(self.frames) if frame is specimen]
        return places[-1] if places else None


class Projection:
    """Gives answers about this many pictures in the form of a JSON schema.

    `name` and `param` say, in refusals, which schema it is and where it stood. Raises Refusal: 422
    where an answer lacks a required field, 400 where the schema is not usable.
    """

    def __init__(self, schema: dict[str, Any], name: str, param: str, pictures: int):
        self._schema = schema
        self._name = name
        self.param = param
        self._pictures = pictures
        self._steps = 0
        self._uses: list[dict[str, Any]] = []
        """The objects of `_ANSWER` in which fields of the schema were found."""
        self._labels: set[str] = set()
        self._any_label = False
        try:
            Draft202012Validator.check_schema(schema)
            self._take = self._value("", schema, _Scope(self._frames(_ANSWER)))
        except _Misfit as misfit:
            hint = "" if pictures == 1 else " Several pictures need an array with an item for each."
            raise self._refusal(
                f"which asks for `{misfit}`. An answer has these fields: {FIELDS}.{hint}"
            ) from None
        except Exception:
            raise self._unusable() from None
        if not self._uses:
            raise self._refusal(f"which asks for none of the fields of an answer: {FIELDS}.")

    @property
    def labels(self) -> set[str] | None:
        """The only labels that the schema's enums let through; None where all may pass."""
        return None if self._any_label or not self._labels else self._labels

    def apply(self, answer: dict[str, Any]) -> Any:
        """The answer (`schemas.Pictures`) in the client's form. Raises Refusal."""
        try:
            projected = self._take(self._frames(answer))
            _bounded_validator()(self._schema, registry=Registry()).validate(projected)
        except (_NoDetection, _OtherLabel):
            raise self._refusal(
                "which has one place for a detection, and nothing was detected. Make it an array "
                "or nullable."
            ) from None
        except ValidationError as error:
            raise self._refusal(f"at {error.json_path}.") from None
        except Exception:
            # References without end, expressions that run for ever: there is no end of kinds.
            raise self._unusable() from None
        return projected

    def _frames(self, answer: dict[str, Any]) -> Frames:
        # The fields of the only picture may stand anywhere; those of several need an array.
        return (answer, answer["results"][0]) if self._pictures == 1 else (answer,)

    def _refusal(self, why: str) -> Refusal:
        return Refusal(
            422,
            f"The answer does not fit the schema “{self._name}”, {why} Change the schema, or use "
            "json_object.",
            "unsupported_schema",
            self.param,
        )

    def _unusable(self) -> Refusal:
        return Refusal(400, "This JSON schema cannot be used.", "invalid_schema", self.param)

    # --- From a schema to what takes its value from an answer ------------------------------------

    def _value(self, name: str, schema: Any, scope: _Scope) -> Take:
        """What takes the value of a property of this name; "" is the whole or an array's item."""
        schema = self._resolved(schema, scope)
        takes: list[Take] = []
        misfit = _Misfit(scope.path or "(root)")
        for alternative in schema.get("anyOf") or schema.get("oneOf") or [schema]:
            before = len(self._uses), set(self._labels), self._any_label
            try:
                takes.append(self._alternative(name, self._resolved(alternative, scope), scope))
            except _Misfit as error:
                misfit = error
                del self._uses[before[0] :]
                _, self._labels, self._any_label = before
        if any(is_nullable(self._resolved(one, scope)) for one in alternatives(schema)):
            takes.append(lambda _: None)
        if not takes:
            raise misfit
        return _first_of(takes)

    def _alternative(self, name: str, schema: dict[str, Any], scope: _Scope) -> Take:
        kinds = kinds_of_schema(schema)
        if "object" in kinds and schema.get("properties"):
            return self._object(name, schema, scope)
        if "array" in kinds:
            return self._array(name, schema, scope)
        if not name:  # a free form is the whole
            if not kinds & {"object", "any"}:
                raise _Misfit(scope.path or "(root)")
            self._uses.append(scope.frames[-1])
            whole = len(scope.frames) - 1 if scope.in_array else 0
            return lambda frames: frames[whole]
        take = self._find(name, kinds, scope)
        if name == "label":
            return self._label(schema, take)
        return take

    def _label(self, schema: dict[str, Any], take: Take) -> Take:
        if "enum" not in schema and "const" not in schema:
            self._any_label = True
            return take
        names = schema.get("enum", [schema.get("const")])
        allowed = {one.lower(): one for one in names if isinstance(one, str)}
        self._labels |= set(allowed)

        def labelled(frames: Frames) -> Any:
            label = take(frames).lower()
            if label not in allowed:
                raise _OtherLabel
            return allowed[label]

        return labelled

    def _object(self, name: str, schema: dict[str, Any], scope: _Scope) -> Take:
        place: Take | None = None
        if name:
            try:
                place = self._find(name, {"object"}, scope)
                scope = _Scope(
                    (*scope.frames, place(scope.frames)), scope.path, scope.in_array, scope.depth
                )
            except _Misfit:  # a name of the client's own, for what is here
                place = None
        members: dict[str, Take] = {}
        for key, part in schema["properties"].items():
            try:
                members[key] = self._value(key, part, scope.inside(key))
            except _Misfit:
                if key in schema.get("required", ()):
                    raise

        def take(frames: Frames) -> dict[str, Any]:
            here = frames if place is None else (*frames, place(frames))
            return {key: member(here) for key, member in members.items()}

        return take

    def _array(self, name: str, schema: dict[str, Any], scope: _Scope) -> Take:
        items = schema.get("items", {})
        candidates: list[tuple[Take, Any, dict[str, Any]]] = []
        if name:
            try:
                listed = self._find(name, {"array"}, scope)
                candidates = [(listed, listed(scope.frames)[0], self._uses.pop())]
            except _Misfit:  # a name of the client's own
                pass
        if not candidates:
            # No list of all detections in each detection, nor of all pictures in each item.
            picture = scope.index(_PICTURE) if scope.index(_DETECTION) is None else None
            if picture is not None:
                candidates.append((_member(picture, "detections"), _DETECTION, _PICTURE))
            if not scope.in_array:
                candidates.append((_member(0, "results"), _PICTURE, _ANSWER))
        found: list[tuple[int, Take, Take, Any, dict[str, Any]]] = []
        misfit = _Misfit(scope.path or "(root)")
        for listed, element, outer in candidates:
            before = len(self._uses)
            try:
                item = self._item(name, items, element, scope)
            except _Misfit as error:
                misfit = error
                continue
            used = sum(one is element for one in self._uses[before:])
            if used or not isinstance(element, dict):
                found.append((used, listed, item, element, outer))
        if not found:
            raise misfit
        _, listed, item, element, outer = max(found, key=lambda one: one[0])
        self._uses.append(outer)
        limit = schema.get("maxItems") if element is _DETECTION else None

        def take(frames: Frames) -> list[Any]:
            taken: list[Any] = []
            for one in listed(frames):
                if limit is not None and len(taken) >= limit:
                    break
                try:
                    taken.append(item((*frames, one)))
                except _OtherLabel:
                    if element is not _DETECTION:
                        raise
            return taken

        return take

    def _item(self, name: str, items: Any, element: Any, scope: _Scope) -> Take:
        """What takes an item of an array whose items are such elements of an answer."""
        if not isinstance(element, dict):
            if not kinds_of_schema(self._resolved(items, scope)) & kinds_of_value(element):
                raise _Misfit(scope.path)
            return lambda frames: frames[-1]
        inner = scope.inside("items", element, in_array=True)
        try:
            return self._value("", items, inner)
        except _Misfit:
            # labels: ["dog", "cat"] is every detection's label.
            for field in (name, name.removesuffix("s"), name.removesuffix("es")):
                if field and element is _DETECTION:
                    try:
                        return self._value(field, items, inner)
                    except _Misfit:
                        pass
            raise

    def _find(self, name: str, kinds: set[str], scope: _Scope) -> Take:
        """What takes the nearest field of this name and one of these kinds. Raises _Misfit."""
        for at in reversed(range(len(scope.frames))):
            if (keys := _search(scope.frames[at], name, kinds)) is not None:
                self._uses.append(scope.frames[at])
                return _member(at, *keys)
        picture = scope.index(_PICTURE)
        keys = _search(_DETECTION, name, kinds)
        if scope.in_array or picture is None or keys is None:
            raise _Misfit(scope.path)
        self._uses.append(_DETECTION)

        def of_the_best(frames: Frames) -> Any:
            if not (detections := frames[picture]["detections"]):
                raise _NoDetection
            return _member(0, *keys)((detections[0],))

        return of_the_best

    def _resolved(self, schema: Any, scope: _Scope) -> dict[str, Any]:
        """The schema without references and `allOf`. Raises _Unusable where that has no end."""
        self._steps += 1
        if self._steps > _MAX_STEPS or scope.depth > _MAX_DEPTH:
            raise _Unusable
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            raise _Misfit(scope.path)
        if "$ref" in schema:
            target: Any = self._schema
            start, *keys = str(schema["$ref"]).split("/")
            if start != "#":
                raise _Unusable
            for key in keys:
                target = target[key.replace("~1", "/").replace("~0", "~")]
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self._resolved({**target, **rest}, scope)
        if "allOf" in schema:
            parts = [self._resolved(part, scope) for part in schema["allOf"]]
            whole = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                properties = {**part.get("properties", {}), **whole.get("properties", {})}
                required = [*part.get("required", ()), *whole.get("required", ())]
                whole = {**part, **whole}
                if properties:
                    whole |= {"properties": properties, "required": required}
            return whole
        return schema


def _search(place: dict[str, Any], name: str, kinds: set[str]) -> tuple[str, ...] | None:
    """The keys to the field of this name and one of these kinds, in an object or those in it."""
    if name in place and kinds & kinds_of_value(place[name]):
        return (name,)
    for key, value in place.items():
        if isinstance(value, dict) and (keys := _search(value, name, kinds)):
            return (key, *keys)
    return None


def _member(frame: int, *keys: str) -> Take:
    def take(frames: Frames) -> Any:
        value: Any = frames[frame]
        for key in keys:
            value = value[key]
        return value

    return take


def _first_of(takes: list[Take]) -> Take:
    """What takes the value of the first alternative that has one."""

    def take(frames: Frames) -> Any:
        *others, last = takes
        for one in others:
            try:
                return one(frames)
            except (_NoDetection, _OtherLabel):
                pass
        return last(frames)

    return takes[0] if len(takes) == 1 else take


def _bounded_validator() -> type[Draft202012Validator]:
    """A validator for one use, which gives up on what could keep it busy for ever."""
    end = time.monotonic() + _SECONDS

    def timed(check: Callable) -> Callable:
        def run(*arguments: Any) -> Iterator:
            if time.monotonic() > end:
                raise TimeoutError
            yield from check(*arguments) or ()

        return run

    def refuse(*_: Any) -> Iterator:
        raise ValueError("a client's regular expression may run for ever")

    checks = {name: timed(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    return extend(
        Draft202012Validator,
        {**checks, "$dynamicRef": refuse, "pattern": refuse, "patternProperties": refuse},
    )
