"""What is asked for on the command line becomes methods, or one sentence that says what is wrong."""

from __future__ import annotations

import re

import pytest

from cache.errors import MethodError
from engine.attribution.registry import (
    PRESETS,
    Method,
    Parameter,
    methods,
    parse_methods,
    register,
    unregister,
)

ALL = list(methods().values())
CAMS = {"cam", "gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "eigencam"}


@pytest.fixture
def extension():
    @register(
        "mean_activation",
        title="Mean activation",
        family="activation",
        summary="What the layer responds with.",
        reference="a test",
        parameters=(
            Parameter("power", 1.5, "An exponent.", low=0.5, high=3),
            Parameter("count", 4, "A whole number.", low=1),
            Parameter("fill", "mean", "How.", choices=("mean", "blur")),
            Parameter("chunk", 8, "Rows at a time; no matter for the result.", keyed=False),
        ),
        needs=("spatial_layer",),
        class_dependent=False,
    )
    def compute(evidence, **_):
        return evidence.activations.mean(1)

    yield methods()["mean_activation"]
    unregister("mean_activation")


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_every_method_declares_what_others_must_know(method: Method):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", method.name)
    assert method.title
    assert method.summary.endswith(".")
    assert re.search(r"\d{4}.*(arXiv:|doi:)", method.reference)
    assert "forward" in method.passes or "pass" in method.passes
    assert set(method.presets) <= set(PRESETS)
    assert method.needs
    assert method.compute.__doc__
    for parameter in method.parameters:
        assert parameter.description
        assert parameter.read(parameter.default) == parameter.default
        assert parameter.allowed


def test_the_fast_preset_is_the_activation_family():
    requests = parse_methods("fast")
    assert {r.name for r in requests} == CAMS
    assert all(r.parameters == r.method.resolve() for r in requests)


def test_names_parameters_and_presets_are_read():
    assert [r.name for r in parse_methods("layercam, gradcam")] == ["layercam", "gradcam"]
    assert [r.name for r in parse_methods("GradCAM")] == ["gradcam"]
    (request,) = parse_methods("eigencam( center = TRUE )")
    assert request.parameters == {"center": True}
    both = {r.name: r.parameters for r in parse_methods("fast,eigencam(center=true),gradcam")}
    assert set(both) == CAMS
    assert both["eigencam"] == {"center": True}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gradcan", "there is no method 'gradcan': did you mean gradcam"),
        ("zzzz", "there is no method 'zzzz': choose from fast, standard, thorough, cam"),
        ("", "no method was named: choose from fast"),
        (" , ", "no method was named"),
        ("gradcam,gradcam", "method 'gradcam' is named twice"),
        ("gradcam(center=true)", "method 'gradcam' has no parameter 'center': it has none"),
        ("eigencam(centre=true)", "method 'eigencam' has no parameter 'centre': it has center"),
        ("eigencam(center=maybe)", "'center=maybe' is not allowed for method 'eigencam': give true or false"),
        ("eigencam(center)", r"'center' in 'eigencam\(center\)' is not a parameter"),
        ("eigencam(center=true,center=true)", "write each one once"),
        ("eigencam(center=true", "is not a method: write NAME or NAME"),
        ("grad cam", "'grad cam' is not a method"),
        ("fast(center=true)", "there is no method 'fast'"),
    ],
)
def test_mistakes_get_one_sentence(text, sentence):
    with pytest.raises(MethodError, match=sentence):
        parse_methods(text)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("power", "4", "a number from 0.5 to 3"),
        ("power", "nan", "a number"),
        ("power", "inf", "a number"),
        ("power", "much", "a number"),
        ("count", "0", "a whole number of at least 1"),
        ("count", "2.5", "a whole number"),
        ("fill", "black", "one of mean, blur"),
    ],
)
def test_values_outside_their_range_are_refused(extension, name, value, allowed):
    with pytest.raises(MethodError, match=allowed):
        parse_methods(f"mean_activation({name}={value})")


def test_an_extension_comes_in_by_the_same_door(extension):
    (request,) = parse_methods("mean_activation(power=2,count=7,fill=blur)")
    assert request.parameters == {"power": 2.0, "count": 7, "fill": "blur", "chunk": 8}
    with pytest.raises(ValueError, match="registered already"):
        register("mean_activation", title="", family="activation", summary="", reference="")(print)
    with pytest.raises(ValueError, match="lower-case"):
        register("Grad-CAM", title="", family="activation", summary="", reference="")
    with pytest.raises(ValueError, match="unknown presets"):
        register("other", title="", family="activation", summary="", reference="", presets=("quick",))


def test_the_key_covers_what_changes_the_result_and_nothing_else(extension):
    key = extension.key({}, "layer4")
    assert re.fullmatch(r"[0-9a-f]{16}", key)
    assert extension.key({"power": "1.5"}, "layer4") == key
    assert extension.key({"chunk": 2}, "layer4") == key
    assert extension.key({"power": 2}, "layer4") != key
    assert extension.key({}, "layer3") != key
    assert len({m.key({}, "layer4") for m in ALL}) == len(ALL)
    (request,) = parse_methods("mean_activation")
    assert request.key("layer4") == key


def test_the_key_names_the_layer_only_where_the_method_looks_at_one(extension):
    blind = Method("m", "M", "perturbation", "", "", print)
    assert blind.key({}, "layer4") == blind.key({}, "layer3")
    later = Method("m", "M", "perturbation", "", "", print, version=2)
    assert later.key() != blind.key()
