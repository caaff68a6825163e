"""A client that openapi-python-client generates from /openapi.json."""

import importlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from shared_form import DATA_URI, MESSAGE, MODEL, PHOTO, URL, labels_of, report

with tempfile.TemporaryDirectory() as folder:
    generator = Path(sys.executable).with_name("openapi-python-client")
    place = Path(folder) / "generated"
    made = subprocess.run(
        [generator, "generate", "--url", f"{URL}/openapi.json", "--output-path", place,
         "--meta", "none"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "WARNING parsing" not in made.stdout + made.stderr, made.stdout + made.stderr
    sys.path.insert(0, folder)

    def part(name: str):
        return importlib.import_module(f"generated.{name}")

    models = part("models")
    client = part("client").Client(base_url=URL, timeout=60)
    content = io.BytesIO(Path(PHOTO).read_bytes())
    file = part("types").File(payload=content, file_name="photo.jpg", mime_type="image/jpeg")
    detected = part("api.detection.detect").sync(
        client=client, body=models.DetectFilesBody(file=[file])
    )
    inspected = part("api.detection.inspect").sync(
        client=client, body=models.InspectRequest(image_url=DATA_URI)
    )
    request = models.ChatRequest.from_dict({"model": MODEL, "messages": [MESSAGE]})
    chat = part("api.open_ai.create_chat_completion").sync(client=client, body=request)
    assert part("api.open_ai.models").sync(client=client).data
    assert part("api.operation.ready").sync(client=client).status == "ready"
    report(
        detect=[one.label for one in detected.detections],
        inspect=[inspected.queries[0].label],
        chat=labels_of(chat.choices[0].message.content),
    )
