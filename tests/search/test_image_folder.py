"""A folder of images as data: which images it has, who sees which, and that decoding changes nothing."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from odenas.nets import build
from odenas.nets.named import look_up
from odenas.results import load as load_run
from odenas.search.config import SearchConfig
from odenas.search.data import Data, dataset, load, load_test, prepare
from odenas.search.dataset import normalise
from odenas.search.decoding import Decoded
from odenas.search.image_folder import ImageFiles, full_name, held_out, image_folder, short_name
from odenas.search.images import Split
from odenas.search.recipe import Recipe
from odenas.search.train import Training, evaluate, to
from odenas.search.training_run import configuration, train_named
from odenas.space import OdenasError, Stochasticity, scheme

torch.set_num_threads(1)

CLASSES = ("ant", "bee", "Cat")
SIZE = 16
STOCHASTIC = replace(scheme("lm"), stochasticity=Stochasticity("depth", 0.5))


def write(folder: Path, splits: Mapping[str, int], suffix: str = "png") -> Path:
    """Write so many images of each class into each split, all different, of several shapes and modes."""
    random = np.random.RandomState(0)
    for split, count in splits.items():
        for label in CLASSES:
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                shape = (random.randint(9, 40), random.randint(9, 40), *([3] if number % 3 else []))
                image = Image.fromarray(random.randint(0, 256, shape).astype(np.uint8))
                image.save(place / f"{number:03d}.{suffix}")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image_folder.cache_clear()
    return write(tmp_path / "pictures", {"train": 12, "val": 3})


@pytest.fixture
def name(folder: Path) -> str:
    return f"folder:{folder}@{SIZE}"


def files(split: Split) -> list[str]:
    assert isinstance(split, ImageFiles)
    return [name.decode() for name in split.images]


def training(data: Data, name: str, epochs: int = 2, seed: int = 0, start: int = 0) -> Training:
    torch.manual_seed(start)
    network = build(STOCHASTIC, 14, classes=len(CLASSES), width=2)
    return Training(network, data, dataset(name), Recipe(batch_size=7), epochs, seed)


def run(one: Training) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    one.run(lambda row: rows.append({name: value for name, value in row.items() if name != "seconds"}))
    return rows


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Which images.


def test_images_and_labels_are_those_of_torchvision(folder: Path, name: str) -> None:
    for odd in ("train/bee/notes.txt", "train/bee/deep/er/x.png", "train/ant/UPPER.PNG", "train/README"):
        path = folder / odd
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(path, "png")
    for split, mine in {"train": dataset(name).read_train(folder, print), "val": load_test(name)}.items():
        reference = ImageFolder(folder / split)
        assert isinstance(mine, ImageFiles)
        assert [(str(mine.root / file), label) for file, label in zip(files(mine), mine.labels.tolist(), strict=True)] \
            == reference.samples  # fmt: skip
    assert sorted(CLASSES) == ImageFolder(folder / "train").classes


def test_without_a_test_folder_validation_is_drawn_from_train(folder: Path, name: str) -> None:
    row, drawn = dataset(name), load(name)
    train, validation, test = files(drawn.train), files(drawn.validation), files(load_test(name))
    assert (row.train, row.validation, row.test) == (len(train), len(validation), len(test)) == (33, 3, 9)
    assert not set(train) & set(validation)
    assert {file.split("/")[0] for file in train + validation} == {"train"}
    assert {file.split("/")[0] for file in test} == {"val"}
    assert drawn.validation.labels.bincount().tolist() == [1, 1, 1]
    assert files(load(name, seed=5).validation) == validation
    assert (row.classes, row.channels, row.size) == (3, 3, SIZE)


@pytest.mark.parametrize("judged", ["val", "validation"])
def test_with_a_test_folder_the_validation_folder_is_what_a_search_judges_on(tmp_path: Path, judged: str) -> None:
    name = f"folder:{write(tmp_path / 'x', {'train': 4, judged: 3, 'test': 2})}"
    row, drawn = dataset(name), load(name)
    assert (row.train, row.validation, row.test, row.size) == (12, 9, 6, 224)
    splits = {"train": drawn.train, judged: drawn.validation, "test": load_test(name)}
    for split, images in splits.items():
        assert {file.split("/")[0] for file in files(images)} == {split}
        assert len(images) == len(ImageFolder(tmp_path / "x" / split))
        assert images.labels.tolist() == [sorted(CLASSES).index(file.split("/")[1]) for file in files(images)]


def test_smaller_draws_are_stratified_and_nested(name: str) -> None:
    sizes = (6, 12, 33)
    drawn = [load(name, train_size=size, seed=1).train for size in sizes]
    assert [len(one) for one in drawn] == list(sizes)
    assert set(files(drawn[0])) < set(files(drawn[1])) < set(files(drawn[2]))
    assert drawn[1].labels.bincount().tolist() == [4, 4, 4]
    assert files(load(name, train_size=12, seed=2).train) != files(drawn[1])


@pytest.mark.parametrize("counts", [[1300, 732, 40, 9, 2, 1], [5, 5], [2000, 2000], [10, 600]])
def test_a_tenth_of_each_class_is_held_out_and_at_most_fifty(counts: list[int]) -> None:
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(len(counts)), counts))
    order, kept = held_out(torch.from_numpy(labels))
    assert sorted(order) == list(range(len(labels)))
    expected = np.array([0 if count == 1 else min(50, max(1, count // 10)) for count in counts])
    drawn = np.cumsum(np.eye(len(counts), dtype=int)[labels[order[:kept]]], axis=0)
    assert drawn[-1].tolist() == expected.tolist()
    for beginning in drawn[:-1]:
        assert (beginning >= np.minimum(beginning.max() - 1, expected)).all()  # the classes take turns


# What a network is given.


class Recording(nn.Module):
    """Remembers its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, len(CLASSES))
        self.given: dict[bool, list[Tensor]] = {True: [], False: []}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        self.given[self.training].append(images.detach().clone())
        return self.head(images.mean((2, 3)))  # type: ignore[no-any-return]


