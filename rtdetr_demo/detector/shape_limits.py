"""Which inputs, depths and numbers of queries a checkpoint can have."""

from typing import Any

from ..errors import BadInput
from ..predictions import check_depth, is_whole
from .network import fits_pyramid, token_count
from .preprocess import Preprocess

SMALLEST = 128
"""Least side of an input in pixels."""


class ShapeLimits:
    """The base of a detector: what its passes may be asked for.

    Attributes:
        checkpoint: The checkpoint's name.
        model: The loaded transformers model.
        preprocess: Prepares pictures for it.
        size: Height and width of the checkpoint's own input, in pixels.
        depth: How many decoder layers it has.
        queries: How many queries it refines.
    """

    checkpoint: str
    model: Any
    preprocess: Preprocess
    size: tuple[int, int]
    depth: int
    queries: int

    @property
    def tokens(self) -> int:
        """Feature-map positions of one picture that the decoder can attend to."""
        return token_count(self.model.config, *self.size)

    @property
    def query_range(self) -> tuple[int, int]:
        """The fewest and the most queries that a pass may have."""
        return min(10, self.queries), self.queries

    @property
    def size_range(self) -> tuple[int, int]:
        """The least and the largest input size in pixels; the least has a cell for each query."""
        largest = max(640, *self.size)
        sides = range(SMALLEST, largest + 1, 32)
        config = self.model.config
        fitting = (side for side in sides if token_count(config, side, side) >= self.queries)
        return next(fitting, largest), largest

    def check_shape(self, shape: tuple[int, int]) -> None:
        """Raises BadInput for an input that a picture of unusual proportions has become."""
        if not self.preprocess.varies:
            return
        config, (height, width) = self.model.config, shape
        fits = token_count(config, *shape) >= self.queries
        if not fits_pyramid(config, height, width) or not fits:
            raise BadInput(
                f"{self.checkpoint} keeps a picture's proportions, which makes this one {width} x "
                f"{height} pixels, and its network needs multiples of {max(config.feat_strides)}. "
                "Choose an input size, or give height and width in its preprocessor_config.json."
            )

    def check_depth(self, decoder_layers: int | None) -> int:
        """The number of layers to run; `None` is all. Raises BadInput outside 1 to `depth`."""
        return check_depth(decoder_layers, self.depth)

    def check_queries(self, queries: int | None) -> int:
        """The number of queries. Raises BadInput outside `query_range`."""
        if queries is None:
            return self.queries
        fewest, most = self.query_range
        if not is_whole(queries) or not fewest <= queries <= most:
            raise BadInput(f"This checkpoint has {most} queries: choose from {fewest} to {most}.")
        return queries

    def check_size(self, size: int | None) -> tuple[int, int]:
        """Height and width of the input. Raises BadInput for a size that the maps cannot have."""
        if size is None:
            return self.size
        least, largest = self.size_range
        if not is_whole(size) or size % 32 or not least <= size <= largest:
            raise BadInput(f"The input size is a multiple of 32 from {least} to {largest} pixels.")
        return size, size
