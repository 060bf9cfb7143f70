"""Methods: where each of them says that the model looked on a selection, and how far they agree."""

from __future__ import annotations

import streamlit as st

from cache import held, queries
from cache.agreement import agreement_matrix
from cache.catalog import Catalog
from cache.evidence import same_evidence
from cache.filters import Filter
from cache.queries import MeanMap
from dashboard import attention
from dashboard.agreement_figure import agreement_figure, arranged, marks, same_words
from dashboard.components.chart import chart
from dashboard.components.gallery import Gallery, Group, Tile, encoded
from dashboard.data import ask
from dashboard.figures import look_of
from dashboard.filter_bar import filtered_maps
from dashboard.method_choice import (
    by_family,
    choose_methods,
    family_titles,
    method_title,
    source_pickers,
)
from dashboard.notices import AVERAGING, notices_of_run, plain, told
from dashboard.rendering import data_url, image_bytes
from dashboard.session import TARGETS, PageContext, link_to, open_page, page_context

SIDE = 192
CARD = 190


def show() -> None:
    """Draw the page."""
    context = page_context()
    filter_ = filtered_maps(context, "Methods", "compare")
    if filter_ is None:
        return
    labelled = ask(context.catalog, queries.count, filter_).labelled > 0
    _side_by_side(context, filter_, labelled)
    notices_of_run(context.manifest)


@st.fragment
@told()
def _side_by_side(context: PageContext, filter_: Filter, labelled: bool) -> None:
    """Everything that the choice of methods changes; a fragment, so that the filter bar stays as it is."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="methods_bar"):
        shown = choose_methods(context, "methods_show")
        _, target = source_pickers(context, "methods", "collapsed", method=False, target=labelled)
    if not shown:
        st.info("No method is chosen: choose some above.", icon=":material/checklist:")
        return
    groups = same_evidence(context.manifest, shown)
    with st.spinner(AVERAGING):
        # Beside an index there are files of the grids: a million maps are averaged out of them, not out of Parquet.
        mean_map = queries.mean_map if context.catalog.index is None else held.mean_map
        means = {name: ask(context.catalog, mean_map, filter_, name, target) for name in shown}
        agreement = ask(context.catalog, agreement_matrix, filter_, tuple(arranged(groups)), target)
    others = dict(zip(agreement.methods, agreement.with_the_others(groups), strict=True))
    _mean_maps(context, filter_, target, means, others, marks(groups))
    if len(shown) < 2:
        st.caption("Choose another method to see how far the two agree.")
        return
    st.subheader("Agreement between methods")
    of = "all" if agreement.samples == agreement.total else "an even choice of"
    st.caption(
        "Mean rank correlation of the two methods’ 14 × 14 grids on the same image and class, over "
        f"{of} {agreement.samples:,} {'samples' if agreement.samples == agreement.total else f'out of {agreement.total:,} samples'} "
        f"of the selection, for the {TARGETS[target].lower()}. 1: they rank the cells of the image alike; 0: they have "
        "nothing in common; below: where one looks the other does not."
    )
    titles = {name: method_title(context.manifest, name) for name in shown}
    same = same_words(groups, titles)
    if same:
        st.caption(plain(same))
    with st.container(horizontal=True, gap="large"):
        chart(
            agreement_figure(
                agreement, titles, family_titles(context.manifest), groups, look_of(st.context.theme.type)
            ),
            "methods_agreement",
            "Agreement between methods: rank correlations from −1 to 1",
        )
        _ranking(titles, others)


def _mean_maps(
    context: PageContext,
    filter_: Filter,
    target: str,
    means: dict[str, MeanMap],
    others: dict[str, float | None],
    marked: dict[str, str],
) -> None:
    size = context.manifest.preprocessing.get("size") or [1, 1]
    ratio = float(size[1]) / float(size[0])
    photo, averaged = ask(context.catalog, _photo, filter_, (SIDE, max(1, round(SIDE / ratio))))
    st.caption(
        f"The mean map of each method for the {TARGETS[target].lower()}, over the mean of {averaged:,} images: shares of the "
        "positive attribution, every map counting alike, each scaled to its own maximum. Click one to ask about regions."
    )
    groups = []
    for family, names in by_family(context.manifest, means).items():
        for number, name in enumerate(names):
            mean = means[name]
            title = method_title(context.manifest, name)
            agrees = others.get(name)
            # A line of its own where both do not stand in one: a card is narrow.
            empty = f", {mean.degenerate:,}\N{NO-BREAK SPACE}degenerate" if mean.degenerate else ""
            tile = Tile(
                name, "mean", f"{mean.n:,} maps{empty}", f"Mean {title} of {mean.n:,} maps",
                href=link_to("region", method=name), maps={name: encoded(mean.p)}, method=name, ratio=ratio,
                note="" if agrees is None else f"agreement {agrees:.2f}",
                title=f"{title}: ask about regions",
            )  # fmt: skip
            mark = f" {marked[name]}" if name in marked else ""
            groups.append(Group([tile], title + mark, "" if number else family))
    opened = Gallery(
        groups,
        {"mean": photo} if photo else {},
        [],
        context.manifest.default_method,
        toolbar=False,
        layout="cards",
        size=CARD,
        legend=True,
    ).mount("methods_means", context.method)
    if opened in means:
        open_page("region", method=opened)


def _photo(catalog: Catalog, filter_: Filter, size: tuple[int, int]) -> tuple[str, int]:
    """Return the mean image of a selection as a URL, and how many images it averages."""
    photo, averaged = attention.mean_photo(catalog, filter_, size)
    return "" if photo is None else data_url(image_bytes(photo)), averaged


def _ranking(titles: dict[str, str], others: dict[str, float | None]) -> None:
    """List the methods by how far they agree with the rest: those on their own come first."""
    rows = sorted(
        ((titles[name], value) for name, value in others.items() if value is not None), key=lambda row: row[1]
    )
    st.dataframe(
        {"Method": [title for title, _ in rows], "Agreement": [value for _, value in rows]},
        key="methods_ranking",
        hide_index=True,
        width=320,
        height="content",
        row_height=30,
        column_config={
            "Method": st.column_config.TextColumn(pinned=True),
            "Agreement": st.column_config.NumberColumn(
                help="Mean agreement with the other methods shown; those that are the same evidence count once, and a "
                "method’s own kind not at all.",
                format="%.2f",
                width=90,
            ),
        },
    )


show()
