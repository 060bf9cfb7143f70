"""From samples to the tiles of a gallery: pictures, maps and what stands under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cache import profiles
from cache.catalog import Catalog
from cache.fields import class_title
from cache.manifest import Manifest
from cache.review_events import Subject
from dashboard.components.gallery import EncodedMap, Gallery, Group, Reviewing, Tile, encoded_all
from dashboard.data import ask
from dashboard.method_choice import family_titles, method_title, source_of_url
from dashboard.ordering import percent_text
from dashboard.rendering import PALETTE, data_url
from dashboard.reviewing import badge_of, marks_of
from dashboard.session import PageContext, links_to_samples

MANY_METHODS = 9
"""Methods whose maps a gallery of many samples carries, one a digit; those of others come when they are asked for."""
TILE_COLUMNS = (
    "sample_id",
    "content",
    "label",
    "pred",
    "correct",
    "confidence",
    "thumbnail_part",
    "thumbnail_row",
)
"""Columns of samples that `sample_gallery` reads."""
Row = Mapping[str, Any]
Place = tuple[str, str | None, int | None]
"""A sample's id, and the part and row of its thumbnail."""


def outcome_mark(correct: bool | None) -> tuple[str, str]:
    """Return the sign and colour that tell right from wrong; the sign alone is enough."""
    if correct is None:
        return "–", PALETTE.neutral
    return ("✓", PALETTE.right) if correct else ("✗", PALETTE.wrong)


def outcome_texts(classes: Sequence[str], row: Row) -> tuple[str, str]:
    """Say what a sample is, and what it was taken for where that is something else."""
    predicted = class_title(classes, row["pred"])
    if row["correct"] is False:
        return class_title(classes, row["label"]), f"→ {predicted}"
    return predicted, ""


def outcome_words(classes: Sequence[str], row: Row) -> str:
    """Describe a sample's picture for those who do not see it."""
    predicted = class_title(classes, row["pred"])
    sure = "" if row["confidence"] is None else f", {percent_text(row['confidence'])} sure"
    if row["correct"] is None:
        return f"{row['sample_id']}: predicted {predicted}{sure}"
    if row["correct"]:
        return f"{row['sample_id']}: {predicted}, predicted rightly{sure}"
    return f"{row['sample_id']}: {class_title(classes, row['label'])}, wrongly predicted {predicted}{sure}"


def gallery_methods(context: PageContext) -> list[tuple[str, str]]:
    """Return the name and title of the methods that a gallery offers."""
    return [(name, method_title(context.manifest, name)) for name in context.manifest.methods]


def carried_methods(context: PageContext) -> tuple[str, ...]:
    """Return the methods whose maps a gallery of many samples carries; the current one is always among them."""
    names = list(context.manifest.methods)[:MANY_METHODS]
    current, _ = source_of_url(context)
    if current and current not in names:
        names[-1] = current
    return tuple(names)


def is_signed(manifest: Manifest, method: str) -> bool:
    """Tell whether a method's maps speak against a class as well as for it."""
    return bool(manifest.methods.get(method, {}).get("signed"))


def encoded_maps(
    catalog: Catalog, sample_ids: tuple[str, ...], methods: tuple[str, ...], target: str
) -> dict[str, dict[str, EncodedMap | None]]:
    """Return every sample's maps as the browser draws them, by sample and method."""
    found: dict[str, dict[str, EncodedMap | None]] = {sample_id: {} for sample_id in sample_ids}
    for method, maps in profiles.maps_by_method(catalog, sample_ids, methods, target).items():
        drawn = encoded_all(maps, is_signed(catalog.manifest, method))
        for sample_id in sample_ids:
            found[sample_id][method] = drawn.get(sample_id)
    return found


def pictures(catalog: Catalog, places: tuple[Place, ...]) -> dict[str, str]:
    """Return thumbnails as URLs."""
    return {key: data_url(image) for key, image in profiles.thumbnails_at(catalog, places).items()}


def pictures_of(catalog: Catalog, rows: Sequence[Row]) -> dict[str, str]:
    """Return the thumbnails of samples as URLs by their ids; rows as in `sample_gallery`."""
    places = tuple((str(row["sample_id"]), row["thumbnail_part"], row["thumbnail_row"]) for row in rows)
    return ask(catalog, pictures, places)


def without_confidence(gallery: Gallery) -> Gallery:
    """Return a gallery of small pictures, whose captions have room for what an image is and not for how sure the model was."""
    groups = [
        replace(group, tiles=[replace(tile, value="") for tile in group.tiles]) for group in gallery.groups
    ]
    return replace(gallery, groups=groups)


def sample_gallery(
    context: PageContext,
    rows: Sequence[Row],
    note: Callable[[Row], str] | None = None,
    reviewing: Reviewing | None = None,
    **params: Any,
) -> Gallery:
    """Return a gallery of samples.

    Args:
        context: The page's context.
        rows: Rows of `cache.queries.page`, or dictionaries with the columns `TILE_COLUMNS`.
        note: What stands in the second line; the sample's id where it is None.
        reviewing: What reviewing in the gallery needs; None where its tiles are only opened.
        params: More parameters of the links to the samples' pages.
    """
    classes = context.manifest.classes
    ids = tuple(str(row["sample_id"]) for row in rows)
    methods = gallery_methods(context)
    maps = ask(context.catalog, encoded_maps, ids, carried_methods(context), context.target)
    images = pictures_of(context.catalog, rows)
    size = context.manifest.preprocessing.get("size") or [1, 1]
    said = marks_of(context.catalog, [Subject.sample(row["content"]) for row in rows])
    told = [outcome_texts(classes, row) for row in rows]
    tiles = [
        Tile(
            id=str(row["sample_id"]),
            image=str(row["sample_id"]),
            text=what,
            then=then,
            alt=outcome_words(classes, row),
            href=href,
            maps=maps[str(row["sample_id"])] if methods else None,
            mark=outcome_mark(row["correct"]),
            value="" if row["confidence"] is None else percent_text(row["confidence"]),
            note=note(row) if note else str(row["sample_id"]),
            title=str(row["sample_id"]),
            badge=badge_of(said[Subject.sample(row["content"])]),
            ratio=size[1] / size[0],
        )
        for row, (what, then), href in zip(rows, told, links_to_samples(ids, **params), strict=True)
    ]
    return Gallery(
        [Group(tiles)],
        images,
        methods,
        context.manifest.default_method,
        families=family_titles(context.manifest),
        partial=len(methods) > MANY_METHODS,
        reviewing=reviewing,
    )
