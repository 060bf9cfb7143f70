"""Labels meet outputs by name or index, and a sentence says what to do where they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cache.errors import ConfigError, DatasetError
from engine.datasets import Dataset
from engine.labels import imagenet_classes, match_labels, read_class_map, read_classes
from tests.seeding import rng


def dataset(labels: list[str | None], *, indices: bool = False, classes: list[str] | None = None) -> Dataset:
    count = len(labels)
    ids = pa.array([f"{i}.png" for i in range(count)])
    records = pa.table({"sample_id": ids, "uri": ids, "label": pa.array(labels, pa.string())})
    return Dataset("a test", "", "table", records, labels_are_indices=indices, classes=classes)


def test_exact_names_in_any_order() -> None:
    data = dataset(["wolf", None, "husky", "wolf", "fox"])
    match = match_labels(data, 4, ["fox", "wolf", "cat", "husky"])
    assert match.indices == {"fox": 0, "wolf": 1, "husky": 3}
    assert match.classes == ["fox", "wolf", "cat", "husky"]
    assert match.notices == []
    column = match.label_indices(data)
    assert column.type == pa.int32()
    assert column.to_pylist() == [1, None, 3, 1, 0]


def test_names_that_differ_in_case_spaces_and_underscores_match_with_a_notice() -> None:
    match = match_labels(
        dataset(["Great_White  shark", "house-finch"]), 2, ["house finch", "great white shark"]
    )
    assert match.indices == {"Great_White  shark": 1, "house-finch": 0}
    assert "house-finch → house finch" in match.notices[0]
    both = match_labels(dataset(["Cardigan"]), 2, ["cardigan", "Cardigan"])
    assert both.indices == {"Cardigan": 1}  # an exact match needs no other


def test_name_that_two_outputs_share_is_refused_with_their_indices() -> None:
    names = imagenet_classes()
    assert len(names) == 1000
    with pytest.raises(DatasetError, match=r"'crane' fits 2 outputs .*134 or 517"):
        match_labels(dataset(["crane", "tench"]), 1000, names)
    with pytest.raises(DatasetError, match="638 or 639"):
        match_labels(dataset(["maillot"]), 1000, names)
    with pytest.raises(DatasetError, match="264 or 474"):
        match_labels(dataset(["CARDIGAN"]), 1000, names)
    with pytest.raises(DatasetError, match="'a' fits 3 outputs of the model \\(0 or 2 or 3\\)"):
        match_labels(dataset(["a"]), 4, ["a", "b", "a", "a"])
    match = match_labels(dataset(["crane", "tench"]), 1000, names, {"crane": 517})
    assert match.indices == {"crane": 517, "tench": 0}
    with pytest.raises(DatasetError, match="134 or 517"):
        match_labels(dataset(["bird"]), 1000, names, {"bird": "crane"})


def test_unknown_names_are_listed_with_close_ones() -> None:
    with pytest.raises(DatasetError) as caught:
        match_labels(dataset(["wolff", "Husk", "zebra", "emu", "fox"]), 3, ["wolf", "husky", "fox"])
    text = str(caught.value)
    assert "'Husk', 'emu', 'wolff' and 1 more" in text
    assert "close: husky, wolf" in text
    assert "--class-map" in text


def test_integers_are_output_indices() -> None:
    labels = [str(v) for v in rng.integers(0, 12, 50)]
    data = dataset(labels, indices=True)
    match = match_labels(data, 12)
    assert match.label_indices(data).to_pylist() == [int(v) for v in labels]
    assert match.classes == [str(i) for i in range(12)]
    assert match_labels(data, 12, [*"abcdefghijkl"]).classes == [*"abcdefghijkl"]
    with pytest.raises(DatasetError, match=r"'-1', '12', '13' and 1 more .* 0 to 11"):
        match_labels(dataset(["13", "12", "-1", "3", "99"], indices=True), 12)
    assert match_labels(dataset(["24", "3"], indices=True), 12, None, {"24": 2}).indices == {"3": 3, "24": 2}


def test_folder_order_where_the_model_names_nothing() -> None:
    names = [str(i) for i in range(12)]
    data = dataset(names, classes=sorted(names))
    match = match_labels(data, 12)
    assert match.indices["2"] == sorted(names).index("2") == 4  # as torchvision's ImageFolder: text order
    assert match.classes == sorted(names)
    assert "0 = 0, 1 = 1, 10 = 2" in match.notices[0]
    assert match_labels(data, 12, names).indices["2"] == 2  # names, once known, win
    with pytest.raises(DatasetError, match="12 classes"):
        match_labels(data, 10)
    partly = dataset(["b"], classes=["a", "b"])
    assert match_labels(partly, 2).indices == {"b": 1}


def test_names_in_a_table_are_never_put_in_order_by_themselves() -> None:
    with pytest.raises(DatasetError, match="names none of its 2 classes"):
        match_labels(dataset(["a", "b"]), 2)


def test_unlabelled_data_need_no_match() -> None:
    data = dataset([None, None])
    match = match_labels(data, 3)
    assert match.indices == {}
    assert match.classes == ["0", "1", "2"]
    assert match.label_indices(data).to_pylist() == [None, None]


def test_class_map_to_names_indices_and_nothing() -> None:
    data = dataset(["n01", "n02", "n03", "fox"])
    match = match_labels(
        data, 3, ["wolf", "fox", "cat"], {"n01": "WOLF", "n02": 2, "n03": None, "other": "x"}
    )
    assert match.indices == {"n01": 0, "n02": 2, "n03": None, "fox": 1}
    assert match.label_indices(data).to_pylist() == [0, 2, None, 1]
    assert match_labels(dataset(["a"]), 3, None, {"a": "2"}).indices == {"a": 2}
    assert match_labels(dataset(["a"]), 3, None, {"a": "2"}).classes == ["0", "1", "a"]
    assert match_labels(dataset(["a"]), 2, ["2", "1"], {"a": "2"}).indices == {"a": 0}  # a name wins


def test_class_map_that_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"output 3, .* 0 to 2"):
        match_labels(dataset(["a"]), 3, ["x", "y", "z"], {"a": 3})
    with pytest.raises(ConfigError, match=r"no class of the model \(close: wolf\)"):
        match_labels(dataset(["a"]), 2, ["wolf", "fox"], {"a": "wolv"})
    with pytest.raises(ConfigError, match="names no classes"):
        match_labels(dataset(["a"]), 2, None, {"a": "wolf"})
    with pytest.raises(DatasetError, match="'b'"):
        match_labels(dataset(["a", "b"]), 2, None, {"a": 1})
    with pytest.raises(ConfigError, match="3 outputs but 2 class names"):
        match_labels(dataset(["a"]), 3, ["a", "b"])


def test_class_files(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("\ufeffwolf \nfox\nsnow leopard\n\n", encoding="utf-8")
    assert read_classes(str(file)) == ["wolf", "fox", "snow leopard"]
    assert read_classes("imagenet")[:2] == ["tench", "goldfish"]
    file.write_text("wolf\n\nfox\n")
    with pytest.raises(ConfigError, match="empty line 2"):
        read_classes(str(file))
    file.write_bytes(b"\n\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_classes(str(file))
    file.write_bytes("é".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        read_classes(str(file))
    with pytest.raises(ConfigError, match="There is no file"):
        read_classes(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="is a folder"):
        read_classes(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", "label,class\nn01,wolf\nn02,2\nn03,\n"),
        ("map.csv", 'n01,wolf\n"n02",2\n\nn03,\n'),
        ("map.json", json.dumps({"n01": "wolf", "n02": 2, "n03": None})),
        ("map.toml", 'n01 = "wolf"\nn02 = 2\nn03 = ""\n'),
    ],
)
def test_class_map_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    read = read_class_map(str(tmp_path / name))
    assert {k: str(v) if v is not None else None for k, v in read.items()} == {
        "n01": "wolf",
        "n02": "2",
        "n03": None,
    }
    indices = match_labels(dataset(["n01", "n02", "n03"]), 3, ["fox", "wolf", "cat"], read).indices
    assert indices == {"n01": 1, "n02": 2, "n03": None}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("map.json", "{", "not valid JSON"),
        ("map.toml", "a = ", "not valid TOML"),
        ("map.json", "[1, 2]", "empty"),
        ("map.json", '{"a": 1.5}', "class name or an output index"),
        ("map.json", '{"a": true}', "class name or an output index"),
        ("map.csv", "a,b,c\n", "3 fields"),
        ("map.csv", "", "has no bytes"),
        ("map.csv", "label,class\n", "empty"),
        ("map.csv", "a," + "x" * 200_000, "no CSV of labels and classes: field larger"),
        ("map.json", "[" * 100_000, "not valid JSON: it is nested too deeply"),
        ("map.json", '{"a": ' + "1" * 5_000 + "}", "a number of thousands of digits"),
        ("map.toml", "a = " + "[" * 100_000, "not valid TOML: it is nested too deeply"),
    ],
)
def test_wrong_class_map_files(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_class_map(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_class_map_that_is_a_folder_and_files_that_start_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"--class-map .* is a folder: give a file"):
        read_class_map(str(tmp_path))
    (tmp_path / "names.txt").write_text("fox\nwolf\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_classes("~/names.txt") == ["fox", "wolf"]


def test_numbers_that_are_too_long_to_read_are_no_outputs() -> None:
    long = "1" * 5_000
    data = dataset(["1", long, "0"], indices=True)
    assert data.labels() == [long, "0", "1"]
    with pytest.raises(DatasetError, match=r"The labels '1+\.\.\.1+' are no outputs") as caught:
        match_labels(data, 3, ["fox", "wolf", "cat"])
    assert len(str(caught.value)) < 400
    with pytest.raises(ConfigError, match=r"to output '1.*1', but the outputs are 0 to 2"):
        match_labels(dataset(["a"]), 3, ["fox", "wolf", "cat"], {"a": long})
