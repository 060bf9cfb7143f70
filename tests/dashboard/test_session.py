from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cache.errors import ConfigError
from cache.filters import Filter, Is, OneOf, Range
from cache.run import Run
from cache.writer import RunWriter
from dashboard import data, sidebar
from dashboard.__main__ import FIRST_PAGES, checked_page
from dashboard.session import PAGES
from tests.dashboard.conftest import ROOT, OpenPage, texts
from tests.synthetic import make_run

WRONG = Filter((Is("correct", False),))


def test_without_a_run_the_page_says_what_to_type(open_page: OpenPage, tmp_path: Path) -> None:
    app = open_page("browse", folder=tmp_path, run=None)
    assert not app.exception
    assert "No run here yet" in texts(app)
    assert f"python -m engine explain --data DATA --model MODEL --out {tmp_path / 'first'}" in texts(app)


def test_the_default_run_is_the_one_changed_last_and_stands_in_the_url(
    open_page: OpenPage, tmp_path: Path
) -> None:
    for number, name in enumerate(("zebra", "ant", "bee")):
        make_run(tmp_path / name, samples=12, seed=number)
        os.utime(tmp_path / name / "run.json", (1_000 + (name == "ant"), 1_000 + (name == "ant")))
    app = open_page("browse", folder=tmp_path, run=None)
    assert app.query_params["run"] == "ant"


def test_a_link_to_a_run_that_is_not_there_offers_those_that_are(open_page: OpenPage) -> None:
    app = open_page("browse", run="gone")
    assert "No such run" in texts(app)
    assert "[animals](./?run=animals)" in texts(app)


def test_a_run_that_vanished_with_its_disk_is_told_from_no_run(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "a", samples=12)
    assert not open_page("browse", folder=tmp_path, run="a").exception
    shutil.rmtree(tmp_path / "a")
    app = open_page("browse", folder=tmp_path, run="a")
    assert not app.exception
    assert "not there any more" in texts(app)
    assert "connect that disk" in texts(app)


def test_parts_that_vanish_while_a_page_is_open_give_a_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "a", samples=60)
    assert not open_page("browse", folder=tmp_path, run="a").exception
    for part in (tmp_path / "a" / "thumbnails").glob("*.parquet"):
        part.unlink()
    app = open_page("browse", folder=tmp_path, run="a", page="2")
    assert not app.exception
    assert "damaged" in texts(app).lower()


def test_a_newer_schema_is_refused_in_words(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "a", samples=12)
    manifest = json.loads((tmp_path / "a" / "run.json").read_text())
    manifest["schema_version"] = 99
    (tmp_path / "a" / "run.json").write_text(json.dumps(manifest))
    app = open_page("browse", folder=tmp_path, run="a")
    assert not app.exception
    assert "written by another version" in texts(app)
    assert "upgrade Gazelake" in texts(app)


def test_a_damaged_manifest_is_told_in_words(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "a", samples=12)
    (tmp_path / "a" / "run.json").write_text("{")
    app = open_page("browse", folder=tmp_path, run="a")
    assert not app.exception
    assert "The run is damaged" in texts(app)


def test_a_missing_part_is_counted_and_the_rest_is_shown(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "a", samples=60, chunk=30)
    next((tmp_path / "a" / "attributions" / "gradcam").glob("*.parquet")).unlink()
    app = open_page("browse", folder=tmp_path, run="a")
    assert not app.exception
    assert "missing or damaged" in app.warning[0].value
    assert "**60** images" in texts(app)


def test_a_run_being_written_says_so_and_an_interrupted_one_too(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "a", samples=12)
    manifest = json.loads((tmp_path / "a" / "run.json").read_text())
    manifest["state"], manifest["progress"] = "running", {"planned": 40, "done": 12, "failed": 1}
    (tmp_path / "a" / "run.json").write_text(json.dumps(manifest))
    app = open_page("browse", folder=tmp_path, run="a")
    assert "interrupted after 12 of 40" in app.warning[0].value
    with RunWriter(tmp_path / "a", Run.open(tmp_path / "a").manifest):
        app = open_page("browse", folder=tmp_path, run="a")
        assert not app.warning
        assert "being written: 13 of 40" in str(app.get("progress")[0].proto.text)


