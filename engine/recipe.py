"""What a process elsewhere needs to explain images as this one would: options, methods and keys instead of a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache.errors import GazelakeError
from engine.config import ExplainConfig
from engine.plan import Plan, fitting_batch, images_at_once, open_model, set_up, speed_up
from engine.targets import Targets

if TYPE_CHECKING:
    from engine.attribution_rows import Objects
    from engine.models import LoadedModel
    from engine.worker import Worker


@dataclass(frozen=True)
class Recipe:
    """A plan without what cannot travel: the network is loaded again from where it came from.

    Attributes:
        config: The options of `explain`.
        folder: Where relative paths among them start.
        native_size: Height and width that all images share by construction, None otherwise.
        methods: Names and parameters of the methods.
        targets: Which classes to explain.
        default_method: Method whose map weighs the attended features.
        keys: By method, and for embeddings, the key of their parameters.
        objects: How the dataset says where objects are.
        fingerprints: Of the weights and of the preprocessing.
        layer: Identity of the target layer.
    """

    config: ExplainConfig
    folder: str
    native_size: tuple[int, int] | None
    methods: tuple[tuple[str, dict[str, Any]], ...]
    targets: Targets
    default_method: str
    keys: dict[str, str]
    objects: Objects | None
    fingerprints: tuple[str, str]
    layer: str

    @classmethod
    def of(cls, plan: Plan) -> Recipe:
        """Write down a plan."""
        # Each worker sees the accelerator that it is given as its first.
        device = "cuda" if plan.config.device.startswith("cuda") else plan.config.device
        return cls(
            plan.config.model_copy(update={"device": device}),
            os.getcwd(),
            plan.records.dataset.native_size,
            tuple((request.name, dict(request.parameters)) for request in plan.requests),
            plan.targets,
            plan.manifest.default_method,
            plan.keys,
            plan.objects,
            (plan.model.fingerprint, plan.model.preprocessing.fingerprint),
            plan.families.layer_identity,
        )

    def worker(self, sent: Callable[[], LoadedModel] | None = None) -> tuple[Worker, int]:
        """Load the network and set up a worker; return it with the images that it explains at once.

        Args:
            sent: Returns the network that was sent along, on the CPU; None to load it as the options say.

        Raises:
            OtherNetworkError: It cannot be loaded here, or is not the one that was planned with.
        """
        from engine.attribution.registry import MethodRequest
        from engine.attribution.registry import methods as registered
        from engine.batch_rows import Recording
        from engine.models import place, resolve_device
        from engine.statistics import statistic_fields
        from engine.worker import Worker

        if sent is None:
            try:
                model = open_model(self.config, self.native_size, self.config.device)
            except GazelakeError as error:
                raise OtherNetworkError(str(error)) from error
        else:
            model = sent()
            model.device = resolve_device(self.config.device)
            place(model.module, model.device)
        if (model.fingerprint, model.preprocessing.fingerprint) != self.fingerprints:
            raise OtherNetworkError(
                "another network is loaded there than here, with other weights or preprocessing"
            )
        known = registered()
        requests = tuple(MethodRequest(known[name], parameters) for name, parameters in self.methods)
        families, requests, _ = set_up(self.config, model, requests)
        speed_up(self.config, model)
        if families.layer_identity != self.layer:
            raise OtherNetworkError(
                f"its target layer there is '{families.layer_identity}', not '{self.layer}'"
            )
        names = [field.name for field in statistic_fields(self.objects is not None)]
        recording = Recording(requests, self.default_method, self.keys, names, self.objects)
        size = fitting_batch(self.config, model, requests)
        worker = Worker(model, families, self.targets, recording, size)
        return worker, images_at_once(requests, size)


class OtherNetworkError(Exception):
    """The network cannot be loaded where it is needed, or is not the same there."""
