"""Train a small CNN on a folder of classes, and keep a part aside for Gazelake to explain.

It stands for a network of one's own: a plain PyTorch file that knows nothing of Gazelake. What Gazelake needs is
at the end: the function ``network``, whose module says how its images are prepared, and a checkpoint.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional

SIDE = 96
MEAN, STD = 0.5, 0.25
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


class SignNetwork(nn.Module):
    """Five blocks of convolution, batch normalisation and ReLU; average pooling; one linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.preprocessing = {"size": SIDE, "resize": SIDE, "mean": MEAN, "std": STD}
        widths, strides = (3, 24, 48, 64, 96, 128), (2, 2, 1, 2, 1)
        blocks: list[nn.Module] = []
        for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            blocks += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(widths[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, outputs) of normalised images (batch, 3, SIDE, SIDE)."""
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


def network(outputs: int = 10) -> SignNetwork:
    """Return the network with fresh weights: the factory that ``--model`` names."""
    return SignNetwork(outputs)


def read_images(paths: list[Path]) -> Tensor:
    """Return images (n, 3, SIDE, SIDE) as uint8: the shorter side resized, the centre cropped."""
    pixels = np.empty((len(paths), SIDE, SIDE, 3), dtype=np.uint8)
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        factor = SIDE / min(upright.size)
        width, height = (max(SIDE, int(side * factor)) for side in upright.size)
        left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
        resized = upright.resize((width, height), Image.Resampling.BILINEAR)
        pixels[index] = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def normalise(pixels: Tensor) -> Tensor:
    return ((pixels.float() / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def vary(images: Tensor) -> Tensor:
    """Turn, zoom and shift every image a little, and change its brightness."""
    count = len(images)
    angle, zoom = (torch.rand(2, count) - 0.5) * torch.tensor([[0.5], [0.3]])
    cosine, sine = angle.cos() * (1 + zoom), angle.sin() * (1 + zoom)
    shift = (torch.rand(count, 2) - 0.5) * 0.3
    affine = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return moved + (torch.rand(count, 1, 1, 1) - 0.5) * 0.8


def split(data: Path, held_out: float, seed: int) -> tuple[list[str], list[Path], list[Path]]:
    """Return the classes, the images to train on and the images held out, the same share of every class."""
    classes = sorted(folder.name for folder in data.iterdir() if folder.is_dir()) if data.is_dir() else []
    shuffle = random.Random(seed).shuffle
    train: list[Path] = []
    rest: list[Path] = []
    for name in classes:
        images = sorted(p for p in (data / name).iterdir() if p.suffix.lower() in SUFFIXES)
        shuffle(images)
        kept = round(len(images) * held_out)
        rest += sorted(images[:kept])
        train += sorted(images[kept:])
    if len(classes) < 2 or not train or not rest:
        raise typer.BadParameter(f"{data} needs at least two subfolders of images, a subfolder a class.")
    return classes, train, rest


def main(
    data: Annotated[Path, typer.Option(help="Folder with a subfolder of images a class.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the table.")] = Path(
        "runs/sign_language_model"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Times that each image is seen.")] = 12,
    held_out: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of the images kept aside.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Decides the split, the first weights and the order.")] = 0,
) -> None:
    """Train on one part of a folder of classes; write network.pt and held_out.csv for the other part."""
    classes, train, rest = split(data, held_out, seed)
    torch.manual_seed(seed)
    model = network(len(classes)).to(memory_format=torch.channels_last)
    pixels, labels = read_images(train), torch.tensor([classes.index(p.parent.name) for p in train])
    batches = -(-len(train) // 32)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=8e-3, total_steps=epochs * batches)
    for epoch in range(epochs):
        model.train()
        right = 0
        for chosen in torch.randperm(len(train)).split(32):
            logits = model(vary(normalise(pixels[chosen])))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            right += int((logits.argmax(1) == labels[chosen]).sum())
        typer.echo(f"epoch {epoch + 1} of {epochs}: {right / len(train):.3f} of the training images right")
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(normalise(part)).argmax(1) for part in read_images(rest).split(64)])
    accuracy = (predicted == torch.tensor([classes.index(p.parent.name) for p in rest])).float().mean()
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": model.state_dict(), "classes": classes}, out / "network.pt")
    with (out / "held_out.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        # Paths start below the data's folder, which --data-root names: the table outlives a move.
        writer.writerows([p.relative_to(data).as_posix(), p.parent.name, "held out"] for p in rest)
    typer.echo(f"{accuracy:.3f} of the {len(rest)} held-out images right. Now let Gazelake look at them:")
    typer.echo(
        f"python -m engine explain --data {out / 'held_out.csv'} --data-root {data} --model "
        f"examples/sign_language/train.py:network --checkpoint {out / 'network.pt'} --out runs/sign_language"
    )


if __name__ == "__main__":
    typer.run(main)
