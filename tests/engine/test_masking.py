"""The engine of masked forward passes: full batches, the budget, the layout, and a network left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.attribution.masking import (
    Ablations,
    Job,
    Layout,
    MaskedForward,
    activations_of,
    batches,
    head_resumes,
    zero_channels,
)
from engine.layers import find_target_layer
from tests.engine import small_networks as networks
from tests.engine.scenes import network_of, pictures, sensitive, subjects_of
from tests.engine.test_activation import state


class Scaled:
    """Masks that multiply the image by 0, 1, 2, …"""

    def __init__(self, image, count):
        self.image, self.count = image, count

    def __len__(self):
        return self.count

    def write(self, rows, out):
        factors = torch.arange(rows.start, rows.stop).float()
        out.copy_(self.image * factors[:, None, None, None])


class Watched(nn.Module):
    """Notes what it is given."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.sizes, self.strides = inner, [], set()

    def forward(self, x):
        self.sizes.append(len(x))
        self.strides.add(x.stride()[1:])
        return self.inner(x)


def jobs_of(subjects, counts):
    return [Job(i, Scaled(subjects.inputs[i], n), "logit") for i, n in enumerate(counts)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("counts", [(5, 11, 1, 0, 30), (7,), (16, 16)])
def test_batches_are_full_and_every_score_comes_back(layout, channels, counts):
    module = Watched(sensitive(networks.PooledNet(channels=channels)))
    targets = torch.randint(0, 5, (len(counts), 2))
    subjects = subjects_of(pictures(len(counts), (24, 20), channels), targets, budget=8, layout=layout)
    done = MaskedForward(network_of(module), subjects).run(iter(jobs_of(subjects, counts)))
    total = sum(counts)
    assert module.sizes == [8] * (total // 8) + ([total % 8] if total % 8 else [])
    assert module.strides == {subjects.inputs.stride()[1:]}
    with torch.no_grad():
        for i, job in enumerate(done):
            assert job.scores.shape == (counts[i], 2)
            if counts[i]:
                masked = subjects.inputs[i] * torch.arange(counts[i])[:, None, None, None]
                torch.testing.assert_close(
                    job.scores, module.inner(masked)[:, targets[i]], atol=1e-4, rtol=1e-4
                )


def test_segments_are_consecutive():
    jobs = [Job(0, Ablations(torch.arange(n)), "logit") for n in (3, 4, 2)]
    found = [[(s.rows, s.at) for s in batch] for batch in batches(jobs, 5)]
    assert found == [
        [(slice(0, 3), slice(0, 3)), (slice(0, 2), slice(3, 5))],
        [(slice(2, 4), slice(0, 2)), (slice(0, 2), slice(2, 4))],
    ]


def test_jobs_are_made_when_their_turn_comes_and_their_masks_let_go():
    module = Watched(sensitive(networks.PooledNet()))
    subjects = subjects_of(pictures(3, 20), torch.zeros(3, 1, dtype=torch.int64), budget=4)
    made = []

    def lazily():
        for i, job in enumerate(jobs_of(subjects, (8, 8, 8))):
            made.append((i, len(module.sizes)))
            yield job

    done = MaskedForward(network_of(module), subjects).run(lazily())
    assert made == [(0, 0), (1, 2), (2, 4)]
    assert all(len(job.masks) == 0 for job in done)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_a_single_logit_has_two_classes(score):
    module = sensitive(networks.BinaryNet())
    subjects = subjects_of(pictures(1, 20), torch.tensor([[0, 1]]))
    (job,) = MaskedForward(network_of(module), subjects).run([Job(0, Scaled(subjects.inputs[0], 3), score)])
    both = job.scores.sum(1)
    torch.testing.assert_close(both, torch.ones(3) if score == "probability" else torch.zeros(3))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
def test_layouts_lay_images_as_inputs_lie_in_memory(layout, channels):
    inputs = torch.randn(2, channels, 5, 7).contiguous(memory_format=layout)
    laid = Layout.of(inputs)
    assert laid.empty(4)[:1].stride()[1:] == inputs.stride()[1:]
    assert laid.flat(inputs).data_ptr() == inputs.data_ptr()
    assert torch.equal(laid.laid(inputs[1]), laid.flat(inputs)[1])
    down, across, cells = torch.randn(2, 5, 3), torch.randn(2, 7, 3), torch.randn(2, 3, 3)
    spread = (laid.rows(down) @ cells @ laid.columns(across).mT).flatten(1)
    plain = (down @ cells @ across.mT)[:, None].expand(-1, channels, -1, -1)
    expected = torch.stack([laid.laid(plane) for plane in plain])
    torch.testing.assert_close(spread, expected)


class SkippingNet(networks.PooledNet):
    """A way round the target layer."""

    def forward(self, x):
        x = self.features[:3](x)
        return self.fc((torch.cat([self.features[3:](x), x[:, :4] * 0], 1)[:, :12]).mean((2, 3)))


class CountingNet(networks.PooledNet):
    """Its head knows the size of the batch beforehand."""

    def forward(self, x):
        count = len(x)
        return self.fc(self.features(x).mean((2, 3)).view(count, -1))


@pytest.mark.parametrize(
    ("make", "resumes"),
    [
        (networks.PooledNet, True),
        (networks.FlatNet, True),
        (networks.InPlaceNet, True),
        (SkippingNet, False),
        (CountingNet, False),
    ],
)
def test_ablations_are_the_same_whether_or_not_the_head_is_resumed(make, resumes):
    module = Watched(sensitive(make()))
    subjects = subjects_of(pictures(3, 20), torch.tensor([[0], [1], [2]]), budget=5)
    layer = find_target_layer(module, subjects.inputs[:1])
    network = network_of(module)
    assert head_resumes(network, layer, subjects.inputs[:1]) is resumes
    activations = activations_of(network, subjects.inputs, layer, 2)
    for shared in {resumes, False}:
        module.sizes.clear()
        jobs = [Job(i, Ablations(torch.arange(-1, 7 - i)), "logit") for i in range(3)]
        done = MaskedForward(network, subjects).run_ablations(jobs, layer, shared)
        assert max(module.sizes) <= 5
        assert sum(module.sizes) == (6 if shared else 21)
        for i, job in enumerate(done):
            for row, channel in enumerate(range(-1, 7 - i)):
                ablated = zero_channels(activations[i : i + 1], torch.tensor([channel]))
                handle = module.get_submodule(layer.name).register_forward_hook(
                    lambda _m, _i, _o, ablated=ablated: ablated
                )
                with torch.no_grad():
                    expected = module(subjects.inputs[i : i + 1])[0, i]
                handle.remove()
                torch.testing.assert_close(job.scores[row, 0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ablate", [False, True])
def test_the_network_is_left_as_it_was_after_errors_too(ablate):
    module = networks.FailingNet()
    subjects = subjects_of(pictures(1, 20), torch.tensor([[0]]), budget=4)
    layer = find_target_layer(module, subjects.inputs[:1])
    before = state(module)
    engine = MaskedForward(network_of(module), subjects)

    def run():
        if ablate:
            return engine.run_ablations([Job(0, Ablations(torch.arange(6)), "logit")], layer, shared=False)
        return engine.run(jobs_of(subjects, (6,)))

    run()
    assert state(module) == before
    module.fail = True
    with pytest.raises(RuntimeError, match="the head broke"):
        run()
    assert state(module) == before
