"""From a record to what the model is shown, in reader threads: read, recognise, decode, measure."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from engine.attribution_rows import Prepared
from engine.image_statistics import image_statistics
from engine.images import SampleError, decode, decode_mask, thumbnail
from engine.ledger import Ledger
from engine.preprocessing import Preprocessing
from engine.records import Records, content_key
from engine.targets import Targets

GONE = ("gone", "unreadable", "lost", "out_of_memory")
"""Kinds of failure that say nothing about an image's bytes: what is known of it stays."""


@dataclass(frozen=True)
class Kept:
    """Nothing about the sample has changed."""

    index: int


@dataclass(frozen=True)
class Copied:
    """The image is known under another record: its row is copied, nothing is computed."""

    index: int
    content: str


@dataclass(frozen=True)
class Deferred:
    """Another record with the same bytes is being explained right now."""

    index: int
    content: str


@dataclass(frozen=True)
class Failed:
    """The sample cannot be explained."""

    index: int
    stage: str
    kind: str
    message: str


@dataclass(frozen=True)
class Work:
    """An image for the model, and whether its row is copied besides."""

    prepared: Prepared
    copied: Copied | None = None


Outcome = Kept | Copied | Deferred | Failed | Work


class Preparer:
    """Prepares records; safe to call from several threads.

    Attributes:
        failures: Why contents could not be explained; another file with the same bytes fails likewise, at once.
    """

    def __init__(
        self,
        records: Records,
        preprocessing: Preprocessing,
        targets: Targets,
        ledger: Ledger,
        failures: dict[str, SampleError],
    ) -> None:
        self.records = records
        self.preprocessing = preprocessing
        self.targets = targets
        self.ledger = ledger
        self.failures = failures
        self._started: set[bytes] = set()
        self._lock = Lock()

    def __call__(self, i: int) -> Outcome:
        """Decide what a record needs, and get it ready for the model where it needs that."""
        try:
            return self._prepare(i)
        except SampleError as error:
            return Failed(i, error.stage, error.kind, error.message)
        except Exception as error:  # one odd image must not end the audit of a million
            reason = str(error).partition("\n")[0] or type(error).__name__
            return Failed(i, "decode", "other", f"The image cannot be prepared for the model: {reason}.")

    def _prepare(self, i: int) -> Outcome:
        dataset = self.records.dataset
        data = dataset.read(i)
        mask_data, boxes = dataset.read_mask_bytes(i), dataset.boxes(i)
        content, label = content_key(data, mask_data, boxes), self.records.label(i)
        known = self.ledger.contents.get(content)
        targets = copied = None
        if known is not None:
            if self.ledger.samples.get(self.records.sample_id(i)) != (content, self.records.digest(i)):
                copied = Copied(i, content)
            targets = self.ledger.missing(content, self.targets.of(known.top_classes, label))
            # A row keeps the probabilities of a few classes; the loss of another one takes a forward pass.
            unknown_loss = copied is not None and label is not None and label not in known.top_classes
            if not targets and not unknown_loss:
                return copied or Kept(i)
        if content in self.failures:
            raise self.failures[content]
        if not self._start(content):
            return Deferred(i, content)
        try:
            view = self.preprocessing.view(decode(data))
            mask = None if mask_data is None else view.mask(decode_mask(mask_data))
        except SampleError as error:
            self.failures[content] = error
            raise
        prepared = Prepared(
            i,
            content,
            label,
            view,
            b"" if known else thumbnail(view.pixels),
            {} if known else image_statistics(view.pixels),
            mask,
            None if boxes is None else view.boxes(boxes),
            None if targets is None else [target for target in targets if target >= 0],
        )
        return Work(prepared, copied)

    def _start(self, content: str) -> bool:
        """Claim a content; two records with the same bytes are explained once."""
        key = bytes.fromhex(content)
        with self._lock:
            if key in self._started:
                return False
            self._started.add(key)
            return True
