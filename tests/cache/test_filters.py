"""The filter: one value that is SQL, a link and a sentence, each held against a slow reading of the same rows."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import queries
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.filters import (
    AllOf,
    AnyOf,
    Condition,
    Filter,
    Is,
    Not,
    OneOf,
    Range,
    RegionContrast,
    RegionMass,
    Text,
    compile_filter,
)
from cache.manifest import Manifest
from cache.regions import PRESETS, Region
from cache.schema import Field
from tests.cache.slow_reference import SlowRun

METHODS = st.sampled_from([None, "gradcam", "layercam"])
TARGETS = st.sampled_from(["pred", "true"])
unit = st.floats(0, 1)


def bounds(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float | None, float | None]]:
    pairs = st.tuples(st.none() | values, st.none() | values).filter(lambda pair: pair != (None, None))
    return pairs.map(lambda pair: pair if None in pair else (min(pair), max(pair)))


def ranges(fields: list[str], values: st.SearchStrategy[float]) -> st.SearchStrategy[Condition]:
    return st.builds(lambda field, pair: Range(field, *pair), st.sampled_from(fields), bounds(values))


moments = st.integers(1_700_000_000, 1_701_000_000).map(lambda t: datetime.fromtimestamp(t).isoformat())
regions = st.one_of(
    st.sampled_from(list(PRESETS.values())),
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(7, 14), st.integers(7, 14)).map(
        lambda b: Region.box(*(v / 14 for v in b))
    ),
    st.just(Region.polygon([(0.1, 0.1), (0.9, 0.2), (0.4, 0.93)])),
)
simple = st.one_of(
    st.lists(st.sampled_from(["wolf", "fox", 1, 3, None]), min_size=1, max_size=3).flatmap(
        lambda v: st.sampled_from([OneOf("label", tuple(v)), OneOf("pred", tuple(v))])
    ),
    st.lists(st.sampled_from(["camera A", "camera B", "nowhere", None]), min_size=1).map(
        lambda v: OneOf("meta.camera", tuple(v))
    ),
    st.lists(st.sampled_from([320, 336, 384.0, 5.5]), min_size=1).map(lambda v: OneOf("width", tuple(v))),
    st.sampled_from([OneOf("split", ("test",)), Text("sample_id", "FOX"), Text("meta.camera", "a b")]),
    ranges(["confidence", "margin", "entropy", "brightness", "contrast", "border_mass", "corner_mass"], unit),
    ranges(["meta.altitude"], st.floats(0, 2_000)),
    st.builds(
        lambda pair, method, target: Range("entropy", *pair, method, target), bounds(unit), METHODS, TARGETS
    ),
    bounds(moments).map(lambda pair: Range("meta.taken", *pair)),  # type: ignore[arg-type]
    st.builds(
        Is,
        st.sampled_from(["correct", "labelled", "masked", "meta.indoors"]),
        st.sampled_from([True, False, None]),
    ),
    st.builds(Is, st.just("degenerate"), st.sampled_from([True, False, None]), METHODS, TARGETS),
    st.builds(
        lambda region, pair, method, target: RegionMass(region, *pair, method, target),
        regions,
        bounds(unit),
        METHODS,
        TARGETS,
    ),
    st.tuples(regions, st.floats(0, 0.6), METHODS, TARGETS, METHODS, TARGETS)
    # The default method by its name and without it are one map.
    .filter(lambda t: (t[2] or "gradcam", t[3]) != (t[4] or "gradcam", t[5]))
    .map(lambda t: RegionContrast(*t)),
)
conditions = st.recursive(
    simple,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=1, max_size=3).map(lambda c: AnyOf(tuple(c))),
        st.lists(inner, min_size=1, max_size=3).map(lambda c: AllOf(tuple(c))),
    ),
    max_leaves=5,
)
filters = st.lists(conditions, max_size=3).map(lambda c: Filter(tuple(c)))


@pytest.fixture(scope="module")
def slow(run_path: Path) -> SlowRun:
    return SlowRun(run_path)


@given(filters)
def test_a_filter_comes_back_from_its_link(filter_: Filter) -> None:
    back = Filter.from_param(filter_.to_param())
    assert back == filter_
    assert hash(back) == hash(filter_)
    assert back.to_param() == filter_.to_param()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(filter_=filters)
def test_sql_selects_what_a_slow_reading_selects(catalog: Catalog, slow: SlowRun, filter_: Filter) -> None:
    assert queries.ids(catalog, filter_) == slow.select(filter_.conditions)
    sentence = filter_.sentence(catalog.manifest)
    assert sentence
    assert "\n" not in sentence


SOURCES = [(method, target) for method in (None, "layercam") for target in ("pred", "true")]
EACH: list[Condition] = [
    *(
        Is(name, value)
        for name in ("correct", "labelled", "masked", "meta.indoors")
        for value in (True, False, None)
    ),
    *(Is("degenerate", value, *source) for value in (True, False, None) for source in SOURCES),
    *(Range("border_mass", 0.2, 0.45, *source) for source in SOURCES),
    *(Range("entropy", 0.8, None, *source) for source in SOURCES),
    *(
        RegionMass(PRESETS[name], 0.2, None, *source)
        for name in ("bottom_left", "border")
        for source in SOURCES
    ),
    *(
        RegionContrast(PRESETS[name], least, *sides)
        for name, least in (("bottom_left", 0.1), ("center", 0))
        for sides in (
            (None, "pred", "layercam", "pred"),
            ("layercam", "true", None, "true"),
            (None, "pred", None, "true"),
        )
    ),
    Range("entropy", 0.2),
    OneOf("label", (3, "fox")),
    OneOf("meta.camera", ("camera A", None)),
]


@pytest.mark.parametrize("condition", EACH, ids=str)
def test_each_condition_and_its_opposite(catalog: Catalog, slow: SlowRun, condition: Condition) -> None:
    for filter_ in (Filter((condition,)), Filter((Not(condition),))):
        assert queries.ids(catalog, filter_) == slow.select(filter_.conditions)


@settings(max_examples=30, deadline=None)
@given(region=regions, low=unit, method=METHODS, target=TARGETS)
def test_degenerate_maps_are_on_neither_side_of_a_region(
    catalog: Catalog, slow: SlowRun, region: Region, low: float, method: str | None, target: str
) -> None:
    condition = RegionMass(region, low, None, method, target)
    inside = set(queries.ids(catalog, Filter((condition,))))
    outside = set(queries.ids(catalog, Filter((Not(condition),))))
    undefined = {row["sample_id"] for row in slow.samples if slow.mass(row, condition) is None}
    assert undefined
    assert not inside & outside
    assert inside | outside == {row["sample_id"] for row in slow.samples} - undefined


def test_bounds_match_values_of_single_precision(catalog: Catalog, slow: SlowRun) -> None:
    shown = float(f"{slow.samples[0]['confidence']:.9g}")
    filter_ = Filter((Range("confidence", shown, shown),))
    assert slow.samples[0]["sample_id"] in queries.ids(catalog, filter_)


def test_conditions_on_one_subject_replace_each_other() -> None:
    wolf, fox = OneOf("pred", ("wolf",)), OneOf("pred", ("fox",))
    wrong = Is("correct", False)
    corner = RegionMass(PRESETS["corners"], 0.3)
    border = RegionMass(PRESETS["border"], 0.5, method="layercam")
    filter_ = Filter().with_(wolf).with_(wrong).with_(corner)
    assert filter_.with_(fox) == Filter((fox, wrong, corner))
    assert filter_.with_(Not(fox)).conditions[0] == Not(fox)
    assert filter_.with_(border) == Filter((wolf, wrong, border))
    assert filter_.without("region") == Filter((wolf, wrong))
    assert filter_.without("pred").without("correct").without("region") == Filter()
    assert filter_.get("pred") == wolf
    assert filter_.get("label") is None
    assert not Filter()
    assert filter_
    # The prediction's entropy and the map's are two subjects.
    both = Filter().with_(Range("entropy", 0.5)).with_(Range("entropy", 0.5, method="gradcam"))
    assert len(both.conditions) == 2


def test_the_order_of_clicks_makes_no_other_link() -> None:
    assert OneOf("pred", ("wolf", "fox", "wolf")) == OneOf("pred", ("fox", "wolf"))
    assert Range("confidence", 1) == Range("confidence", 1.0)
    assert Filter((Range("confidence", 1),)).to_param() == Filter((Range("confidence", 1.0),)).to_param()
    assert Filter().to_param() == ""
    assert Filter.from_param("  ") == Filter()


MANIFEST = Manifest(
    "a run",
    classes=["wolf", "husky", "crane", "crane", "fox"],
    default_method="gradcam",
    methods={"gradcam": {"title": "Grad-CAM"}, "layercam": {"title": "Layer-CAM"}},
    statistics=[
        Field("border_mass", "Border mass", "", 0, 1, "higher", ""),
        Field("entropy", "Map entropy", "", 0, 1, "none", ""),
    ],
    meta=[{"name": "meta.camera", "type": "text"}, {"name": "meta.flash", "type": "boolean"}],
)
CORNER = RegionMass(PRESETS["bottom_left"], 0.3)
WRONG = Is("correct", False)


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ((), "all samples"),
        (
            (WRONG, OneOf("pred", ("wolf",)), CORNER),
            "wrong predictions of wolf with at least 30% of Grad-CAM in the lower left corner",
        ),
        ((OneOf("pred", ("wolf", "fox")),), "predictions of fox or wolf"),
        ((OneOf("pred", (3,)),), "predictions of crane (3)"),
        ((OneOf("label", (3, "wolf")),), "samples of crane (3) or wolf"),
        ((OneOf("label", ("husky",)), OneOf("pred", ("wolf",))), "predictions of wolf whose label is husky"),
        ((Is("correct", True), Range("confidence", 0.9)), "right predictions with confidence at least 0.9"),
        (
            (Range("confidence", 0.2, 0.5), Range("border_mass", None, 0.125, method="layercam")),
            "samples with confidence 0.2 to 0.5 and border mass of Layer-CAM at most 0.125",
        ),
        ((WRONG, OneOf("split", ("test",))), "wrong predictions in the split test"),
        (
            (OneOf("split", ("test",)), Range("loss", 2)),
            "samples in the split test with loss at least 2 nats",
        ),
        ((Not(CORNER),), "samples without at least 30% of Grad-CAM in the lower left corner"),
        ((Not(OneOf("pred", ("wolf",))),), "samples not predicted wolf"),
        ((OneOf("meta.camera", ("A", None)),), "samples whose camera is unknown or A"),
        ((Not(OneOf("meta.camera", ("A", "B"))),), "samples whose camera is neither A nor B"),
        ((Is("meta.flash", True),), "samples with flash"),
        ((Text("sample_id", "012"),), "samples whose sample contains “012”"),
        (
            (AnyOf((CORNER, Range("entropy", 0.9, target="true"))),),
            "samples either with at least 30% of Grad-CAM in the lower left corner or with map entropy of "
            "Grad-CAM for the true class at least 0.9",
        ),
        (
            (WRONG, RegionMass(Region.box(0.1, 0.2, 0.4, 0.5), 0.25, 0.5, "layercam", "true")),
            "wrong predictions with 25 to 50% of Layer-CAM for the true class in the box from 10 to 40% across "
            "and 20 to 50% down",
        ),
        (
            (WRONG, RegionContrast(PRESETS["bottom_left"], 0.1, None, "pred", "layercam", "pred")),
            "wrong predictions with at least 10 points more of Grad-CAM than of Layer-CAM in the lower left corner",
        ),
        (
            (Not(RegionContrast(PRESETS["border"], 0.055, None, "pred", "gradcam", "true")),),
            "samples without at least 5.5 points more of Grad-CAM for the predicted class than of Grad-CAM for the true "
            "class in the border",
        ),
        ((Is("degenerate", True),), "samples whose Grad-CAM map is empty"),
        ((Is("labelled", False),), "samples without a label"),
    ],
)  # fmt: skip
def test_sentences(conditions: tuple[Condition, ...], sentence: str) -> None:
    assert Filter(conditions).sentence(MANIFEST) == sentence


@pytest.mark.parametrize(
    "condition",
    [
        OneOf("pred", ("lynx",)), OneOf("pred", ("crane",)), OneOf("pred", (17,)), OneOf("label", (-1,)),
        OneOf("label", (1.5,)), OneOf("nothing", ("a",)), OneOf("border_mass", (0.5,)), OneOf("confidence", ("a",)),
        OneOf("meta.camera", (3,)), OneOf("correct", (1,)), Range("meta.camera", 1), Range("pred", 1),
        Range("confidence", "a"), Range("nothing", 1), Range("confidence", 0.5, target="pred"),
        Range("border_mass", 1, method="lime"), Range("border_mass", 1, target="both"), Range("degenerate", 0, 1),
        Is("confidence", True), Is("correct", True, target="pred"), Is("degenerate", True, method="x"),
        Text("confidence", "1"), Text("pred", "wolf"), RegionMass(PRESETS["border"], 0.1, method="lime"),
        RegionMass(PRESETS["border"], 0.1, target="top"), RegionContrast(PRESETS["border"], 0.1, "lime", "pred", None, "pred"),
        RegionContrast(PRESETS["border"], 0.1, None, "pred", "gradcam", "pred"),
        RegionContrast(PRESETS["border"], 0.1, "gradcam", "pred", "gradcam", "top"), Not(Is("nothing", True)),
        Range('confidence" > 0 OR 1=1 --', 0.1), OneOf("sample_id; DROP TABLE samples", ("x",)),
        Range("border_mass", 0.1, method='gradcam/pred" JOIN samples --'),
    ],
)  # fmt: skip
def test_what_the_run_does_not_have_is_one_sentence(condition: Condition) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(Filter((condition,)), MANIFEST)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    # The sentence of a filter that does not fit can still be written.
    assert Filter((condition,)).sentence(MANIFEST)


def test_a_shared_name_is_refused_with_the_indices() -> None:
    with pytest.raises(FilterError, match="2 or 3"):
        compile_filter(Filter((OneOf("pred", ("crane",)),)), MANIFEST)
    compiled = compile_filter(Filter((OneOf("pred", (3,)),)), MANIFEST)
    assert list(compiled.params.values()) == [3]


def test_a_run_without_attributions_says_so() -> None:
    with pytest.raises(FilterError, match="no attributions yet"):
        compile_filter(Filter((CORNER,)), replace(MANIFEST, methods={}, default_method=""))


def test_metadata_that_differs_in_case_only_is_offered_once() -> None:
    meta = [{"name": "meta.Site", "type": "text"}, {"name": "meta.site", "type": "text"}]
    manifest = replace(MANIFEST, meta=meta)
    compile_filter(Filter((OneOf("meta.Site", ("x",)),)), manifest)
    with pytest.raises(FilterError):
        compile_filter(Filter((OneOf("meta.site", ("x",)),)), manifest)


def test_what_a_compiled_filter_needs() -> None:
    filter_ = Filter(
        (CORNER, Range("border_mass", 0.1), Range("border_mass", 0.1, method="layercam", target="true"))
    )
    compiled = compile_filter(filter_, MANIFEST)
    assert {(s.method, s.target) for s in compiled.sources} == {("gradcam", "pred"), ("layercam", "true")}
    assert [(r.source.method, r.region) for r in compiled.regions] == [("gradcam", PRESETS["bottom_left"])]
    assert "0.1" not in compiled.where_sql, "values are bound, never written into the statement"


@pytest.mark.parametrize(
    "build",
    [
        lambda: OneOf("pred", ()), lambda: OneOf("pred", (float("nan"),)), lambda: OneOf("pred", (True,)),
        lambda: OneOf("pred", (10**400,)), lambda: OneOf("sample_id", ("x" * 5_000,)), lambda: OneOf("x", ([],)),
        lambda: OneOf("sample_id", ("\ud800",)), lambda: Range("confidence"), lambda: Range("confidence", 0.5, 0.1),
        lambda: Range("confidence", float("inf")), lambda: Range("meta.taken", "2024", 3), lambda: Text("sample_id", ""),
        lambda: RegionMass(PRESETS["border"]), lambda: RegionMass(PRESETS["border"], 1.5),
        lambda: RegionMass(PRESETS["border"], "a"), lambda: Is("correct", 1), lambda: AnyOf(()), lambda: AllOf(()),
        lambda: Filter((Is("correct", True),) * 101), lambda: RegionContrast(PRESETS["border"], -0.1, "a"),
        lambda: RegionContrast(PRESETS["border"], 1.1, "a"), lambda: RegionContrast(PRESETS["border"], float("nan"), "a"),
        lambda: RegionContrast(PRESETS["border"], True, "a"), lambda: RegionContrast(PRESETS["border"], 0.1),
        lambda: RegionContrast(PRESETS["border"], 10**400, "a"), lambda: RegionContrast(PRESETS["border"], "a", "a"),
    ],
)  # fmt: skip
def test_conditions_that_mean_nothing_are_refused(build: object) -> None:
    with pytest.raises(FilterError):
        build()  # type: ignore[operator]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
words = st.sampled_from(["in", "range", "is", "has", "mass", "more", "reviewed", "any", "all", "not"])
near_misses = st.tuples(words, st.lists(json_values, max_size=5)).map(lambda t: [t[0], *t[1]])
fields_of_runs = st.sampled_from(
    ["confidence", "pred", "correct", "meta.taken", "border_mass", "sample_id", "x'"]
)
nearer_misses = st.tuples(words, fields_of_runs, st.lists(json_values, max_size=4)).map(
    lambda t: [t[0], t[1], *t[2]]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(json_values, st.lists(st.one_of(near_misses, nearer_misses), min_size=1, max_size=2)))
def test_nonsense_in_a_link_is_one_sentence_or_a_filter_that_runs(catalog: Catalog, data: object) -> None:
    text = json.dumps({"v": 1, "all": data})
    try:
        filter_ = Filter.from_param(text)
        queries.count(catalog, filter_)
    except FilterError as error:
        message = str(error)
    else:
        assert Filter.from_param(filter_.to_param()) == filter_
        message = "."
    assert message.endswith(".")
    assert "\n" not in message


@settings(max_examples=100)
@given(st.text())
def test_any_text_in_a_link_is_one_sentence(text: str) -> None:
    message = "."
    try:
        Filter.from_param(text)
    except FilterError as error:
        message = str(error)
    assert message.endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        "{", "null", "[]", "1' OR '1'='1", '{"v":1}', '{"v":1,"all":{}}', '{"v":1,"all":[],"more":1}', '{"v":true,"all":[]}',
        '{"v":1,"all":[["range","confidence",NaN]]}', '{"v":1,"all":[["range","confidence",1e999]]}', "[" * 100_000,
        "[" * 90_000, '{"v":1,"all":[' + '["not",' * 40 + '["is","correct",true]' + "]" * 41 + "}", "x" * 200_000,
        '{"v":1,"all":[["in","sample_id",["\\ud800"]]]}',
    ],
)  # fmt: skip
def test_damaged_links(text: str) -> None:
    with pytest.raises(FilterError):
        Filter.from_param(text)


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(FilterError, match="version 2"):
        Filter.from_param('{"v":2,"all":[]}')


def test_a_filter_names_no_more_regions_than_a_page_can_keep() -> None:
    boxes = [Region.box(0, 0, (i + 1) / 20, 1) for i in range(17)]
    most = Filter(tuple(RegionMass(box, 0.1) for box in boxes[:16]))
    assert Filter.from_param(most.to_param()) == most
    # The same region asked for twice is read once.
    assert Filter((*most.conditions, Not(RegionMass(boxes[0], 0.9))))
    for more in (
        RegionMass(boxes[16], 0.1),
        Not(AnyOf((RegionMass(boxes[0], 0.1, None, "layercam"),))),
        RegionContrast(boxes[0], 0.1, None, "pred", "layercam", "pred"),
    ):
        with pytest.raises(FilterError, match="more than 16 regions"):
            Filter((*most.conditions, more))


def test_sql_in_values_is_only_a_value(catalog: Catalog) -> None:
    for text in ("'; DROP TABLE samples; --", '" OR 1=1 --', "\x00", "💥", "%", "_", "\\"):
        assert queries.count(catalog, Filter((OneOf("sample_id", (text,)),))).n == 0
        queries.count(catalog, Filter((Text("sample_id", text),)))
    assert queries.count(catalog, Filter()).n == 260
