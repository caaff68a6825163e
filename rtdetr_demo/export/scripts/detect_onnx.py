"""Detects objects in a picture: python detect.py PICTURE [THRESHOLD]

Needs: pip install onnxruntime numpy pillow
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
about = session.get_modelmeta().custom_metadata_map
height, width = json.loads(about["input_size"])
scale, shift = (np.array(json.loads(about[name]), np.float32) for name in ("scale", "shift"))
names = json.loads(about["class_names"])
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
threshold = float(sys.argv[2]) if len(sys.argv) > 2 else 0.5
resized = image.resize((width, height), Image.Resampling.BILINEAR)
pixels = (np.asarray(resized, np.float32) * scale + shift).transpose(2, 0, 1)[None]
scores, labels, boxes = (out[0] for out in session.run(None, {"pixels": pixels}))
boxes = boxes * [image.width, image.height, image.width, image.height]
for score, label, box in zip(scores, labels, boxes, strict=True):
    if score > threshold:
        print(json.dumps({"label": names[label], "score": float(score), "box": box.tolist()}))
