"""Published data sets of pictures, small, in the very files and folders of their releases; nobody is on them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUNDRED = tuple(f"fine_{i:02d}" for i in range(100))
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def pictures(count: int, *, side: int = 32, seed: int = 0) -> Pixels:
    """Coloured noise (count x side x side x 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def rows(images: Pixels, *labels: Sequence[int]) -> bytes:
    """A file of CIFAR: labels, then the planes of colour, of each picture."""
    told = zip(*labels, images, strict=True)
    return b"".join(bytes(numbers) + image.transpose(2, 0, 1).tobytes() for *numbers, image in told)


def cifar_10(place: Path, *, each: int = 4) -> Path:
    """Two training batches and the test batch, with the names and the page that come with them."""
    folder = place / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        images = pictures(each, seed=i)
        (folder / f"{name}.bin").write_bytes(rows(images, [(i + j) % len(TEN) for j in range(each)]))
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    (folder / "readme.html").write_text("<p>")
    return folder


def cifar_100(place: Path, *, each: int = 4) -> Path:
    """Both files, with the coarse and the fine label of each picture."""
    folder = place / "cifar-100-binary"
    folder.mkdir(parents=True)
    for i, name in enumerate(("train", "test")):
        fine = [11 * j for j in range(each)]
        (folder / f"{name}.bin").write_bytes(rows(pictures(each, seed=10 + i), [j % 20 for j in range(each)], fine))
    (folder / "fine_label_names.txt").write_text("\n".join(HUNDRED) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(f"coarse_{i}" for i in range(20)) + "\n")
    return folder


def svhn(place: Path, labels: Sequence[int] = (10, 1, 9, 10, 5), *, packed: bool = True, **others: Any) -> Path:  # noqa: ANN401 - any array
    """The cropped digits for training, as MATLAB writes them; the label 10 is the digit 0."""
    place.mkdir(parents=True, exist_ok=True)
    images = pictures(len(labels), seed=20).transpose(1, 2, 3, 0)
    arrays = {"X": images, "y": np.array(labels, dtype=np.uint8)[:, None]} | others
    savemat(place / "train_32x32.mat", arrays, do_compression=packed)
    return place / "train_32x32.mat"


def file(seed: int = 0, *, side: int = 8, form: str = "JPEG") -> bytes:
    """A picture's file."""
    made = io.BytesIO()
    Image.fromarray(pictures(1, side=side, seed=seed)[0]).save(made, format=form)
    return made.getvalue()


def written(place: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files."""
    for name, raw in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(raw)
    return place


def tiny_imagenet(place: Path, *, each: int = 2) -> Path:
    """Two classes; boxes and words, which nothing here reads, stand beside the pictures."""
    known = ("n01443537", "n01629819")
    files = {"wnids.txt": "\n".join(known).encode(), "words.txt": b"n01443537\tgoldfish, Carassius auratus\n"}
    lines = []
    for i, wnid in enumerate(known):
        for j in range(each):
            files[f"train/{wnid}/images/{wnid}_{j}.JPEG"] = file(100 * i + j)
            files[f"val/images/val_{i * each + j}.JPEG"] = file(50 + 100 * i + j)
            lines.append(f"val_{i * each + j}.JPEG\t{wnid}\t0\t32\t44\t62")
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"0\t0\t1\t1\n"
    files["val/val_annotations.txt"] = ("\n".join(lines) + "\n").encode()
    files["test/images/test_0.JPEG"] = file(7)
    return written(place / "tiny-imagenet-200", files)


def office_home(place: Path) -> Path:
    """Two domains with two classes each, and the lists that lie beside them."""
    files = {
        f"{domain}/{label}/{number:05d}.jpg": file(hash_of(domain, label, number))
        for domain in ("Art", "Real World")
        for label in ("Alarm_Clock", "Bike")
        for number in (1, 2)
    }
    return written(place / "OfficeHomeDataset_10072016", {**files, "ImageInfo.csv": b"x,y\n", "imagelist.txt": b"x\n"})


def hash_of(*parts: object) -> int:
    """A seed that is the same in every process."""
    return sum(ord(letter) * (i + 1) for i, letter in enumerate("/".join(map(str, parts))))


def class_folders(place: Path) -> Path:
    """CIFAR-10 as folders of PNG files: train and test, a folder a class in each."""
    names = [f"{part}/{label}/{n:04d}.png" for part in ("train", "test") for label in TEN[:2] for n in (1, 2)]
    return written(place / "cifar10", {name: file(hash_of(name), form="PNG") for name in names})
