from __future__ import annotations

import re

import numpy as np
import pytest

from cache.agreement import AgreementMatrix
from cache.filters import Filter, Is
from dashboard.agreement_figure import agreement_figure, arranged, marks, same_words
from dashboard.figures import DARK, LIGHT, Look
from dashboard.method_choice import by_family, family_titles
from tests.dashboard.conftest import MANY, OpenPage, texts
from tests.seeding import rng

WRONG = Filter((Is("correct", False),))


def matrix(n: int) -> AgreementMatrix:
    values = np.corrcoef(rng.normal(size=(n, 6)))
    return AgreementMatrix(tuple("abcdefghijklmnopqrstuvwxyz"[:n]), values, np.full((n, n), 9), 9, 9)


def test_the_page_says_what_it_rests_on(open_page: OpenPage) -> None:
    app = open_page("methods", run="many")
    assert not app.exception
    said = texts(app)
    assert "all 40 samples" in said
    assert "≡ Grad\\-CAM and HiRes\\-CAM coincide" in said
    table = app.dataframe[0].value
    assert set(table["Method"]) >= {"LIME", "Saliency", "Grad-CAM"}
    assert table["Agreement"].is_monotonic_increasing
    assert len(table) == len(MANY)
    wrong = open_page("methods", run="many", filter=WRONG.to_param(), target="true")
    assert not wrong.exception
    assert "for the true class" in texts(wrong)


def test_the_choice_of_methods_stands_in_the_url(open_page: OpenPage) -> None:
    app = open_page("methods", run="many", show="gradcam,lime")
    assert len(app.dataframe[0].value) == 2
    assert "coincide" not in texts(app)
    app.button(key="methods_show_none").click().run()
    assert app.query_params["show"] == "none"
    assert "No method is chosen" in app.info[0].value
    one = open_page("methods", run="many", show="lime")
    assert not one.exception
    assert "Choose another method" in texts(one)


def test_runs_without_labels_and_empty_selections_have_a_page(open_page: OpenPage) -> None:
    app = open_page("methods", run="unlabelled")
    assert not app.exception
    nothing = Filter((Is("correct", True), Is("correct", False)))
    assert "No image meets all of this" in texts(open_page("methods", run="many", filter=nothing.to_param()))


@pytest.mark.parametrize("look", [LIGHT, DARK])
@pytest.mark.parametrize("n", [2, 8, 20])
def test_the_matrix_tells_its_numbers(n: int, look: Look) -> None:
    told = matrix(n)
    titles = {m: f"<b>{m}" for m in told.methods}
    groups = [("a", "b"), *((m,) for m in told.methods[2:])]
    figure = agreement_figure(told, titles, dict.fromkeys(titles, "x"), groups, look)
    cells = np.array(figure.data[1].text).reshape(n, n)
    for i in range(n):
        for j in range(n):
            if i == j:
                assert cells[i, j] == ""
            elif i + j == 1:
                assert cells[i, j] == "≡"
            else:
                assert float(cells[i, j].replace("−", "-")) == pytest.approx(told.mean[i, j], abs=0.0051)
    assert "<b>" not in "".join(figure.layout.xaxis.ticktext)
    assert figure.layout.width < 980
    assert re.search(r"a ≡$", figure.layout.yaxis.ticktext[0])


def test_the_same_evidence_is_marked_and_told() -> None:
    groups = [("a", "c"), ("b",), ("d", "e", "f")]
    assert arranged(groups) == list("acbdef")
    assert marks(groups) == {"a": "≡¹", "c": "≡¹", "d": "≡²", "e": "≡²", "f": "≡²"}
    words = same_words(groups, dict(zip("abcdef", "ABCDEF", strict=True)))
    assert words.startswith("≡¹ A and C; ≡² D, E and F coincide")
    assert same_words([("a",)], {"a": "A"}) == ""


def test_families_come_in_their_order() -> None:
    from cache.manifest import Manifest

    families = {"x": "perturbation", "y": "activation", "z": "odd", "w": ""}
    described = Manifest("x", methods={name: {"family": family} for name, family in families.items()})
    assert by_family(described, described.methods) == {
        "Activation": ["y"],
        "Perturbation": ["x"],
        "Odd": ["z"],
        "Other": ["w"],
    }
    assert family_titles(described)["x"] == "Perturbation"
