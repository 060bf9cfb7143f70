"""What the pages say when there is nothing to show, or not everything yet: what is going on, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import streamlit as st

from cache.catalog import Catalog
from cache.errors import GazelakeError, RunDamagedError, RunNotFoundError, RunSchemaError
from cache.filter_text import clause
from cache.filters import Filter
from cache.index import LARGE_RUN, WORTH_INDEXING
from cache.locations import Location
from cache.manifest import Manifest
from cache.run import Run
from dashboard.index_building import Building, building_of

REFRESH_SECONDS = 4
SHOWN_DAMAGED = 3
AVERAGING = "Averaging the maps … Of a large run this takes seconds a method, the first time."


def plain(text: object) -> str:
    """Return text that Markdown shows as it is: names may hold anything."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|$~:&" else c for c in str(text))


def _panel(icon: str, title: str) -> None:
    st.markdown(f"### :material/{icon}: {title}")


def no_runs(folder: Location) -> None:
    """Say that the served folder holds no run, and how to make one."""
    with st.container(key="notice"):
        _panel("water", "No run here yet")
        st.markdown(
            f"The dashboard looks for runs in **{plain(str(folder.absolute()))}**, and there is none. "
            "Make one, then reload this page:"
        )
        st.code(
            f"python -m engine explain --data DATA --model MODEL --out {folder / 'first'}", language="shell"
        )
        st.markdown("Or see a complete audit of drawn animals, data and model included:")
        st.code(f"python -m engine demo --out {folder / 'demo'}", language="shell")


def vanished(name: str, folder: Location) -> None:
    """Say that a run that the link names went away with its folder."""
    with st.container(key="notice"):
        _panel("cloud_off", "The run is not there any more")
        st.markdown(
            f"The run **{plain(name)}** was in **{plain(str(folder.absolute()))}**, which holds no run now. "
            "If it lies on another disk, connect that disk and reload this page; nothing here was changed."
        )


def unknown_run(name: str, links: Mapping[str, str]) -> None:
    """Say that the link names a run that is not in the folder, and offer those that are."""
    with st.container(key="notice"):
        _panel("search_off", "No such run")
        st.markdown(
            f"The link names the run **{plain(name)}**, which this dashboard does not have: it was moved, renamed, "
            "or lies on a disk that is not connected. It has:"
        )
        for run, url in links.items():
            st.markdown(f"- [{plain(run)}]({url})")


def unusable_run(error: GazelakeError) -> None:
    """Say why a run cannot be shown, and what to do."""
    titles: dict[type[GazelakeError], tuple[str, str]] = {
        RunNotFoundError: ("cloud_off", "The run is not there any more"),
        RunSchemaError: ("update", "The run was written by another version"),
        RunDamagedError: ("broken_image", "The run is damaged"),
    }
    icon, title = next(
        (told for kind, told in titles.items() if isinstance(error, kind)),
        ("error", "This cannot be shown"),
    )
    with st.container(key="notice"):
        _panel(icon, title)
        st.markdown(plain(error))
        if isinstance(error, RunNotFoundError):
            st.markdown("If it lies on another disk, connect that disk and reload this page.")


@contextmanager
def told() -> Iterator[None]:
    """Show a run's trouble in place of what could not be drawn; fragments need it, since they report their own errors."""
    try:
        yield
    except GazelakeError as error:
        unusable_run(error)


def no_samples(run: Run) -> None:
    """Say that a run has no samples yet."""
    with st.container(key="notice"):
        if run.manifest.state == "running":
            _panel("hourglass_top", "The first results are on their way")
            st.markdown("This page fills by itself as soon as the engine publishes the first images.")
        else:
            _panel("inbox", "This run has no samples")
            failed = run.manifest.progress.failed
            if failed:
                st.markdown(f"None of its {failed:,} images could be explained; list why with:")
                st.code(f"python -m engine errors {run.path}", language="shell")
            else:
                st.markdown("Run the `explain` command that started it again to fill it.")


