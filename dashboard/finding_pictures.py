"""Where a finding's images look, as pictures: their mean map over their mean image, beside the rest of the class."""

from __future__ import annotations

import html

import streamlit as st

from cache import held
from cache.fields import class_title
from cache.filters import Filter
from cache.findings import Finding
from cache.queries import MeanMap
from cache.regions import Region, percent
from dashboard.data import ask
from dashboard.finding_words import class_of, region_of, rest_of_class
from dashboard.method_choice import method_title
from dashboard.region_canvas import heat_url, photo_url, view_size
from dashboard.region_pictures import region_outline
from dashboard.session import PageContext

FEW = 30
"""Below so many maps a mean says little."""


def pictures(context: PageContext, finding: Finding) -> None:
    """Draw the mean map of the finding's images and that of the rest of its class, with its region on both."""
    name = class_title(context.manifest.classes, finding.class_index)
    region, rest = region_of(finding), rest_of_class(finding)
    sides = [("This finding", finding.filter)]
    sides.append(
        ("Everything called " + name, class_of(finding))
        if rest is None
        else (f"The rest called {name}", rest)
    )
    means = [ask(context.catalog, held.mean_map, filter_, context.method, "pred") for _, filter_ in sides]
    figures = [
        _figure(context, title, filter_, mean, region)
        for (title, filter_), mean in zip(sides, means, strict=True)
        if mean.p is not None
    ]
    title = method_title(context.manifest, context.method)
    if not figures:
        st.caption(f"No image of it has a {title} map with positive attribution.")
        return
    st.html(f'<div class="gl-pair">{"".join(figures)}</div>')
    st.caption(_words(title, region, means))


def _figure(context: PageContext, title: str, filter_: Filter, mean: MeanMap, region: Region | None) -> str:
    assert mean.p is not None
    pixels = view_size(context)
    photo, averaged = ask(context.catalog, photo_url, filter_, pixels)
    inside = "" if region is None else f" · {percent(float((mean.p * region.coverage()).sum()))}% in the box"
    alt = f"{title}: mean attention of {mean.n:,} maps over the mean of {averaged:,} images"
    layers = "".join(
        f'<img src="{url}" alt="{html.escape(words)}">' for url, words in ((photo, alt), (heat_url(mean.p, pixels), ""))
        if url
    )  # fmt: skip
    outline = "" if region is None else region_outline(region)
    return (
        f'<figure><div class="gl-view" style="aspect-ratio:{pixels[0]} / {pixels[1]}">{layers}{outline}</div>'
        f"<figcaption><b>{html.escape(title)}</b><br><span>{mean.n:,} maps{inside}</span></figcaption></figure>"
    )


def _words(title: str, region: Region | None, means: list[MeanMap]) -> str:
    told = f"Mean {title} over the mean image, each scaled to its own maximum."
    if region is None:
        told += " It has no region of its own, so that the mean says little of a single image."
    few = [mean.n for mean in means if 0 < mean.n < FEW]
    if few:
        told += f" Only {min(few)} maps on one side: a mean of so few may be chance."
    return told
