"""Which classes are explained for a sample: the predicted one, the true one, the top k, and any named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from cache.errors import ConfigError
from cache.schema import TARGET_PRED, TARGET_TRUE

TOP_STORED = 5
"""A sample's row keeps this many of its most probable classes, so no more can be asked for."""


@dataclass(frozen=True)
class Targets:
    """The classes to explain, as asked with ``--targets``.

    Attributes:
        pred: Explain the predicted class.
        true: Explain the label where it differs from the prediction.
        top: Explain the k most probable classes.
        named: Explain these outputs for every sample.
    """

    pred: bool
    true: bool
    top: int
    named: tuple[int, ...]

    def of(self, top_classes: Sequence[int], label: int | None) -> list[int]:
        """Return the classes to explain for one sample, each once.

        Args:
            top_classes: Its most probable classes, the prediction first.
            label: Its true class, None where unknown.
        """
        wanted = list(top_classes[: max(self.top, int(self.pred))])
        if self.true and label is not None:
            wanted.append(label)
        return list(dict.fromkeys([*wanted, *self.named]))


def parse_targets(asked: Iterable[str], classes: Sequence[str]) -> Targets:
    """Read ``pred``, ``true``, ``top:3``, class names and indices.

    Raises:
        ConfigError: A class is unknown or shared by several outputs, or k is out of range.
    """
    pred = true = False
    top, named = 0, []
    for target in asked:
        if target == TARGET_PRED:
            pred = True
        elif target == TARGET_TRUE:
            true = True
        elif target.startswith("top:"):
            count = target.removeprefix("top:")
            if count not in map(str, range(1, TOP_STORED + 1)):
                raise ConfigError(f"--targets {target} is not possible: ask for top:1 to top:{TOP_STORED}.")
            top = int(count)
        else:
            named.append(_output(target, classes))
    # The page of a sample starts from the predicted class, so it is always there.
    return Targets(pred or not top, true, top, tuple(named))


def _output(name: str, classes: Sequence[str]) -> int:
    outputs = [i for i, known in enumerate(classes) if known == name]
    if len(outputs) > 1:
        raise ConfigError(
            f"--targets {name} names {len(outputs)} outputs of the model: ask for one by its index, "
            f"{' or '.join(str(i) for i in outputs)}."
        )
    if outputs:
        return outputs[0]
    if name in map(str, range(len(classes))):
        return int(name)
    close = get_close_matches(name, classes, 3)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else "ask for pred, true, top:K, a class name or an output's index."
    )
    raise ConfigError(f"--targets {name} is no class of this model: {hint}")
