"""How long a network takes for one image."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import Tensor, nn

WARM_UP = 5
PASSES = 25


def latency(network: nn.Module, image: Tensor) -> float:
    """Return the median milliseconds of one pass through the network, in evaluation mode and without gradients.

    Args:
        network: on the image's device; its mode is left as it was.
        image: one image as the network takes it, shape (1, channels, height, width).
    """
    training, passes = network.training, []
    network.eval()
    with torch.inference_mode(), torch.autocast(image.device.type, torch.bfloat16, enabled=image.is_cuda):
        for _ in range(WARM_UP + PASSES):
            start = time.perf_counter()
            network(image)
            if image.is_cuda:
                torch.cuda.synchronize(image.device)
            passes.append(time.perf_counter() - start)
    network.train(training)
    return 1000 * median(passes[WARM_UP:])
