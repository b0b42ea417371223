"""The stratified order."""

import numpy as np
import pytest
import torch

from odenas.search.images import Images, stratified

LABELS = torch.tensor([0] * 7 + [1] * 20 + [2] * 13)


@pytest.mark.parametrize("seed", range(5))
def test_is_a_permutation_of_which_every_beginning_is_stratified(seed: int) -> None:
    order = stratified(LABELS, seed)
    assert sorted(order) == list(range(40))
    for m in range(1, 22):  # up to where the smallest class is used up
        counts = LABELS[order[:m]].bincount(minlength=3)
        assert counts.max() - counts.min() <= 1


def test_depends_on_the_seed_alone() -> None:
    assert (stratified(LABELS, 3) == stratified(LABELS, 3)).all()
    assert (stratified(LABELS, 3) != stratified(LABELS, 4)).any()
    # Pinned: searches made with different versions of numpy must share their splits.
    assert stratified(LABELS, 0)[:8].tolist() == [22, 4, 28, 20, 29, 2, 25, 27]


def test_pick_keeps_images_and_labels_together_and_in_order() -> None:
    images = Images(torch.arange(40, dtype=torch.uint8).reshape(40, 1, 1, 1), LABELS)
    picked = images.pick(np.array([30, 5, 8]))
    assert picked.images.flatten().tolist() == [5, 8, 30]
    assert picked.labels.tolist() == [0, 1, 2]
    assert len(picked) == 3