def test_networks_are_judged_on_the_middle_of_the_resized_image(folder: Path, name: str) -> None:
    """Against torchvision's own data set with the transforms of its reference training."""
    chain = [v2.Resize(18), v2.CenterCrop(SIZE), v2.PILToTensor()]
    reference = ImageFolder(folder / "val", v2.Compose(chain))
    assert round(SIZE / 0.875) == 18
    expected = normalise(torch.stack([image for image, _ in reference]), dataset(name))
    network = Recording()
    evaluate(network, replace(load_test(name), decoders=0), dataset(name))  # type: ignore[type-var]
    assert torch.equal(torch.cat(network.given[False]), expected)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    usual = v2.Compose([*chain, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean.tolist(), std.tolist())])
    first, _ = ImageFolder(folder / "val", usual)[0]
    assert torch.allclose(expected[0], first, atol=1e-5)


def test_training_sees_another_part_of_each_image_in_each_epoch(name: str) -> None:
    network = Recording()
    Training(network, load(name, decoders=0), dataset(name), Recipe(batch_size=8), 3, 0).run(lambda row: None)
    given = torch.cat(network.given[True])
    assert given.shape == (3 * 32, 3, SIZE, SIZE)  # of 33, of which a single one would be left over
    assert [len(batch) for batch in network.given[True]] == 3 * [8, 8, 8, 8]
    assert len(torch.unique(given.flatten(1), dim=0)) == len(given)
    judged = torch.cat(network.given[False])
    assert torch.equal(judged[:3], judged[3:6])


def test_half_of_the_training_images_are_mirrored(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 64, 3))
    for split, count in {"train": 100, "val": 1}.items():
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / split / label / f"{number}.png")
    name = f"folder:{tmp_path}@8"
    train = image_folder(name).read_train(tmp_path, print)
    assert isinstance(train, ImageFiles)
    batches = Decoded(replace(train, decoders=0), image_folder(name))
    ((images, _),) = batches.epoch(200, torch.Generator().manual_seed(0))
    rising = (images[:, 0, 4, -1] > images[:, 0, 4, 0]).float().mean()
    assert 0.35 < rising < 0.65
    widths = (images[:, 0, 4, -1] - images[:, 0, 4, 0]).abs() * 255 * 0.229 / 4 / (7 / 8)
    share = (widths / 64).clamp(max=1)  # of the image's width that is seen
    assert share.min() < 0.45
    assert share.max() > 0.9
    assert 0.6 < share.mean() < 0.8  # the mean square root of an area drawn evenly from 0.08 .. 1 is 0.71


