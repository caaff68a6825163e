"""Clients' own JSON schemas, filled from an answer."""

import time

import pytest

from rtdetr_demo.api.errors import Refusal
from rtdetr_demo.api.projection import _ANSWER, Projection
from rtdetr_demo.api.schemas import Pictures


def detection(label: str, score: float) -> dict:
    return {"label": label, "score": score, "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}


PICTURE = {
    "checkpoint": "tiny",
    "decoder_layers": 3,
    "image": {"width": 10, "height": 20},
    "detections": [detection("dog", 0.9), detection("cat", 0.8)],
    "timing_ms": {"preprocess": 1.0, "model": 2.0, "postprocess": 0.5, "total": 3.5},
}
SETTINGS = {"decoder_layers": 3, "threshold": 0.5, "classes": None, "max_detections": None}
STRING, NUMBER = {"type": "string"}, {"type": "number"}


def obj(**properties: object) -> dict:
    """A strict object, as OpenAI's packages write it."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def array(items: dict, **more: object) -> dict:
    return {"type": "array", "items": items, **more}


def project(schema: dict, *pictures: dict) -> object:
    results = list(pictures) or [PICTURE]
    projection = Projection(schema, "mine", "response_format", len(results))
    return projection.apply({"settings": SETTINGS, "results": results})


def test_what_schemas_are_matched_against_is_an_answer_with_every_field():
    assert Pictures.model_validate(_ANSWER).model_dump(exclude_none=True) == _ANSWER


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (obj(results=array(obj(checkpoint=STRING))), {"results": [{"checkpoint": "tiny"}]}),
        (obj(detections=array(obj(label=STRING, score=NUMBER))),
         {"detections": [{"label": "dog", "score": 0.9}, {"label": "cat", "score": 0.8}]}),
        (obj(things=array(obj(label=STRING))), {"things": [{"label": "dog"}, {"label": "cat"}]}),
        (obj(answer=obj(objects=array(obj(xmin={"type": "integer"}, label=STRING)))),
         {"answer": {"objects": [{"xmin": 1, "label": "dog"}, {"xmin": 1, "label": "cat"}]}}),
        (obj(things=array(obj(box=obj(ymax=NUMBER)))),
         {"things": [{"box": {"ymax": 4}}, {"box": {"ymax": 4}}]}),
        (obj(pictures=array(obj(things=array(obj(label=STRING))))),
         {"pictures": [{"things": [{"label": "dog"}, {"label": "cat"}]}]}),
        (obj(width=NUMBER, image=obj(height=NUMBER)), {"width": 10, "image": {"height": 20}}),
        (obj(threshold=NUMBER, total=NUMBER), {"threshold": 0.5, "total": 3.5}),
        (obj(labels=array(STRING)), {"labels": ["dog", "cat"]}),
        (obj(things=array(obj(label=STRING), maxItems=1)), {"things": [{"label": "dog"}]}),
        (obj(label=STRING, score=NUMBER), {"label": "dog", "score": 0.9}),
        (obj(label=STRING, color={"anyOf": [STRING, {"type": "null"}]}),
         {"label": "dog", "color": None}),
        ({"type": "object", "properties": {"label": STRING, "color": STRING}}, {"label": "dog"}),
        ({"$ref": "#/$defs/A", "$defs": {"A": obj(label=STRING)}}, {"label": "dog"}),
        ({"allOf": [obj(label=STRING)]}, {"label": "dog"}),
        (array(obj(label=STRING)), [{"label": "dog"}, {"label": "cat"}]),
        ({"type": "object"}, {"settings": SETTINGS, "results": [PICTURE]}),
    ],
)  # fmt: skip
def test_fields_are_taken_by_name_whatever_the_nesting(schema: dict, answer: object):
    assert project(schema) == answer


@pytest.mark.parametrize("name", ["results", "pictures"])
def test_several_pictures_fill_an_array(name: str):
    schema = obj(**{name: array(obj(things=array(obj(label=STRING))))})
    bare = {**PICTURE, "detections": []}
    things = [{"label": "dog"}, {"label": "cat"}]
    assert project(schema, PICTURE, bare) == {name: [{"things": things}, {"things": []}]}


@pytest.mark.parametrize("allowed", [{"enum": ["Cat", "tree"]}, {"const": "Cat"}])
def test_an_enum_of_labels_filters_and_keeps_its_spelling(allowed: dict):
    assert project(obj(things=array(obj(label=allowed)))) == {"things": [{"label": "Cat"}]}
    assert project(obj(labels=array(allowed))) == {"labels": ["Cat"]}


def test_a_union_of_labelled_objects_filters():
    either = {"anyOf": [obj(label={"const": "cat"}, score=NUMBER), obj(label={"const": "cow"})]}
    assert project(obj(things=array(either))) == {"things": [{"label": "cat", "score": 0.8}]}


def test_the_labels_of_enums_are_known_before_anything_is_detected():
    schema = obj(things=array(obj(label={"enum": ["Cat", "tree"]})))
    assert Projection(schema, "x", "x", 1).labels == {"cat", "tree"}
    assert Projection(obj(things=array(obj(label=STRING))), "x", "x", 1).labels is None


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (obj(answer=STRING), "`answer`"),
        (obj(animals=array(obj(species=STRING))), "animals.items.species"),
        (obj(things=array(obj(label=STRING)), count={"type": "integer"}), "`count`"),
        (obj(label=NUMBER), "`label`"),
        (obj(score={"type": "integer"}), "`score`"),
        ({"type": "object", "properties": {"answer": STRING}}, "none of the fields"),
        (obj(label=STRING, score={"type": "number", "maximum": 0.1}), r"at \$.score"),
        ({"type": "object", "required": ["answer"]}, "does not fit"),
    ],
)
def test_what_an_answer_does_not_have_is_refused(schema: dict, words: str):
    with pytest.raises(Refusal, match=words) as refusal:
        project(schema)
    assert refusal.value.status == 422
    assert refusal.value.param == "response_format"


def test_one_pictures_fields_are_refused_for_several():
    with pytest.raises(Refusal, match="an array with an item for each"):
        project(obj(detections=array(obj(label=STRING))), PICTURE, PICTURE)


def test_a_place_for_one_detection_needs_one():
    empty = {**PICTURE, "detections": []}
    with pytest.raises(Refusal, match="nothing was detected"):
        project(obj(label=STRING), empty)
    nullable = obj(best={"anyOf": [obj(label=STRING), {"type": "null"}]})
    assert project(nullable, empty) == {"best": None}


_BOMB = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "#/$defs/d0", "$defs": {**_BOMB, "d40": {}}},
        {"$defs": {"N": obj(label=STRING, c=array({"$ref": "#/$defs/N"}))}, "$ref": "#/$defs/N"},
        {"type": "nothing"},
        obj(label={"type": "string", "pattern": "(a*)*b"}),
    ],
)
def test_schemas_that_cannot_be_used_are_refused_soon(schema: dict):
    began = time.thread_time()
    with pytest.raises(Refusal) as refusal:
        project(schema)
    assert refusal.value.status in (400, 422)
    assert time.thread_time() - began < 2
