"""From decoded pictures to a model's input, as the checkpoint's own processor prepares them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import RTDetrImageProcessorPil
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import get_image_size_for_max_height_width

NOMINAL = 320
"""The side of a picture's square where a processor leaves pictures as large as they are."""


class Preprocess:
    """What `RTDetrImageProcessorPil` does with its settings, in fewer steps.

    On a CPU the same to rounding; on a card, which resizes by itself, within one part in 255.
    Settings that no published checkpoint has, such as padding, are left to the processor.

    `size` is the height and width of what it gives. A processor that keeps proportions, or does not
    resize, gives each picture another (`varies`); then `size` is what a square picture gets.
    """

    def __init__(self, processor: RTDetrImageProcessorPil, device: torch.device):
        self._processor = processor
        self._device = device
        self.varies, self.size = self._sizes(processor)
        self._plain = (
            processor.do_resize
            and not self.varies
            and processor.do_rescale
            and not processor.do_pad
            and processor.resample == Image.Resampling.BILINEAR
        )
        scale, shift = torch.full((3,), float(processor.rescale_factor)), torch.zeros(3)
        if processor.do_normalize:
            std = torch.tensor(processor.image_std)
            scale, shift = scale / std, -torch.tensor(processor.image_mean) / std
        if bool((scale == scale[0]).all() and (shift == shift[0]).all()):
            scale, shift = scale[0], shift[0]  # a number for all channels takes a tenth of the time
        self._scale, self._shift = scale.to(device), shift.to(device)

    @staticmethod
    def _sizes(processor: Any) -> tuple[bool, tuple[int, int]]:
        """`varies` and `size`. Raises ValueError for a processor that has no size."""
        padded = processor.pad_size if processor.do_pad else None
        if padded:
            return False, (padded["height"], padded["width"])
        if not processor.do_resize:
            return True, (NOMINAL, NOMINAL)
        size = processor.size
        if size["shortest_edge"] and size["longest_edge"]:
            side = min(size["shortest_edge"], size["longest_edge"])
            return True, (side, side)
        if size["max_height"] and size["max_width"]:
            side = min(size["max_height"], size["max_width"])
            return True, (side, side)
        if size["height"] and size["width"]:
            return False, (size["height"], size["width"])
        raise ValueError("the processor's size names neither height and width nor edges")

    def input_size(
        self, image: Image.Image, size: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Height and width of what a picture becomes; `size` as in a call."""
        if size is not None or not self.varies:
            return size or self.size
        shape, wanted = (image.height, image.width), self._processor.size
        if not self._processor.do_resize:
            return shape
        if wanted["shortest_edge"]:
            return get_size_with_aspect_ratio(
                shape, wanted["shortest_edge"], wanted["longest_edge"]
            )
        height, width = get_image_size_for_max_height_width(
            shape, wanted["max_height"], wanted["max_width"]
        )
        return height, width

    def __call__(
        self, images: Sequence[Image.Image], dtype: torch.dtype, size: tuple[int, int] | None = None
    ) -> Tensor:
        """RGB pictures to [batch, 3, height, width] on the device, channels last.

        `size` (height, width) is for this call, in place of the processor's own. Pictures may have
        any sizes, but must have the same `input_size`.
        """
        height, width = size or self.size
        if not self._plain:
            options: dict[str, Any] = {}
            if size is not None:
                wanted = {"height": height, "width": width}
                options = {"do_resize": True, "size": wanted, "pad_size": None}
            prepared = self._processor(images=list(images), return_tensors="pt", **options)
            return prepared["pixel_values"].to(self._device, dtype)
        if self._device.type == "cuda":
            pixels = torch.cat(
                [self._resized(self._sent(image), height, width) for image in images]
            )
        else:
            resized = [image.resize((width, height), Image.Resampling.BILINEAR) for image in images]
            stacked = torch.from_numpy(np.stack([np.asarray(image) for image in resized]))
            pixels = stacked.to(self._device).float()
        return pixels.mul_(self._scale).add_(self._shift).permute(0, 3, 1, 2).to(dtype)

    def _sent(self, image: Image.Image) -> Tensor:
        """[height, width, 3] on the card; copied while the CPU goes on."""
        pinned = torch.from_numpy(np.array(image)).pin_memory()
        return pinned.to(self._device, non_blocking=True)

    def settings(self) -> dict[str, Any] | None:
        """What another implementation needs to prepare pictures alike: bilinear resize to `size`
        (height, width), times `scale`, plus `shift` (of each channel). None where only the
        processor itself knows how."""
        if not self._plain:
            return None
        scale, shift = (part.expand(3).tolist() for part in (self._scale, self._shift))
        return {"size": list(self.size), "scale": scale, "shift": shift}

    @staticmethod
    def _resized(pixels: Tensor, height: int, width: int) -> Tensor:
        """uint8 [h, w, 3] to float [1, height, width, 3], 0 to 255, wherever it lies."""
        whole = pixels.unsqueeze(0).float()
        if pixels.shape[:2] == (height, width):
            return whole
        whole = whole.permute(0, 3, 1, 2)
        resized = F.interpolate(whole, (height, width), mode="bilinear", antialias=True)
        return resized.round_().clamp_(0, 255).permute(0, 2, 3, 1)  # PIL gives whole numbers
