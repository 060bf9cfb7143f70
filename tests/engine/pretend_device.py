"""A device that is not there: tensors that say they lie on it, compute on the CPU, and refuse what a real one refuses.

An operation that mixes them with tensors of the host fails, as on a GPU; what is copied to the host is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
INDEXING = ("index", "index_put", "_index_put_impl")


class There(Tensor):
    """A tensor on the pretended device, whose numbers lie in `here`."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(function, args, kwargs or {})

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"There({self.here})"


class Pretending(TorchDispatchMode):
    """Lets tensors be made on the pretended device; lists the sizes of what is copied to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        copied = function.overloadpacket.__name__ == "_to_copy" and isinstance(args[0], There)
        if copied and torch.device(kwargs.get("device", DEVICE)).type == "cpu":
            self.fetched.append(tuple(args[0].shape))
        return dispatched(function, args, kwargs)


def dispatched(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Carry out an operation where its tensors lie."""
    name = function.overloadpacket.__name__
    flat = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    there = any(isinstance(tensor, There) for tensor in flat)
    device = kwargs.get("device")
    wanted = None if device is None else torch.device(device).type
    if there and name not in ("_to_copy", "copy_", *INDEXING):
        strangers = [t for t in flat if not isinstance(t, There) and t.ndim]
        if strangers:
            raise RuntimeError(f"{name} mixes {DEVICE} with the host")
    result_there = there if wanted is None else wanted == DEVICE.type
    options = dict(kwargs)
    if device is not None:
        options["device"] = torch.device("cpu")

    def inner(value: Any) -> Any:
        return value.here if isinstance(value, There) else value

    if name == "_to_copy":
        options.pop("device", None)
    result = function(*tree_map(inner, args), **tree_map(inner, options))
    known = {id(t.here): t for t in flat if isinstance(t, There)}

    def outer(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in known:
            return known[id(value)]
        return There(value) if result_there else value

    return tree_map(outer, result)


@contextmanager
def pretending() -> Iterator[Pretending]:
    """Pretend that there is a device for as long as the block lasts."""
    usual = torch.tensor

    def tensor(data: Any, **options: Any) -> Tensor:
        # The one function that makes a tensor on this device without asking the mode.
        there = torch.device(options.get("device") or "cpu").type == DEVICE.type
        return There(usual(data, **{**options, "device": "cpu"})) if there else usual(data, **options)

    torch.tensor = tensor  # type: ignore[assignment]
    try:
        with Pretending() as mode:
            yield mode
    finally:
        torch.tensor = usual
