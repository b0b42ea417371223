"""Augmentation against a loop over images and shifts."""

import pytest
import torch
from torch import Tensor

from odenas.search.augment import augment


def images(count: int, dtype: torch.dtype = torch.uint8, channels: int = 2) -> Tensor:
    """Return images of 5 × 4 pixels, none of which is 0 or twice in its channel."""
    values = 1 + torch.arange(channels * 20).view(1, channels, 5, 4) + 0 * torch.arange(count).view(-1, 1, 1, 1)
    return values.to(dtype)


def candidates(image: Tensor, pad: int, flip: bool) -> dict[tuple[int, int, bool], Tensor]:
    """Return all that may become of an image, pixel by pixel."""
    found = {}
    height, width = image.shape[1:]
    for down in range(-pad, pad + 1):
        for right in range(-pad, pad + 1):
            for mirrored in (False, True) if flip else (False,):
                made = torch.zeros_like(image)
                for row in range(height):
                    for column in range(width):
                        source_row = row + down
                        source_column = (width - 1 - column if mirrored else column) + right
                        if 0 <= source_row < height and 0 <= source_column < width:
                            made[:, row, column] = image[:, source_row, source_column]
                found[down, right, mirrored] = made
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("pad", "flip"), [(0, True), (1, False), (2, True), (5, True)])
def test_each_image_is_shifted_and_mirrored_and_every_way_occurs(pad: int, flip: bool, dtype: torch.dtype) -> None:
    count = 40 * (2 * pad + 1) ** 2 * (1 + flip)
    given = images(count, dtype)
    made = augment(given, pad, flip, torch.Generator().manual_seed(0))
    assert (made.shape, made.dtype) == (given.shape, dtype)
    ways = candidates(given[0], pad, flip)
    flat = torch.stack(list(ways.values())).flatten(1)
    # Each made image is among the candidates (several of which are all zeros if the pad is the image's size).
    equal = (made.flatten(1)[:, None] == flat[None]).all(2)
    assert equal.any(1).all()
    assert equal.any(0).all()


def test_shifts_and_mirrors_are_uniform_and_drawn_for_each_image() -> None:
    count = 20_000
    given = images(count, channels=1)
    made = augment(given, 1, True, torch.Generator().manual_seed(3))
    shares = [(made == way).flatten(1).all(1).float().mean().item() for way in candidates(given[0], 1, True).values()]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([1 / 18] * 18, abs=0.01)


def test_it_is_deterministic_by_the_generator_and_leaves_its_input_alone() -> None:
    given = images(50)
    before = given.clone()
    a, b, c = (augment(given, 2, True, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(given, before)
    # The type of the images does not change what is drawn.
    assert torch.equal(augment(given.float(), 2, True, torch.Generator().manual_seed(1)), a.float())


def test_nothing_to_do_returns_the_images_and_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    given = images(3)
    assert augment(given, 0, False, generator) is given
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("flip", [False, True])
def test_quarter_turns_are_uniform_and_drawn_for_each_image(flip: bool) -> None:
    count, generator = 8000, torch.Generator().manual_seed(2)
    image = torch.arange(2 * 16, dtype=torch.uint8).view(1, 2, 4, 4)
    ways = [image.rot90(turn, (2, 3)) for turn in range(4)]
    ways += [way.flip(3) for way in ways] if flip else []
    made = augment(image.expand(count, -1, -1, -1), 0, flip, generator, turn=True)
    shares = [(made == way).flatten(1).all(1).float().mean().item() for way in ways]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([1 / len(ways)] * len(ways), abs=0.02)


def test_turns_are_deterministic_and_lose_no_pixel() -> None:
    given = torch.arange(50 * 16, dtype=torch.float32).view(50, 1, 4, 4)
    a, b = (augment(given, 1, True, torch.Generator().manual_seed(1), turn=True) for _ in range(2))
    assert torch.equal(a, b)
    alone = augment(given, 0, False, torch.Generator().manual_seed(1), turn=True)
    assert torch.equal(alone.flatten(1).sort(1).values, given.flatten(1))