def test_a_new_generation_appears_by_itself(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "a", samples=12, seed=1)
    assert "**12** images" in texts(open_page("browse", folder=tmp_path, run="a"))
    shutil.rmtree(tmp_path / "a")
    make_run(tmp_path / "a", samples=31, seed=2)
    assert "**31** images" in texts(open_page("browse", folder=tmp_path, run="a"))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"v":99,"all":[]}',
        '{"v":1,"all":[["in","pred",["dragon"]]]}',
        """{"v":1,"all":[["in","x'; DROP TABLE samples; --",["a"]]]}""",
        '{"v":1,"all":[["range","border_mass",0.2,null,"no-such-method","pred"]]}',
    ],
)
def test_nonsense_in_the_filter_is_a_sentence_and_the_page_works(open_page: OpenPage, text: str) -> None:
    app = open_page("browse", filter=text)
    assert not app.exception
    assert "was not applied" in app.warning[0].value
    assert "**150** images" in texts(app)
    app.button[0].click().run()
    assert "filter" not in app.query_params
    assert not app.warning


def test_nonsense_in_other_parameters_is_taken_as_nothing(open_page: OpenPage) -> None:
    app = open_page(
        "browse",
        method="x-ray",
        target="them",
        page="-3",
        sort="-nothing@x:y",
        per_page="1e9",
        opacity="loud",
        tile="9999",
    )
    assert not app.exception
    assert "no method named" in app.warning[0].value
    assert app.selectbox(key="sort_key").value == "sample_id"


def test_links_keep_the_run_and_the_filter(open_page: OpenPage) -> None:
    def page() -> None:
        import streamlit as st

        from cache.filters import Filter, OneOf
        from dashboard.session import link_to

        st.query_params.from_dict({"run": "a b", "filter": "f&1", "method": "layercam", "page": "3"})
        st.text(link_to("sample", id="x/ü&?#.jpg"))
        st.text(link_to("browse", filter=Filter((OneOf("split", ("a&b",)),)), method=None))
        st.text(link_to("overview", run=None, filter=None, method=None))

    from streamlit.testing.v1 import AppTest

    sample, browse, overview = (text.value for text in AppTest.from_function(page).run().text)
    assert sample == "sample?run=a+b&filter=f%261&method=layercam&id=x%2F%C3%BC%26%3F%23.jpg"
    assert browse.startswith("browse?run=a+b&filter=%7B%22v%22%3A1")
    assert "%22a%26b%22" in browse
    assert overview == "./"


def test_chips_say_the_filter_in_words_and_drop_it(open_page: OpenPage) -> None:
    chosen = WRONG.with_(OneOf("pred", ("wolf",))).with_(Range("confidence", 0.3))
    app = open_page("browse", filter=chosen.to_param())
    chips = [button.label for button in app.button if button.key and button.key.startswith("chip_")]
    assert [chip.replace("\\", "") for chip in chips] == [
        "that are predicted wrong",
        "predicted wolf",
        "with confidence at least 0.3",
        "Clear all",
    ]
    app.button(key="chip_1").click().run()
    assert Filter.from_param(app.query_params["filter"]) == chosen.without("pred")
    app.button(key="chip_all").click().run()
    assert "filter" not in app.query_params


def test_answers_are_kept_once_under_their_key_and_the_oldest_forgotten() -> None:
    answers, asked = data.Answers(2), []

    def compute(value: int) -> int:
        asked.append(value)
        return value

    for value in (1, 2, 1, 3, 1, 2):
        assert answers.get(value, lambda value=value: compute(value)) == value  # type: ignore[misc]
    assert asked == [1, 2, 3, 2]


def test_answers_may_be_asked_by_many_threads() -> None:
    answers = data.Answers(8)
    found: list[int] = []

    def ask() -> None:
        found.extend(answers.get(value % 16, lambda value=value: value % 16) for value in range(200))  # type: ignore[misc]

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [value % 16 for value in range(200)] * 8 or sorted(found) == sorted(
        [v % 16 for v in range(200)] * 8
    )


def test_one_run_can_be_served_by_itself(runs: Path) -> None:
    assert data.list_runs(runs / "animals") == {"animals": (runs / "animals").absolute()}
    assert set(data.list_runs(runs)) == {"animals", "many", "unlabelled", "audited"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/folder"], "does not exist"),
        ([str(ROOT / "pyproject.toml")], "is a file"),
        (["--port", "99999"], "is not a port"),
        (["--address", "203.0.113.7"], "cannot be used"),
    ],
)
def test_mistakes_of_the_command_line_are_one_sentence_with_exit_code_2(
    arguments: list[str], words: str
) -> None:
    command = [sys.executable, "-m", "dashboard", "serve", "--no-browser", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_the_pages_to_begin_with_are_those_of_the_menu() -> None:
    assert FIRST_PAGES == sidebar.MENU
    assert [PAGES[name].url_path for name in FIRST_PAGES] == [checked_page(name) for name in FIRST_PAGES]
    with pytest.raises(ConfigError, match="There is no page 'nowhere': choose overview, findings"):
        checked_page("nowhere")
