"""Small networks written by hand, each with a habit that explaining has to cope with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu


class PooledNet(nn.Module):
    """Global average pooling and one linear layer: the head that CAM is made for."""

    def __init__(self, outputs: int = 5, channels: int = 3, width: int = 12) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, width, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(torch.flatten(self.pool(self.features(x)), 1)))


class FlatNet(nn.Module):
    """Functional activations and pooling, and a head that knows positions; signed target activations."""

    def __init__(self, outputs: int = 4, size: int = 20) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 10, 3, padding=1)
        self.fc1 = nn.Linear(10 * (size // 4) ** 2, 16)
        self.fc2 = nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = max_pool2d(relu(self.conv1(x)), 2)
        x = avg_pool2d(relu(self.conv2(x)), 2)
        return self.fc2(relu(self.fc1(x.flatten(1))))


class InPlaceNet(nn.Module):
    """Works in place on what the target layer returned, as DenseNet's last ReLU does."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 10, 3, padding=1)
        self.fc = nn.Linear(10, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.conv2(max_pool2d(relu(self.conv1(x)), 2)), inplace=True)
        return self.fc(x.mean((2, 3)).square())


class LeNet(nn.Module):
    """Convolution, tanh, pooling, linear: the classic order."""

    def __init__(self, outputs: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Linear(16 * 16, 84), nn.Tanh(), nn.Linear(84, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class ReusedReluNet(nn.Module):
    """One activation module for everything, the hidden linear layer included."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3, padding=1)
        self.conv2 = nn.Conv2d(10, 10, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(10, 12)
        self.fc2 = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.conv1(x))))
        return self.fc2(self.relu(self.fc1(x.mean((2, 3)))))


class BinaryNet(PooledNet):
    """A single logit."""

    def __init__(self) -> None:
        super().__init__(outputs=1)


class FrozenBackboneNet(nn.Module):
    """Transfer learning: the backbone runs under the network's own `torch.no_grad()`."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.backbone = PooledNet().features
        self.fc = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.backbone(x)
        return self.fc(x.mean((2, 3)))


class PointwiseEndNet(nn.Module):
    """Its last convolution, a classifier, sees a single position."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Conv2d(8, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.pool(self.stem(x))).flatten(1)


class TokenNet(nn.Module):
    """A patch embedding followed by attention."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        return self.fc(self.attention(tokens, tokens, tokens)[0].mean(1))


class FailingNet(PooledNet):
    """Raises in its head when told to."""

    fail = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if self.fail:
            raise RuntimeError("the head broke")
        return self.fc(self.pool(x).flatten(1))


class MultiLayerPerceptron(nn.Module):
    """Nothing spatial at all."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def two_scores(logits: Tensor) -> Tensor:
    """Turn a single logit z into the scores (−z, z)."""
    return torch.cat([-logits, logits], 1)