@pytest.mark.parametrize("decoders", [1, 2])
def test_the_number_of_decoders_changes_no_bit(name: str, decoders: int) -> None:
    alone, beside = (training(load(name, decoders=number), name) for number in (0, decoders))
    before = torch.random.get_rng_state()
    assert run(alone) == run(beside)
    assert torch.equal(before, torch.random.get_rng_state())
    assert equal(alone.state(), beside.state())


def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(name: str) -> None:
    data = load(name, decoders=0)
    whole, first = training(data, name, epochs=3, seed=4), training(data, name, epochs=3, seed=4)
    rows, saved = run(whole), {}

    class Stop(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            saved.update(first.state())
            raise Stop

    with pytest.raises(Stop):
        first.run(stop)
    torch.manual_seed(99)
    second = training(data, name, epochs=3, seed=77, start=5)
    second.restore(saved)
    assert run(second) == rows[2:]
    assert equal(second.state(), whole.state())
    assert run(training(data, name, epochs=3, seed=5)) != rows


def test_a_broken_off_pass_leaves_the_next_one_whole(name: str) -> None:
    split = load_test(name)
    assert isinstance(split, ImageFiles)
    batches = Decoded(replace(split, decoders=1), dataset(name))
    whole = [inputs for inputs, _ in batches.judging("whole")]
    generator = torch.Generator().manual_seed(0)
    broken = batches.epoch(2, generator)
    next(broken)
    again = [inputs for inputs, _ in batches.judging("whole")]
    assert torch.equal(torch.cat(again), torch.cat(whole))
    with pytest.raises(RuntimeError, match="another pass"):
        next(broken)


def test_the_network_of_a_folder_learns(tmp_path: Path) -> None:
    """Three classes of three colours."""
    for split, count in {"train": 30, "val": 5}.items():
        for number, label in enumerate(CLASSES):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = np.random.RandomState(index).randint(0, 100, (20, 20, 3)).astype(np.uint8)
                pixels[..., number] += 100
                Image.fromarray(pixels).save(tmp_path / split / label / f"{index}.jpg")
    name = f"folder:{tmp_path}@{SIZE}"
    one = training(load(name, decoders=0), name, epochs=6)
    run(one)
    assert evaluate(one.network, to(load_test(name), one.device), dataset(name)).error == 0


def test_preparing_a_folder_decodes_every_image(folder: Path, name: str) -> None:
    lines: list[str] = []
    prepare(name, report=lines.append)
    assert lines[:-1] == [f"{name}: 36 of 36 images decoded", f"{name}: 9 of 9 images decoded"]
    assert lines[-1] == f"{name}: 33 training, 3 validation and 9 test images of 3×16×16, 3 classes, verified"
    (folder / "val/bee/002.png").write_bytes(b"")
    with pytest.raises(OdenasError, match=r"val/bee/002\.png cannot be read as an image"):
        prepare(name, report=lines.append)


# What is refused.


@pytest.mark.parametrize("decoders", [0, 1])
@pytest.mark.parametrize("damage", ["empty", "text", "head", "cut", "gone"])
def test_a_damaged_image_is_named_in_one_line(folder: Path, name: str, damage: str, decoders: int) -> None:
    path = folder / "train/bee/005.png"
    whole = path.read_bytes()
    damages = {"empty": b"", "text": b"no image", "head": whole[:8] + bytes(40), "cut": whole[: len(whole) // 2]}
    data = load(name, decoders=decoders)
    assert "train/bee/005.png" in files(data.train)
    if damage in damages:
        path.write_bytes(damages[damage])
    else:
        path.unlink()
    with pytest.raises(OdenasError) as caught:
        run(training(data, name))
    assert str(caught.value).startswith(f"`data` is {name!r}, but {path} cannot be read as an image: ")
    assert "\n" not in str(caught.value)


def remove_train(folder: Path) -> None:
    (folder / "train").rename(folder / "learn")


def remove_val(folder: Path) -> None:
    (folder / "val").rename(folder / "eval")


def one_class_more(folder: Path) -> None:
    (folder / "val/dog").mkdir()


def one_class_less(folder: Path) -> None:
    (folder / "val/bee").rename(folder / "bee")


def no_images(folder: Path) -> None:
    for path in (folder / "train/bee").iterdir():
        path.unlink()


def both(folder: Path) -> None:
    (folder / "validation").mkdir()


def images_without_classes(folder: Path) -> None:
    for label in CLASSES[1:]:
        (folder / "train" / label).rename(folder / label)


def one_image_each(folder: Path) -> None:
    for label in CLASSES:
        for path in sorted((folder / "train" / label).iterdir())[1:]:
            path.unlink()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (remove_train, "has no folder train: it needs train/CLASS/IMAGE"),
        (remove_val, "has no folder val: it needs train/CLASS/IMAGE"),
        (one_class_more, "train and val differ in their classes: dog"),
        (one_class_less, "train and val differ in their classes: bee"),
        (no_images, "no valid file for the classes bee"),
        (both, "has both val and validation"),
        (images_without_classes, "has 1 class folders of the 2 or more"),
        (one_image_each, "has 3 images of 3 classes"),
    ],
)
def test_a_folder_of_another_shape_is_refused_in_one_line(
    folder: Path, name: str, break_it: Callable[[Path], None], said: str
) -> None:
    break_it(folder)
    with pytest.raises(OdenasError) as caught:
        load(name)
    message = str(caught.value)
    assert message.startswith(f"`data` is {name!r}, but ")
    assert said in message
    assert "\n" not in message


def test_names_of_folders(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OdenasError, match=r"but .*nowhere is no folder$"):
        dataset(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(OdenasError, match="must be from 8 to 1024"):
        dataset(f"folder:{folder}@4000")
    assert dataset(f"folder:{folder}").size == 224
    monkeypatch.chdir(tmp_path)
    assert full_name("folder:pictures@64") == f"folder:{folder}@64"
    assert full_name("digits") == short_name("digits") == "digits"
    assert short_name(f"folder:{folder}") == "pictures"
    config = SearchConfig(data="folder:pictures@64")
    assert config.data == f"folder:{folder}@64"
    assert config.folder == Path("runs/pictures-64")
    assert SearchConfig(**config.resolved()) == config


# In processes of their own.


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.slow
def test_a_search_decodes_in_ray_workers_and_reads_the_test_images_at_the_end(folder: Path, tmp_path: Path) -> None:
    """Of torchvision's network; the confirmation's runs too have decoders."""
    code = (
        "import sys; from odenas.search import SearchConfig, search\n"
        "if __name__ == '__main__': search(SearchConfig(data=sys.argv[1], run=sys.argv[2], trials=2, epochs=1, "
        "backbone='torchvision:resnet18', scheduler='none', workers=1, decoders=2, recipe={'batch_size': 11}, "
        "confirm={'seeds': 1, 'top': 1}))"
    )
    run_folder = tmp_path / "run"
    arguments = [sys.executable, "-c", code, "folder:pictures@32", str(run_folder)]
    subprocess.run(arguments, check=True, cwd=folder.parent, env=environment(), capture_output=True, timeout=500)
    found = load_run(run_folder)
    assert found.config["data"] == f"folder:{folder}@32"
    assert found.trials["status"].tolist() == ["COMPLETE"] * 2
    assert (found.trials["train_size"].tolist(), found.trials["validation_size"].tolist()) == ([33, 33], [3, 3])
    assert found.confirmations["status"].eq("COMPLETE").all()
    assert set((found.confirmations["test_error"] / 100 * 9).round(6)) <= set(range(10))  # of 9 images


@pytest.mark.slow
def test_a_published_network_trains_on_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    config = configuration(look_up("resnet50"), "resnet50", data="folder:pictures@32", epochs=1)
    assert config.folder == Path("runs/resnet50-pictures-32")
    found = train_named("resnet50", config, console=Console(file=io.StringIO()))
    assert found.trials["status"].tolist() == ["COMPLETE"]
    assert found.confirmations["test_error"].notna().all()
    assert found.trials["params"][0] == 25_557_032 - 997 * 2049  # torchvision's, with 3 classes in place of 1000


@pytest.mark.slow
def test_decoders_end_with_their_process(name: str) -> None:
    """Even where it is killed."""
    code = (
        "import multiprocessing, sys, time; from dataclasses import replace\n"
        "from odenas.search.data import dataset, load_test; from odenas.search.decoding import Decoded\n"
        "if __name__ == '__main__':\n"
        "    batches = Decoded(replace(load_test(sys.argv[1]), decoders=2), dataset(sys.argv[1]))\n"
        "    list(batches.judging('whole')); print(len(multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(500)"
    )
    arguments = [sys.executable, "-c", code, name]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout
    assert process.stdout.readline() == "2\n"
    process.kill()
    process.communicate(timeout=60)  # returns when the last that holds the process's output has ended
