"""`explain` from end to end: what it writes, what it reuses, and what it refuses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cache.errors import (
    ConfigError,
    DatasetError,
    LayerError,
    MethodError,
    ModelError,
    RunMismatchError,
    RunStorageError,
)
from cache.maps import decode_map, grid_of, summed_area
from cache.run import Run
from cache.schema import CORNERS
from engine.explain import Summary, explain
from tests.engine.audits import (
    CLASSES,
    FACTORY,
    assert_same_rows,
    config,
    draw,
    tables,
    write_factory,
    write_images,
)

ALL = ("cam", "gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "eigencam")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_factory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(images: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    explain(config(images, out, model))
    return out


def forward_passes(summary: Summary) -> int:
    return summary.counts.explained + summary.counts.completed


def test_every_image_has_its_rows(run: Path, images: Path) -> None:
    found, manifest = tables(run), Run.open(run).manifest
    samples = found["samples"]
    assert list(samples["sample_id"]) == sorted(
        p.relative_to(images).as_posix() for p in images.rglob("*.png")
    )
    assert manifest.classes == list(CLASSES)
    assert manifest.state == "complete"
    assert manifest.progress.done == manifest.progress.planned == 30
    # The network sees the true colour; every fifth image is filed under another class.
    wrong = samples[~samples["correct"].astype(bool)]
    assert len(wrong) == 6
    assert ((samples["pred"] == samples["label"]) == samples["correct"]).all()
    for method in ALL:
        rows = found[f"attributions/{method}"]
        expected = {(c, p) for c, p in zip(samples["content"], samples["pred"], strict=True)}
        expected |= {(c, t) for c, t in zip(samples["content"], samples["label"], strict=True)}
        assert {*zip(rows["content"], rows["target"], strict=True)} == expected
        assert len(rows) == 36
    assert len(found["embeddings"]) == 30


def test_rows_hold_what_the_network_says(run: Path, images: Path, model: str) -> None:
    namespace: dict[str, object] = {}
    exec(FACTORY, namespace)
    network = namespace["network"]().eval()  # type: ignore[operator]
    samples = tables(run)["samples"].set_index("sample_id")
    for path in list(images.rglob("*.png"))[:8]:
        row = samples.loc[path.relative_to(images).as_posix()]
        x = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            p = torch.softmax(network((x - 0.5) / 0.25).double(), 1)[0].numpy()
        order = np.argsort(-p)
        assert row["pred"] == order[0]
        np.testing.assert_allclose(row["confidence"], p[order[0]], rtol=1e-5)
        np.testing.assert_allclose(row["margin"], p[order[0]] - p[order[1]], atol=1e-6)
        np.testing.assert_allclose(row["loss"], -np.log(p[row["label"]]), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(row["entropy"], -(p * np.log(p)).sum() / np.log(3), rtol=1e-4, atol=1e-6)
        assert list(row["top_classes"]) == list(order)
        assert (row["width"], row["height"], row["crop_x1"]) == (32, 32, 32)


def test_maps_statistics_and_grid_belong_together(run: Path) -> None:
    rows = tables(run)["attributions/gradcam"]
    for _, row in rows.iterrows():
        attribution = decode_map(bytes(row["map"]), row["scale"], row["height"], row["width"])
        assert attribution.shape == (8, 8)
        p = grid_of(attribution)
        if row["degenerate"]:
            assert p is None
            assert pd.isna(row[CORNERS[0]])
            continue
        np.testing.assert_allclose(row[list(CORNERS)].to_numpy(float), summed_area(p), atol=2e-3)
        np.testing.assert_allclose(row["mass_total"], np.maximum(attribution, 0).sum(), rtol=2e-3)


def test_the_same_command_again_computes_nothing(run: Path, images: Path, model: str, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    summary = explain(config(images, copy, model))
    assert forward_passes(summary) == 0
    assert summary.counts.kept == 30
    assert_same_rows(copy, run)


def test_adding_a_method_computes_only_it(images: Path, model: str, run: Path, tmp_path: Path) -> None:
    explain(config(images, tmp_path / "run", model, methods="gradcam,layercam"))
    before = Run.open(tmp_path / "run").manifest.parts
    summary = explain(config(images, tmp_path / "run", model, methods="gradcam,layercam,eigencam"))
    after = Run.open(tmp_path / "run").manifest.parts
    assert summary.counts.completed == 30
    assert summary.counts.explained == 0
    assert all(after[table] == parts for table, parts in before.items() if table != "agreement")
    expected = tables(run)["attributions/eigencam"]
    pd.testing.assert_frame_equal(
        tables(tmp_path / "run")["attributions/eigencam"], expected, rtol=1e-4, atol=1e-5
    )


def test_changed_parameters_replace_the_maps(images: Path, model: str, tmp_path: Path) -> None:
    explain(config(images, tmp_path / "run", model, methods="gradcam,eigencam"))
    old = tables(tmp_path / "run")
    summary = explain(config(images, tmp_path / "run", model, methods="gradcam,eigencam(center=true)"))
    new = tables(tmp_path / "run")
    assert summary.counts.completed == 30
    pd.testing.assert_frame_equal(old["attributions/gradcam"], new["attributions/gradcam"])
    assert len(new["attributions/eigencam"]) == len(old["attributions/eigencam"]) == 36
    assert not np.allclose(old["attributions/eigencam"]["entropy"], new["attributions/eigencam"]["entropy"])
    assert Run.open(tmp_path / "run").manifest.methods["eigencam"]["parameters"] == {"center": True}


def test_new_images_are_added_changed_ones_superseded_gone_ones_removed(
    images: Path, model: str, tmp_path: Path
) -> None:
    data = tmp_path / "images"
    shutil.copytree(images, data)
    out = tmp_path / "run"
    explain(config(data, out, model))
    generator = np.random.default_rng(99)
    changed, gone = sorted(data.rglob("*.png"))[3], sorted(data.rglob("*.png"))[7]
    draw(generator, 0).save(changed)
    gone.unlink()
    draw(generator, 1).save(data / "green" / "new.png")
    summary = explain(config(data, out, model))
    assert summary.counts.explained == 2
    assert summary.counts.kept == 28
    assert summary.removed == 1
    explain(config(data, tmp_path / "fresh", model))
    assert_same_rows(out, tmp_path / "fresh", orphans=True)


def test_moving_and_relabelling_copy_rows(images: Path, model: str, tmp_path: Path) -> None:
    data = tmp_path / "images"
    shutil.copytree(images, data)
    out = tmp_path / "run"
    explain(config(data, out, model))
    samples = tables(out)["samples"].set_index("sample_id")
    right = samples.index[samples["correct"].astype(bool)][:4]
    wrong = samples.index[~samples["correct"].astype(bool)][:3]
    for sample_id in right:  # moved within the class: nothing to compute
        (data / sample_id).rename((data / sample_id).with_name("moved-" + Path(sample_id).name))
    for sample_id in wrong:  # filed where the network puts it: its map is known
        target = data / CLASSES[samples.loc[sample_id, "pred"]] / ("righted-" + Path(sample_id).name)
        (data / sample_id).rename(target)
    summary = explain(config(data, out, model))
    assert forward_passes(summary) == 0
    assert summary.counts.copied == 7
    assert summary.removed == 7
    explain(config(data, tmp_path / "fresh", model))
    assert_same_rows(out, tmp_path / "fresh", orphans=True)


def test_swapped_files_and_a_new_label_need_no_new_row(images: Path, model: str, tmp_path: Path) -> None:
    data, out = tmp_path / "images", tmp_path / "run"
    shutil.copytree(images, data)
    explain(config(data, out, model))
    a, b = sorted((data / "red").glob("*.png"))[:2]
    a.rename(data / "kept.tmp")
    b.rename(a)
    (data / "kept.tmp").rename(b)
    relabelled = sorted((data / "green").glob("*.png"))[1]
    relabelled.rename(data / "blue" / relabelled.name)
    summary = explain(config(data, out, model))
    assert summary.counts.explained == 0
    assert summary.counts.completed <= 1  # the map of the new label, if it had none
    explain(config(data, tmp_path / "fresh", model))
    assert_same_rows(out, tmp_path / "fresh", orphans=True)


def test_images_with_the_same_bytes_are_explained_once(images: Path, model: str, tmp_path: Path) -> None:
    data, out = tmp_path / "images", tmp_path / "run"
    shutil.copytree(images, data)
    first = sorted((data / "red").glob("*.png"))[0]
    shutil.copy(first, data / "red" / "twin.png")
    shutil.copy(first, data / "blue" / "twin.png")
    summary = explain(config(data, out, model))
    found = tables(out)
    assert len(found["samples"]) == 32
    assert summary.counts.explained == 30
    assert not found["attributions/gradcam"].duplicated(["content", "target"]).any()
    twins = found["samples"][found["samples"]["sample_id"].str.contains("twin")]
    assert twins["content"].nunique() == 1
    held = set(found["attributions/gradcam"].query(f"content == '{twins['content'].iloc[0]}'")["target"])
    assert held >= {int(t) for t in twins["label"]}


def test_many_copies_of_one_bad_file_take_no_more_passes_than_two(
    images: Path, model: str, tmp_path: Path
) -> None:
    generations = []
    for copies in (2, 24):
        data, out = tmp_path / f"images{copies}", tmp_path / f"run{copies}"
        shutil.copytree(images, data)
        for i in range(copies):
            (data / "red" / f"page-{i}.png").write_bytes(b"<html>not found</html>")
        summary = explain(config(data, out, model, methods="gradcam"))
        assert summary.counts.failed == {"not_an_image": copies}
        generations.append(Run.open(out).manifest.generation)
    assert generations[0] == generations[1]


def test_pipes_loops_and_lines_of_pixels_are_recorded_and_the_rest_goes_on(
    images: Path, model: str, tmp_path: Path
) -> None:
    data = tmp_path / "images"
    shutil.copytree(images, data)
    os.mkfifo(data / "red" / "pipe.png")
    (data / "red" / "zero.png").symlink_to("/dev/zero")
    (data / "red" / "loop.png").symlink_to(data / "red" / "loop.png")
    Image.new("RGB", (1, 120_000)).save(data / "red" / "line.png")
    summary = explain(config(data, data / "run", model, methods="gradcam"))
    errors = tables(data / "run")["errors"].set_index("sample_id")
    assert summary.counts.explained == 30
    assert {i: errors.loc[f"red/{i}.png", "kind"] for i in ("pipe", "zero", "line")} == {
        "pipe": "unreadable",
        "zero": "unreadable",
        "line": "too_large",
    }
    # The run lies inside its dataset and is no part of it.
    assert forward_passes(explain(config(data, data / "run", model, methods="gradcam"))) == 0


def test_copies_of_an_image_whose_thumbnail_was_lost(images: Path, model: str, tmp_path: Path) -> None:
    data, out = tmp_path / "images", tmp_path / "run"
    shutil.copytree(images, data)
    first = sorted((data / "red").glob("*.png"))[0]
    shutil.copy(first, data / "red" / "twin.png")
    explain(config(data, out, model, methods="gradcam"))
    Path(Run.open(out).part_paths("thumbnails")[0]).unlink()
    explain(config(data, out, model, methods="gradcam"))
    assert len(tables(out)["samples"]) == 31  # which looks every thumbnail up


def test_a_network_that_turns_gradients_off(images: Path, model: str, tmp_path: Path) -> None:
    frozen = with_forward(
        "with torch.no_grad():\n            return self.fc(self.relu(self.features(x)).mean((2, 3)))"
    )
    summary = explain(config(images, tmp_path / "run", write_factory(tmp_path, frozen), limit=6))
    explain(config(images, tmp_path / "plain", model, limit=6))
    assert summary.counts.explained == 6
    assert_same_rows(tmp_path / "run", tmp_path / "plain")


def test_the_current_folder_as_run(
    images: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    explain(config(images, Path("."), model, methods="gradcam"))
    with pytest.raises(RunMismatchError, match=r"--out \S*here-2"):
        explain(config(images, Path("."), model, methods="gradcam", mean="0.1"))


def test_the_default_method_belongs_to_the_run(images: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    explain(config(images, out, model, methods="layercam"))
    explain(config(images, out, model, methods="gradcam"))
    assert Run.open(out).manifest.default_method == "layercam"
    for methods in ("layercam", "eigencam", "layercam", "eigencam", "gradcam"):
        last = explain(config(images, out, model, methods=methods))
    assert forward_passes(last) == 0
    assert len(tables(out)["embeddings"]) == 30


def test_metadata_may_change_its_type(images: Path, model: str, tmp_path: Path) -> None:
    paths = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))[:9]
    rows = pd.DataFrame({"path": paths, "label": [p.split("/")[0] for p in paths], "site": range(9)})
    rows.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "run"
    explain(config(tmp_path / "table.csv", out, model, data_root=str(images), methods="gradcam"))
    rows["site"] = rows["site"].astype(str)
    rows.loc[3, "site"] = "unknown"
    rows.to_csv(tmp_path / "table.csv", index=False)
    for options in ({"limit": 4}, {}, {}):
        explain(
            config(tmp_path / "table.csv", out, model, data_root=str(images), methods="gradcam", **options)
        )
    assert list(tables(out)["samples"].set_index("sample_id").loc[paths, "meta.site"]) == list(rows["site"])


def test_a_part_of_the_dataset_cannot_have_other_parameters(
    run: Path, images: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    with pytest.raises(RunMismatchError, match=r"eigencam with other parameters.*leave --limit out"):
        explain(config(images, out, model, methods="eigencam(center=true)", limit=5))
    assert_same_rows(out, run)


def test_a_limit_is_a_choice_that_grows(images: Path, model: str, tmp_path: Path) -> None:
    chosen = []
    for number, limit in enumerate((6, 12)):
        explain(config(images, tmp_path / f"run{number}", model, methods="gradcam", limit=limit))
        chosen.append(set(tables(tmp_path / f"run{number}")["samples"]["sample_id"]))
    assert len(chosen[0]) == 6
    assert chosen[0] < chosen[1]
    assert len({i.split("/")[0] for i in chosen[1]}) == 3


def test_a_network_that_fails_in_the_middle_is_one_sentence(images: Path, tmp_path: Path) -> None:
    breaking = with_forward(
        "assert True\n        if x.mean() < -0.5 and self.training is False and len(x) == 8:\n"
        "            raise RuntimeError('weights ran away\\nhere')\n"
        "        return self.fc(self.relu(self.features(x)).mean((2, 3)))"
    )
    with pytest.raises(ModelError, match=r"failed on a batch of 8 images \(weights ran away\)"):
        explain(config(images, tmp_path / "run", write_factory(tmp_path, breaking)))


def test_boxes_are_compared_with_what_the_map_localises(images: Path, model: str, tmp_path: Path) -> None:
    paths = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))[:6]
    rows = pd.DataFrame({"path": paths, "label": [p.split("/")[0] for p in paths]})
    rows["x0"], rows["y0"], rows["x1"], rows["y1"] = 0, 0, 32, 16
    rows.to_csv(tmp_path / "table.csv", index=False)
    explain(config(tmp_path / "table.csv", tmp_path / "run", model, data_root=str(images), methods="gradcam"))
    found = tables(tmp_path / "run")
    np.testing.assert_allclose(np.stack(found["samples"]["boxes"].to_list()), [[0, 0, 1, 0.5]] * 6)
    maps = found["attributions/gradcam"].query("not degenerate")
    np.testing.assert_allclose(maps["mass_inside"], maps["sat_07_14"], atol=1e-4)
    assert maps["localization_iou"].notna().all()


def test_a_lost_part_is_computed_again(run: Path, images: Path, model: str, tmp_path: Path) -> None:
    for number, table in enumerate(("samples", "thumbnails", "attributions/gradcam", "embeddings")):
        out = tmp_path / f"run{number}"
        shutil.copytree(run, out)
        Path(Run.open(out).part_paths(table)[0]).unlink()
        explain(config(images, out, model))
        assert_same_rows(out, run, orphans=True) if table != "samples" else _assert_complete(out, run)


def _assert_complete(out: Path, run: Path) -> None:
    pd.testing.assert_frame_equal(tables(out)["samples"], tables(run)["samples"], rtol=1e-4, atol=1e-5)
    assert len(tables(out)["attributions/gradcam"]) == len(tables(run)["attributions/gradcam"])


@pytest.mark.parametrize(
    "options", [{"batch_size": 1}, {"batch_size": 32, "workers": 3}, {"publish_every": 0.001}], ids=str
)
def test_rows_do_not_depend_on_how_the_work_was_cut(
    run: Path, images: Path, model: str, tmp_path: Path, options: dict[str, float]
) -> None:
    explain(config(images, tmp_path / "run", model, **options))
    assert_same_rows(tmp_path / "run", run)


def test_targets_top_and_named(images: Path, model: str, tmp_path: Path) -> None:
    explain(config(images, tmp_path / "run", model, methods="gradcam", targets="top:2,red", limit=6))
    found = tables(tmp_path / "run")
    for _, row in found["samples"].iterrows():
        held = found["attributions/gradcam"].query(f"content == '{row['content']}'")["target"]
        assert set(held) == {int(t) for t in row["top_classes"][:2]} | {2}
    summary = explain(
        config(images, tmp_path / "run", model, methods="gradcam", targets="pred,true,top:3", limit=6)
    )
    assert summary.counts.explained == 0
    held = tables(tmp_path / "run")["attributions/gradcam"]
    assert len(held) == 18
    with pytest.raises(ConfigError, match="top:9 is not possible"):
        explain(config(images, tmp_path / "x", model, targets="top:9"))
    with pytest.raises(ConfigError, match="did you mean red"):
        explain(config(images, tmp_path / "x", model, targets="reed"))


def test_broken_images_are_recorded_and_mended_ones_explained(
    images: Path, model: str, tmp_path: Path
) -> None:
    data, out = tmp_path / "images", tmp_path / "run"
    shutil.copytree(images, data)
    whole = sorted((data / "red").glob("*.png"))[0].read_bytes()
    (data / "red" / "empty.png").write_bytes(b"")
    (data / "red" / "short.png").write_bytes(whole[: len(whole) // 2])
    (data / "red" / "text.png").write_bytes(b"this is no image")
    (data / "red" / "secret.png").symlink_to(data / "red" / "nowhere.png")
    summary = explain(config(data, out, model))
    errors = tables(out)["errors"].set_index("sample_id")
    assert dict(errors["kind"]) == {
        "red/empty.png": "empty",
        "red/short.png": "truncated",
        "red/text.png": "not_an_image",
        "red/secret.png": "gone",
    }
    assert summary.counts.explained == 30
    assert (errors["label"] == 2).all()
    assert Run.open(out).manifest.progress.failed == 4
    (data / "red" / "short.png").write_bytes(whole[:-1] + whole[-1:])
    (data / "red" / "text.png").unlink()
    explain(config(data, out, model))
    found = tables(out)
    assert set(found["errors"]["sample_id"]) == {"red/empty.png", "red/secret.png"}
    assert "red/short.png" in set(found["samples"]["sample_id"])


def test_a_file_that_breaks_loses_its_row_one_that_vanishes_keeps_it(
    images: Path, model: str, tmp_path: Path
) -> None:
    data, out = tmp_path / "images", tmp_path / "run"
    shutil.copytree(images, data)
    paths = sorted(p.relative_to(data).as_posix() for p in data.rglob("*.png"))
    table = tmp_path / "table.csv"
    pd.DataFrame({"path": paths, "label": [p.split("/")[0] for p in paths]}).to_csv(table, index=False)
    explain(config(table, out, model, data_root=str(data)))
    (data / paths[0]).write_bytes(b"broken now")
    (data / paths[1]).unlink()
    explain(config(table, out, model, data_root=str(data)))
    found = tables(out)
    assert dict(found["errors"].set_index("sample_id")["kind"]) == {
        paths[0]: "not_an_image",
        paths[1]: "gone",
    }
    assert set(found["samples"]["sample_id"]) == set(paths) - {paths[0]}


def test_a_table_with_metadata_masks_and_without_some_labels(
    images: Path, model: str, tmp_path: Path
) -> None:
    paths = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))[:9]
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rows = pd.DataFrame({"path": paths, "label": [p.split("/")[0] for p in paths]})
    rows["camera"], rows["exposure"], rows["outdoors"] = (
        ["A", "B", None] * 3,
        np.arange(9) / 2,
        [True, False, True] * 3,
    )
    rows["mask"] = [str(tmp_path / "mask.png")] * 8 + [None]
    rows.loc[2, "label"] = None
    rows.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "run"
    summary = explain(config(tmp_path / "table.csv", out, model, data_root=str(images)))
    found = tables(out)
    samples = found["samples"].set_index("sample_id")
    assert list(samples.loc[paths, "meta.camera"].fillna("-")) == ["A", "B", "-"] * 3
    assert list(samples.loc[paths, "meta.exposure"]) == list(np.arange(9) / 2)
    assert pd.isna(samples.loc[paths[2], "label"])
    assert pd.isna(samples.loc[paths[2], "loss"])
    assert summary.labelled == 8
    bits = np.unpackbits(np.frombuffer(samples.loc[paths[0], "mask"], np.uint8)).reshape(56, 56)
    assert bits[:28].all()
    assert not bits[28:].any()
    assert pd.isna(samples.loc[paths[8], "mask"])
    grids = found["attributions/gradcam"].set_index("content")
    row = grids.loc[[samples.loc[paths[0], "content"]]].iloc[0]
    if not row["degenerate"]:
        np.testing.assert_allclose(row["mass_inside"], row["sat_07_14"], atol=1e-4)
    # Another value in the table rewrites the row and computes nothing.
    rows.loc[0, "camera"] = "C"
    rows.to_csv(tmp_path / "table.csv", index=False)
    again = explain(config(tmp_path / "table.csv", out, model, data_root=str(images)))
    assert (forward_passes(again), again.counts.copied, again.counts.kept) == (0, 1, 8)
    assert tables(out)["samples"].set_index("sample_id").loc[paths[0], "meta.camera"] == "C"


def test_an_unlabelled_folder(images: Path, model: str, tmp_path: Path) -> None:
    summary = explain(config(images, tmp_path / "run", model, unlabelled=True, methods="gradcam"))
    samples = tables(tmp_path / "run")["samples"]
    assert samples["label"].isna().all()
    assert samples["correct"].isna().all()
    assert summary.accuracy is None


SCALAR = FACTORY.replace("self.fc = nn.Linear(6, 3)", "self.fc = nn.Linear(6, 1)").replace(
    "torch.cat([torch.eye(3), -torch.eye(3)], 1)", "torch.tensor([[-1.0, 0, 1, 1, 0, -1]])"
)


def test_a_network_with_one_logit_and_one_with_one_channel(tmp_path: Path) -> None:
    data = tmp_path / "images"
    generator = np.random.default_rng(3)
    for i in range(12):
        path = data / ("blue", "red")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(generator, (2, 0)[i % 2]).save(path)
    model = write_factory(tmp_path, SCALAR.replace('["blue", "green", "red"]', '["blue", "red"]'))
    summary = explain(config(data, tmp_path / "binary", model))
    assert summary.accuracy == 1.0
    assert set(tables(tmp_path / "binary")["attributions/gradcam"]["target"]) == {0, 1}
    grey = (
        FACTORY.replace("nn.Conv2d(3, 6, 4", "nn.Conv2d(1, 6, 4")
        .replace(
            "torch.rand(6, 3, 4, 4, generator=generator) * 0.02",
            "torch.rand(6, 1, 4, 4, generator=generator)",
        )
        .replace("weight[k, 2 - k] += 0.1", "pass")
        .replace("weight[3 + k, 2 - k] -= 0.1", "pass")
        .replace('"mean": 0.5', '"channels": 1, "mean": 0.5')
    )
    (tmp_path / "grey").mkdir()
    explain(config(data, tmp_path / "run-grey", write_factory(tmp_path / "grey", grey), methods="gradcam"))
    assert Run.open(tmp_path / "run-grey").manifest.preprocessing["channels"] == 1


def test_a_run_of_another_model_preprocessing_or_dataset_is_refused(
    run: Path, images: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (tmp_path / "other").mkdir()
    other = write_factory(tmp_path / "other", FACTORY.replace("* 0.02", "* 0.03"))
    with pytest.raises(RunMismatchError, match=r"audits another model.*--out .*run-2"):
        explain(config(images, out, other))
    with pytest.raises(RunMismatchError, match=r"another preprocessing \(mean \[0.5"):
        explain(config(images, out, model, mean="0.1"))
    elsewhere = write_images(tmp_path / "elsewhere", 6)
    for path in list(elsewhere.rglob("*.png")):
        path.rename(path.with_name("other-" + path.name))
    with pytest.raises(RunMismatchError, match="audits another dataset"):
        explain(config(elsewhere, out, model))
    assert_same_rows(out, run)
    assert Run.open(out).manifest.generation == Run.open(run).manifest.generation


def test_methods_that_the_network_cannot_take_are_left_out_by_name(images: Path, tmp_path: Path) -> None:
    headless = FACTORY.replace(".mean((2, 3)))", ".amax((2, 3)))")
    model = write_factory(tmp_path, headless)
    summary = explain(config(images, tmp_path / "run", model, limit=6))
    assert any(notice.startswith("CAM is left out") for notice in summary.notices)
    assert "attributions/cam" not in Run.open(tmp_path / "run").manifest.parts
    with pytest.raises(MethodError, match="None of the methods can explain"):
        explain(config(images, tmp_path / "run2", model, methods="cam", limit=6))
    assert not (tmp_path / "run2").exists()


def test_coinciding_methods_are_said(run: Path) -> None:
    manifest = Run.open(run).manifest
    assert set(manifest.methods["gradcam"]["equivalent"]) == {"cam", "xgradcam", "hirescam"}
    assert any("coincide up to scale" in notice for notice in manifest.notices)


def with_forward(body: str) -> str:
    return FACTORY.replace("return self.fc(self.relu(self.features(x)).mean((2, 3)))", body)


def test_scores_that_are_not_finite(images: Path, tmp_path: Path) -> None:
    always = with_forward("return self.fc(self.relu(self.features(x)).mean((2, 3))) * float('nan')")
    with pytest.raises(ModelError, match=r"(?i)nan|finite"):
        explain(config(images, tmp_path / "run", write_factory(tmp_path, always), limit=6))
    assert not (tmp_path / "run").exists()
    sometimes = with_forward(
        "z = self.fc(self.relu(self.features(x)).mean((2, 3)));"
        " return torch.where((x.mean((1, 2, 3)) < -0.5)[:, None] & (z.argmax(1) == 2)[:, None], torch.nan, z)"
    )
    (tmp_path / "b").mkdir()
    summary = explain(config(images, tmp_path / "run", write_factory(tmp_path / "b", sometimes)))
    assert summary.counts.failed["not_finite"] == 10
    assert len(tables(tmp_path / "run")["samples"]) == 20
    assert set(tables(tmp_path / "run")["errors"]["stage"]) == {"predict"}


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"target_layer": "features.9"}, LayerError, "features"),
        ({"target_layer": "fc"}, LayerError, "spatial|shape"),
        ({"methods": "gradcamm"}, MethodError, "did you mean gradcam"),
        ({"methods": "eigencam(centre=true)"}, MethodError, "has no parameter"),
        ({"checkpoint": "missing.pt"}, ModelError, "missing.pt"),
        ({"device": "cuda:7"}, ConfigError, "cuda:7"),
        ({"class_map": "missing.csv"}, ConfigError, "missing.csv"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_options_are_one_sentence(
    images: Path, model: str, tmp_path: Path, options: dict[str, str], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        explain(config(images, tmp_path / "run", model, **options))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_dataset_that_the_model_does_not_know(tmp_path: Path, model: str) -> None:
    data = write_images(tmp_path / "images", 6)
    (data / "red").rename(data / "purple")
    with pytest.raises(DatasetError, match="purple"):
        explain(config(data, tmp_path / "run", model))
    with pytest.raises(DatasetError, match="no dataset"):
        explain(config(tmp_path / "missing", tmp_path / "run", model))
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunStorageError, match="is a file"):
        explain(config(write_images(tmp_path / "good", 6), tmp_path / "file", model))


def test_nothing_can_be_explained(tmp_path: Path, model: str) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / "red").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "red" / name).write_bytes(b"")
    with pytest.raises(ModelError, match=r"None of the 2 images could be explained \(2 empty\)"):
        explain(config(tmp_path / "images", tmp_path / "run", model))
