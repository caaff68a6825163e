"""COCO annotation files are read as other tools write them."""

import json
from pathlib import Path

import pytest

from rtdetr_demo.errors import BadInput
from rtdetr_demo.evaluation.instances import read_instances

CONTENT = {
    "images": [{"id": 1, "file_name": "Süd.jpg", "width": 4, "height": 3}],
    "annotations": [],
    "categories": [{"id": 18, "name": "dog"}],
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_encoding_of_json_is_read(tmp_path: Path, encoding: str):
    file = tmp_path / "instances.json"
    file.write_bytes(json.dumps(CONTENT, ensure_ascii=False).encode(encoding))
    assert read_instances(file) == CONTENT


def test_bytes_that_are_no_text_are_refused_in_a_sentence(tmp_path: Path):
    file = tmp_path / "instances.json"
    file.write_bytes(b'{"images": "\xff\xfe\xfa"}')
    with pytest.raises(BadInput, match="no JSON file"):
        read_instances(file)