def run_state(run: Run) -> None:
    """Tell of a run that is being written or was interrupted, and refresh the page when more is published."""
    manifest = run.manifest
    being_written = run.is_being_written()
    if being_written:
        progress = manifest.progress
        known = progress.done + progress.failed
        share = min(known / progress.planned, 1.0) if progress.planned else 0.0
        of = f" of {progress.planned:,}" if progress.planned else ""
        st.progress(
            share,
            f":material/hourglass_top: This run is being written: {known:,}{of} images so far; the page follows by itself.",
        )
        _follow(run)
    elif manifest.state != "complete":
        st.warning(
            f"This run was interrupted after {manifest.progress.done:,} of {manifest.progress.planned:,} images; "
            "run the same `explain` command again to complete it. What is shown here is sound.",
            icon=":material/pause_circle:",
        )
    if run.damaged:
        names = ", ".join(plain(name) for name in run.damaged[:SHOWN_DAMAGED])
        more = f" and {len(run.damaged) - SHOWN_DAMAGED} more" if len(run.damaged) > SHOWN_DAMAGED else ""
        st.warning(
            f"Files of this run are missing or damaged ({names}{more}), and what they held is not shown; "
            "run the same `explain` command again to compute it anew.",
            icon=":material/broken_image:",
        )


def no_index(catalog: Catalog) -> None:
    """Tell how a large run becomes fast where it has no index, or how far the index is that is being built."""
    if catalog.index is not None or catalog.samples < WORTH_INDEXING:
        return
    building = building_of(catalog.run)
    if building is not None and building.running:
        _follow_index(building, f"{catalog.samples:,}")
        return
    if catalog.samples < LARGE_RUN:
        return
    refusal = f" {plain(building.refusal)}" if building is not None else ""
    st.info(
        f"This run of {catalog.samples:,} images has no index, so that pages take seconds.{refusal} Build it once with "
        f"`python -m dashboard index {catalog.run.path}`; the page then uses it by itself.",
        icon=":material/bolt:",
    )


@st.fragment(run_every=REFRESH_SECONDS)
def _follow_index(building: Building, samples: str) -> None:
    if not building.running:
        st.rerun()
    st.progress(
        building.share,
        f":material/bolt: The index of these {samples} images is being built: pages take seconds until it is there, and then "
        "use it by themselves.",
    )


@st.fragment(run_every=REFRESH_SECONDS)
def _follow(run: Run) -> None:
    if not run.is_current() or not run.is_being_written():
        st.rerun()


def refused_filter(error: GazelakeError, on_drop: Callable[[], None]) -> None:
    """Say why the link's filter was not applied; the page goes on without it."""
    with st.container(key="refused_filter", horizontal=True, vertical_alignment="center"):
        st.warning(
            f"The filter in the link was not applied: {plain(error)} All samples are shown.",
            icon=":material/filter_alt_off:",
        )
        st.button("Drop it", on_click=on_drop)


def unknown_method(name: str, default: str) -> None:
    """Say that the link names a method the run does not have."""
    st.warning(
        f"This run has no method named {plain(name)}; {plain(default)} is shown instead.",
        icon=":material/help:",
    )


def empty_selection(
    chosen: Filter,
    manifest: Manifest,
    count: Callable[[Filter], int],
    choose: Callable[[Filter], None],
) -> None:
    """Say that no sample meets the filter, and which condition to drop to see some.

    Args:
        chosen: The filter.
        manifest: Of the run.
        count: How many samples another filter has.
        choose: Makes another filter the current one.
    """
    with st.container(key="notice"):
        _panel("filter_alt_off", "No image meets all of this")
        st.markdown(
            f"There are no {plain(chosen.sentence(manifest))}. Drop a condition to see those that meet the rest:"
        )
        for index, condition in enumerate(chosen.conditions):
            rest = Filter(tuple(c for i, c in enumerate(chosen.conditions) if i != index))
            n = count(rest)
            st.button(
                f"Drop “{plain(clause(condition, manifest))}” · {n:,} images",
                key=f"drop_{index}",
                on_click=choose,
                args=(rest,),
                disabled=n == 0,
                width="stretch",
            )
        st.button("Show all images", key="drop_all", type="tertiary", on_click=choose, args=(Filter(),))


def notices_of_run(manifest: Manifest) -> None:
    """Say what the engine found worth knowing about the run's methods."""
    for notice in manifest.notices:
        st.caption(f":material/info: {plain(notice)}")


def unknown_sample(sample_id: str, gallery: str) -> None:
    """Say that the link names no sample of the run."""
    with st.container(key="notice"):
        _panel("image_search", "No image chosen" if not sample_id else "No such image")
        if sample_id:
            st.markdown(
                f"This run has no image **{plain(sample_id[:200])}**: it may have been renamed or removed since the link was made."
            )
        st.markdown(f"Choose one in the [gallery]({gallery}).")
