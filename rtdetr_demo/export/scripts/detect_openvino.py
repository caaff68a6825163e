"""Detects objects in a picture: python detect.py PICTURE [THRESHOLD]

Needs: pip install openvino numpy pillow
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps

network = Path(__file__).with_name("model.xml")
model = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
about = json.loads(network.with_suffix(".json").read_text(encoding="utf-8"))
height, width = about["input_size"]
scale, shift = (np.array(about[name], np.float32) for name in ("scale", "shift"))
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
threshold = float(sys.argv[2]) if len(sys.argv) > 2 else 0.5
resized = image.resize((width, height), Image.Resampling.BILINEAR)
pixels = (np.asarray(resized, np.float32) * scale + shift).transpose(2, 0, 1)[None]
outputs = model(np.ascontiguousarray(pixels))
scores, labels, boxes = (outputs[name][0] for name in ("scores", "labels", "boxes"))
boxes = boxes * [image.width, image.height, image.width, image.height]
for score, label, box in zip(scores, labels, boxes, strict=True):
    if score > threshold:
        name = about["class_names"][label]
        print(json.dumps({"label": name, "score": float(score), "box": box.tolist()}))
