"""Batches of images in memory: each image once an epoch, in an order of the generator's; all of them to judge."""

from dataclasses import replace

import pytest
import torch

from odenas.search.batches import EVALUATION_BATCH, Resident, batches_of
from odenas.search.data import DATASETS
from odenas.search.dataset import normalise
from odenas.search.images import Images
from odenas.search.tasks import batch_count

ROW = replace(DATASETS["digits"], pad=0, flip=False)


def numbered(count: int) -> Images:
    """Return images that say which they are, with labels that say it too."""
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(count) % 256, torch.arange(count) // 256
    return Images(images, torch.arange(count))


@pytest.mark.parametrize("count", [1, 2, 3, 31, 32, 33, 63, 64, 65, 97])
@pytest.mark.parametrize("size", [2, 16, 32])
def test_an_epoch_has_every_image_once_but_a_single_one_left_over(count: int, size: int) -> None:
    split = numbered(count)
    batches = list(Resident(split, ROW).epoch(size, torch.Generator().manual_seed(1)))
    sizes = [len(labels) for _, labels in batches]
    left_out = count > size and count % size == 1
    assert sum(sizes) == count - left_out
    assert all(full == size for full in sizes[:-1])
    assert len(sizes) == batch_count(count, size)
    assert min(sizes) > 1 or count == 1
    seen = torch.cat([labels for _, labels in batches])
    assert len(set(seen.tolist())) == len(seen)
    for inputs, labels in batches:
        assert torch.equal(inputs, normalise(split.images[labels], ROW))


def test_the_generator_decides_the_order_and_the_augmentation() -> None:
    row = replace(ROW, pad=1, flip=True)
    batches = batches_of(numbered(50), row)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    first, second = ([*batches.epoch(16, generator)] for _ in range(2))
    assert not torch.equal(first[0][1], second[0][1])
    generator.set_state(state)
    again = [*batches.epoch(16, generator)]
    assert all(
        torch.equal(a, b) for one, other in zip(first, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert sorted(torch.cat([labels for _, labels in second]).tolist()) == list(range(50))


@pytest.mark.parametrize("count", [1, EVALUATION_BATCH, EVALUATION_BATCH + 1, 2 * EVALUATION_BATCH + 30])
def test_every_image_is_judged_once_and_in_order(count: int) -> None:
    split = numbered(count)
    batches = Resident(split, ROW)
    for _ in range(2):
        found = list(batches.judging("whole"))
        assert torch.equal(torch.cat([labels for _, labels in found]), split.labels)
        assert torch.equal(torch.cat([inputs for inputs, _ in found]), normalise(split.images, ROW))
        assert max(len(labels) for _, labels in found) <= EVALUATION_BATCH
