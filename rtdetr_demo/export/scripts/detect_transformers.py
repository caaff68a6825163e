"""Detects objects in a picture: python detect.py PICTURE [THRESHOLD]

Needs: pip install torch 'transformers>=5' pillow
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image, ImageOps
from transformers import AutoModelForObjectDetection, RTDetrImageProcessorPil

folder = Path(__file__).parent
# The model, as published by transformers.
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
threshold = float(sys.argv[2]) if len(sys.argv) > 2 else 0.5
model = AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32).eval()
processor = RTDetrImageProcessorPil.from_pretrained(folder)
with torch.inference_mode():
    outputs = model(**processor(images=image, return_tensors="pt"))
sizes = [(image.height, image.width)]
[detected] = processor.post_process_object_detection(outputs, threshold, sizes)
for score, label, box in zip(
    detected["scores"], detected["labels"], detected["boxes"], strict=True
):
    name = model.config.id2label[int(label)]
    print(json.dumps({"label": name, "score": float(score), "box": box.tolist()}))
