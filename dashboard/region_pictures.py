"""Regions as pictures: the path of their shape, and small drawings that a page shows as images."""

from __future__ import annotations

import base64

from cache.regions import Region
from dashboard.components.region_picker import cells_of


def region_path(region: Region, side: float) -> str:
    """Return the area that a region covers as an SVG path over a square; a mask as the rectangles it is painted of."""
    if region.kind == "polygon":
        return "M" + "L".join(f"{side * x:.2f} {side * y:.2f}" for x, y in region.points) + "Z"
    boxes = cells_of(region) if region.kind == "mask" else [[v for point in region.points for v in point]]
    return "".join(
        f"M{side * x0:.2f} {side * y0:.2f}H{side * x1:.2f}V{side * y1:.2f}H{side * x0:.2f}Z"
        for x0, y0, x1, y1 in boxes
    )


def svg_url(content: str, side: float) -> str:
    """Return an SVG drawing over a square, stretched to where it is shown, as a data URL: pages take no SVG of their own."""
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side:g} {side:g}" preserveAspectRatio="none">'
        f"{content}</svg>"
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def region_outline(region: Region) -> str:
    """Return an image element that draws a region over a picture: its edge, or a veil over the cells of a mask."""
    path = region_path(region, 100)
    if region.kind == "mask":
        drawn = f'<path d="{path}" fill="#ffffff" fill-opacity=".28"/>'
    else:
        drawn = "".join(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" vector-effect="non-scaling-stroke"/>'
            for colour, width in (("#0a0e14", 4), ("#ffffff", 2))
        )
    return (
        f'<img src="{svg_url(drawn, 100)}" alt="" style="position:absolute;inset:0;width:100%;height:100%">'
    )
