"""The panel that hands a page's selection on: its link, a table, a report, a bundle."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from cache import queries
from cache.bundles import write_bundle
from cache.exports import export_columns, write_table
from cache.fields import TARGETS as MAP_TARGETS
from cache.progress import Progress
from cache.queries import Sort
from cache.reviews import Reviews
from dashboard.components.copy_link import copy_link
from dashboard.data import ask
from dashboard.notices import plain, told
from dashboard.original_files import original_reader
from dashboard.report import Contents, build_report, write_report
from dashboard.report_content import Asked
from dashboard.session import PageContext
from dashboard.share_work import Place, Work
from dashboard.sharing import size_text

KINDS = {"table": "Table", "report": "Report", "bundle": "Bundle"}
FORMS = {"csv": "CSV", "parquet": "Parquet"}
STATISTICS = {"shown": "Of the maps shown", "all": "Of every method", "none": "None"}
MIMES = {
    "csv": "text/csv", "parquet": "application/vnd.apache.parquet", "html": "text/html", "zip": "application/zip",
}  # fmt: skip
LARGEST = 200 * 2**20
"""Bytes that a page hands out at most; the command line writes more without holding it in memory."""
CELL_BYTES = 11
"""Bytes of a cell of a table, about."""
PANEL_WIDTH = 400
PATIENCE = 0.7
"""Seconds that the page waits for a file before it shows how far it is."""
REFRESH = 0.5
_PLACE = "share_place"


@dataclass(frozen=True)
class Task:
    """A file to make.

    Attributes:
        suffix: Its ending.
        of: What it is made of besides the selection.
        bytes: How large it may become.
        make: Makes it, and tells how far it is.
        instead: What to do where it would be too large.
        command: The command that makes it at any size.
    """

    suffix: str
    of: Hashable
    bytes: int
    make: Callable[[Path, Progress], object]
    instead: str = ""
    command: str = ""


def share_panel(context: PageContext, sort: Sort | None = None, key: str = "share") -> None:
    """Draw the button that opens the panel.

    Args:
        context: The page's context, whose selection is shared.
        sort: The order of the page; None for the best order of each.
        key: Of its widgets; another one where a page has two.
    """
    n = ask(context.catalog, queries.count, context.filter).n
    with st.popover("Share", icon=":material/ios_share:", key=key, disabled=not n, width="content"):
        if n:
            with st.container(width=PANEL_WIDTH):
                _panel(context, sort, n, key)


@st.fragment
@told()
def _panel(context: PageContext, sort: Sort | None, n: int, key: str) -> None:
    chosen = plain(context.filter.sentence(context.manifest)) if context.filter else "the whole run"
    st.markdown(f"**{n:,} images**: {chosen}")
    copy_link(f"{key}_link")
    kind = st.segmented_control(
        "What to share", list(KINDS), key=f"{key}_kind", default="table", required=True,
        format_func=lambda name: KINDS[name], label_visibility="collapsed", width="stretch",
    )  # fmt: skip
    task = {"table": _table, "report": _report, "bundle": _bundle}[kind or "table"](context, sort, n, key)
    if task.bytes > LARGEST:
        st.caption(f"This would be some {size_text(task.bytes)}, more than a page hands out. {task.instead}")
        if task.command:
            st.code(task.command, language="shell")
        return
    of = (str(context.run_path), context.manifest.generation, context.filter, sort, task.of)
    place: Place | None = st.session_state.get(_PLACE)
    work = place.work if place else None
    if st.button(
        "Prepare the file",
        key=f"{key}_prepare",
        type="primary",
        width="stretch",
        disabled=work is not None and work.running,
    ):
        place = place or Place()
        st.session_state[_PLACE] = place
        work = place.start(of, _file_name(context, task.suffix), task.make)
        work.wait(PATIENCE)
    if work is not None and work.running:
        _progress(work, key)
    elif work is not None and work.of == of:
        _outcome(work, task, key)


@st.fragment(run_every=REFRESH)
def _progress(work: Work, key: str) -> None:
    """Show how far a file is, and let it be stopped."""
    st.progress(work.share, f"{work.share:.0%} done")
    if st.button("Cancel", key=f"{key}_cancel", width="stretch"):
        work.stop()
    if not work.running:
        st.rerun()


def _outcome(work: Work, task: Task, key: str) -> None:
    """Offer a file, or say why there is none."""
    if work.refusal:
        st.error(plain(work.refusal), icon=":material/error_outline:")
    elif work.ready:
        st.download_button(
            f"Download {plain(work.path.name)} ({size_text(work.path.stat().st_size)})",
            work.path.read_bytes,
            file_name=work.path.name,
            mime=MIMES[task.suffix],
            key=f"{key}_download",
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )


def _file_name(context: PageContext, suffix: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", context.run).strip("-.")[:60] or "run"
    return f"{name}{'-selection' if context.filter else ''}.{suffix}"


def _table(context: PageContext, sort: Sort | None, n: int, key: str) -> Task:
    left, right = st.columns(2)
    form = left.segmented_control(
        "Format", list(FORMS), key=f"{key}_form", default="csv", required=True,
        format_func=lambda name: FORMS[name], width="stretch",
    ) or "csv"  # fmt: skip
    which = right.selectbox(
        "Statistics of maps", list(STATISTICS), key=f"{key}_statistics", format_func=lambda name: STATISTICS[name],
        filter_mode=None,
    )  # fmt: skip
    catalog, manifest = context.catalog, context.manifest
    shown = [(context.method, context.target)] if context.method in manifest.methods else []
    everything: list[tuple[str, str]] = [
        (method, target) for method in manifest.methods for target in MAP_TARGETS
    ]
    maps: list[tuple[str, str]] = {"shown": shown, "all": everything, "none": []}[which or "shown"]
    columns = len(export_columns(catalog, maps))
    st.caption(f"One row an image, {columns} columns, in the page's order.")

    def make(path: Path, progress: Progress) -> None:
        write_table(
            catalog, context.filter, path, "csv" if form == "csv" else "parquet",
            sort=sort, maps=maps, progress=progress,
        )  # fmt: skip

    wanted = n * columns * CELL_BYTES if form == "csv" else n * columns * CELL_BYTES // 2
    instead = "Choose Parquet, fewer statistics or a smaller selection."
    return Task(form, (form, which, context.method, context.target), wanted, make, instead)


def _report(context: PageContext, sort: Sort | None, n: int, key: str) -> Task:
    title = st.text_input(
        "Title", key=f"{key}_title", placeholder=context.manifest.name, max_chars=200, autocomplete="off"
    )
    findings = st.checkbox("With the findings", value=not context.filter, key=f"{key}_findings")
    views = st.checkbox("With the saved views", value=not context.filter, key=f"{key}_views")
    st.caption("One HTML file with pictures and figures in it; it opens without internet.")
    asked = Asked(context.filter, method=context.method, target=context.target, sort=sort)
    contents = Contents(
        title, (asked,) if context.filter else (), findings, views, reviews=not context.filter
    )

    def make(path: Path, progress: Progress) -> None:
        write_report(
            build_report(context.catalog, Reviews(context.catalog.reviewed.path), contents, progress), path
        )

    return Task("html", contents, 0, make)


def _bundle(context: PageContext, sort: Sort | None, n: int, key: str) -> Task:
    manifest = context.manifest
    root = Path(str(manifest.dataset.get("root") or ""))
    local = bool(manifest.dataset.get("root")) and root.is_dir()
    originals = local and st.checkbox("With the original images", key=f"{key}_originals")
    st.caption(
        "One file that `python -m dashboard open` opens on another machine, with the reviews of its images; "
        "what is reviewed there merges back. No path of this machine is in it."
    )
    catalog = context.catalog
    total = sum(part.bytes for parts in manifest.parts.values() for part in parts)
    wanted = int(total * n / max(manifest.rows("samples"), 1))
    if originals:
        wanted += int(n * _mean_size(context, root))

    def make(path: Path, progress: Progress) -> None:
        write_bundle(
            catalog.run,
            path,
            samples=queries.ids(catalog, context.filter) if context.filter else None,
            reviews=Reviews(context.catalog.reviewed.path),
            original=original_reader(manifest) if originals else None,
            progress=progress,
        )

    words = ["python", "-m", "dashboard", "bundle", context.run, "-o", "audit.zip"]
    words += ["--filter", context.filter.to_param()] if context.filter else []
    words += ["--originals"] if originals else []
    instead = "Ask for a smaller selection, or on the machine of the run:"
    return Task("zip", originals, wanted, make, instead, shlex.join(words))


def _mean_size(context: PageContext, root: Path) -> float:
    """Return about how large an original is."""
    some = queries.page(context.catalog, context.filter, limit=20)["uri"].to_pylist()
    sizes = [path.stat().st_size for uri in some if (path := root / uri).is_file()]
    return sum(sizes) / len(sizes) if sizes else 0.0
