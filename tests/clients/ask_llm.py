"""llm: a prompt with an attachment, and `llm -c`, which goes on with the conversation."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from shared_form import BASE_URL, MODEL, PHOTO, labels_of, report

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "extra-openai-models.yaml").write_text(
        f"- model_id: rtdetr\n  model_name: {MODEL}\n  api_base: {BASE_URL}\n  vision: true\n",
        encoding="utf-8",
    )
    environ = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": "none"}

    def llm(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("llm")), *arguments]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    first = llm("-m", "rtdetr", "What is here?", "-a", PHOTO)
    again = llm("-c", "only dogs")
    report(prompt=labels_of(first), continued=labels_of(again))
    assert set(labels_of(again)) == {"dog"}
