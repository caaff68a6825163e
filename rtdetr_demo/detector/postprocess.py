"""From what the network gives to ranked detections, as transformers' post-processing ranks them."""

import torch


def topk_postprocess(
    logits: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rank the (query, class) pairs of each layer, as transformers' post-processing does.

    Takes logits [batch, layers, queries, classes] and boxes [batch, layers, queries, 4] (centre,
    size; 0 to 1). Gives scores, labels and queries [batch, layers, queries] and boxes
    [batch, layers, queries, 4] (corners; 0 to 1), best first.
    """
    classes, count = logits.shape[-1], logits.shape[-2]
    scores, index = logits.sigmoid().flatten(2).topk(count, dim=-1)
    queries = index // classes
    centre, size = boxes.split(2, dim=-1)
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
    corners = corners.gather(2, queries.unsqueeze(-1).expand(-1, -1, -1, 4))
    return scores, index % classes, queries, corners
