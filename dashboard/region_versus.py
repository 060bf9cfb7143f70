"""Right against wrong: where the model looks when it is right, when it is wrong, and what the difference is."""

from __future__ import annotations

import html

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from cache import held
from cache.filters import Filter, Is
from cache.queries import MeanMap
from cache.regions import Region, percent
from dashboard.data import ask
from dashboard.method_choice import method_title
from dashboard.notices import plain
from dashboard.region_pictures import region_outline
from dashboard.rendering import (
    AGAINST,
    COLOURS,
    FOR,
    SIGNED_COLOURS,
    ZERO,
    Pixels,
    data_url,
    image_bytes,
)
from dashboard.session import PageContext

FEW = 30
"""Below so many maps a mean says little, and the page says so."""
DRAWN = 196


def scaled_pixels(values: NDArray[np.float64], largest: float, signed: bool) -> Pixels:
    """Colour a grid on a scale that several pictures share.

    Args:
        values: Shape (h, w).
        largest: What the end of the scale stands for, above 0.
        signed: Whether the scale runs from −largest (blue) over 0 (white) to largest (red).

    Returns:
        RGB, drawn large and smooth.
    """
    smooth = Image.fromarray((values / largest).astype(np.float32)).resize(
        (DRAWN, DRAWN), Image.Resampling.BICUBIC
    )
    at = np.asarray(smooth)
    if signed:
        return np.asarray(SIGNED_COLOURS[np.rint(ZERO + (255 - ZERO) * np.clip(at, -1, 1)).astype(np.intp)])
    return np.asarray(COLOURS[np.rint(255 * np.clip(at, 0, 1)).astype(np.intp)])


def versus(context: PageContext, filter_: Filter, region: Region | None) -> None:
    """Draw the mean maps of the right and of the wrong predictions of the selection, and their difference."""
    with st.container(border=True, key="region_versus"):
        st.subheader("Right against wrong")
        if filter_.get("correct") is not None:
            st.caption(
                "The filter keeps right or wrong predictions only: drop that condition to compare them."
            )
            return
        sides = [
            ask(context.catalog, held.mean_map, Filter((*filter_.conditions, Is("correct", value))), context.method, context.target)
            for value in (True, False)
        ]  # fmt: skip
        right, wrong = sides
        if right.p is None or wrong.p is None:
            st.caption(_missing(right, wrong))
            return
        title = method_title(context.manifest, context.method)
        top = float(max(right.p.max(), wrong.p.max()))
        difference = wrong.p - right.p
        most = float(np.abs(difference).max()) or 1.0
        right_url, wrong_url, difference_url = (
            data_url(image_bytes(scaled_pixels(values, end, signed), quality=90))
            for values, end, signed in (
                (right.p, top, False),
                (wrong.p, top, False),
                (difference, most, True),
            )
        )
        where = _place(difference)
        size = context.manifest.preprocessing.get("size") or [1, 1]
        aspect = f"{float(size[1])} / {float(size[0])}"
        st.html(
            '<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1.1rem;max-width:1150px">'
            + _figure(right_url, "✓ Right", f"{right.n:,} maps", f"Mean {title} of {right.n:,} right predictions", region, aspect, "var(--gl-right)")
            + _figure(wrong_url, "✗ Wrong", f"{wrong.n:,} maps", f"Mean {title} of {wrong.n:,} wrong predictions", region, aspect, "var(--gl-wrong)")
            + _figure(
                difference_url, "Wrong − right", f"up to {100 * most:.1f} points a cell",
                f"Difference of the two: wrong predictions look more {where}", region, aspect, "currentColor",
            )
            + "</div>"
            f'<div style="display:flex;gap:.5rem;align-items:center;font-size:.84rem;margin-top:.5rem"><span>more when right</span>'
            f'<span style="width:9rem;height:.6rem;border-radius:.3rem;background:linear-gradient(90deg,{AGAINST},#f4f4f4,{FOR})">'
            "</span><span>more when wrong</span></div>"
        )  # fmt: skip
        st.caption(_words(right, wrong, region, where))


def _figure(
    url: str, title: str, note: str, alt: str, region: Region | None, aspect: str, colour: str
) -> str:
    shape = "" if region is None else region_outline(region)
    return (
        f'<figure style="margin:0"><div style="position:relative;aspect-ratio:{aspect};overflow:hidden;border-radius:8px">'
        f'<img src="{url}" alt="{html.escape(alt)}" style="width:100%;height:100%;object-fit:fill;display:block">{shape}</div>'
        f'<figcaption style="font-size:.88rem;margin-top:.3rem"><b style="color:{colour}">{title}</b> '
        f'<span style="opacity:.7">{note}</span></figcaption></figure>'
    )


def _missing(right: MeanMap, wrong: MeanMap) -> str:
    if not right.n and not wrong.n:
        return "Without labels nobody knows what is right: there is nothing to compare."
    return f"No {'right' if not right.n else 'wrong'} prediction of this selection has such a map: there is nothing to compare."


def _place(difference: NDArray[np.float64]) -> str:
    """Say where wrong predictions look more, in words."""
    row, column = np.unravel_index(int(difference.argmax()), difference.shape)
    down = ("at the top", "in the middle", "at the bottom")[min(int(3 * row / difference.shape[0]), 2)]
    across = ("left", "centre", "right")[min(int(3 * column / difference.shape[1]), 2)]
    return f"{down}, {across}"


def _words(right: MeanMap, wrong: MeanMap, region: Region | None, where: str) -> str:
    assert right.p is not None
    assert wrong.p is not None
    told = [f"Wrong predictions look more {where}; both maps share one scale."]
    if region is not None:
        shares = [float((side.p * region.coverage()).sum()) for side in (right, wrong) if side.p is not None]
        told.append(
            f"In {plain(region.sentence())}: {percent(shares[0])}% of the attention when right, {percent(shares[1])}% when "
            f"wrong ({100 * (shares[1] - shares[0]):+.1f} points)."
        )
    few = [f"{side.n:,} {name}" for side, name in ((right, "right"), (wrong, "wrong")) if side.n < FEW]
    if few:
        told.append(f"There are only {' and '.join(few)} ones, so that the difference may be chance.")
    return " ".join(told)
