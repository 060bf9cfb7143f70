"""The state of the screen, which is its URL: the run, the filter, the method, the target, and what a page adds.

Widgets never keep state of their own: before a widget is drawn its value is read from the URL, and when a person
changes it a callback writes the URL. So a link shows the same page in another browser, and going back works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st

from cache.catalog import Catalog
from cache.errors import FilterError, GazelakeError
from cache.filters import Condition, Filter, compile_filter
from cache.locations import Location
from cache.manifest import Manifest
from cache.schema import TARGET_PRED, TARGET_TRUE
from dashboard import data, notices


@dataclass(frozen=True)
class PageInfo:
    """How a page is found and named."""

    file: str
    title: str
    icon: str
    url_path: str


PAGES: Mapping[str, PageInfo] = {
    "overview": PageInfo("app_pages/overview.py", "Overview", ":material/monitoring:", ""),
    "findings": PageInfo("app_pages/findings.py", "Findings", ":material/troubleshoot:", "findings"),
    "browse": PageInfo("app_pages/browse.py", "Browse", ":material/grid_view:", "browse"),
    "region": PageInfo("app_pages/region.py", "Region", ":material/select_all:", "region"),
    "methods": PageInfo("app_pages/methods.py", "Methods", ":material/compare:", "methods"),
    "reviews": PageInfo("app_pages/reviews.py", "Reviews", ":material/rate_review:", "reviews"),
    "contact": PageInfo("app_pages/contact.py", "Contact sheet", ":material/view_comfy_alt:", "contact"),
    "sample": PageInfo("app_pages/sample.py", "Sample", ":material/image_search:", "sample"),
}

SHARED = ("run", "filter", "method", "target")
"""Parameters that a link keeps from page to page."""
TARGETS = {TARGET_PRED: "Predicted class", TARGET_TRUE: "True class"}


@dataclass(frozen=True)
class PageContext:
    """What a page shows: one generation of a run, through a filter, by a method and for a target.

    Attributes:
        run: The run's name in links.
        run_path: Its directory or URL.
        catalog: The open generation.
        manifest: Its manifest.
        filter: Which samples.
        method: Which attribution method; the run's default unless the URL names another.
        target: ``pred`` or ``true``: the class whose map is meant.
    """

    run: str
    run_path: Location
    catalog: Catalog
    manifest: Manifest
    filter: Filter
    method: str
    target: str


def param(name: str, default: str = "") -> str:
    """Return a parameter of the URL."""
    return str(st.query_params.get(name, default))


def integer_param(name: str, default: int, low: int, high: int) -> int:
    """Return a whole-numbered parameter of the URL, kept within bounds; the default where it is nonsense."""
    try:
        return min(max(int(param(name)), low), high)
    except ValueError:
        return default


def set_params(**values: str | None) -> None:
    """Write parameters of the URL, as one step that the browser can go back; None or an empty text removes one."""
    before = st.query_params.to_dict()
    after = {name: value for name, value in (before | values).items() if value}
    if after != before:
        st.query_params.from_dict(after)


def current_filter() -> Filter:
    """Return the filter of the URL.

    Raises:
        FilterError: It is nonsense, or of another version.
    """
    text = param("filter")
    return Filter.from_param(text) if text else Filter()


def set_filter(value: Filter) -> None:
    """Make a filter the current one, from the first page on."""
    set_params(filter=value.to_param() if value else None, page=None)


def update_filter(subject: str, condition: Condition | None) -> None:
    """Put a condition in place of the current filter's on its subject; None drops the subject's."""
    try:
        chosen = current_filter()
    except FilterError:
        chosen = Filter()
    set_filter(chosen.without(subject) if condition is None else chosen.with_(condition))


def shared_params(**changes: Any) -> dict[str, str]:
    """Return the parameters of a link that stays with this run and filter, with changes; None drops one."""
    values: dict[str, Any] = {name: st.query_params.get(name) for name in SHARED}
    values.update(changes)
    return {name: _text(value) for name, value in values.items() if value not in (None, "")}


def _text(value: Any) -> str:
    return value.to_param() if isinstance(value, Filter) else str(value)


def link_to(page: str, **params: Any) -> str:
    """Return a relative URL of a page for anchors; run, filter, method and target stay unless they are given.

    Args:
        page: Name of the page, a key of `PAGES`.
        params: Parameters to set; ``filter`` may be a `Filter`, None drops a parameter.
    """
    query = urlencode({k: v for k, v in shared_params(**params).items() if v})
    return f"{PAGES[page].url_path or './'}{'?' if query else ''}{query}"


def links_to_samples(sample_ids: Iterable[str], **params: Any) -> list[str]:
    """Return what `link_to` gives for each sample's page; what all of them share is written once."""
    shared = link_to("sample", id=None, **params)
    return [f"{shared}{'&' if '?' in shared else '?'}{urlencode({'id': one})}" for one in sample_ids]


def open_page(page: str, **params: Any) -> NoReturn:
    """Go to a page; run, filter, method and target stay unless they are given."""
    query = {k: v for k, v in shared_params(**params).items() if v}
    st.switch_page(PAGES[page].file, query_params=query)


def current_run() -> tuple[str, Location]:
    """Return the name and path of the run the URL names, or of the one changed last; explains and stops without one."""
    try:
        runs = data.list_runs()
    except GazelakeError as error:
        notices.unusable_run(error)
        st.stop()
    name = param("run")
    if not runs:
        if name:
            notices.vanished(name, data.runs_folder())
        else:
            notices.no_runs(data.runs_folder())
        st.stop()
    if not name:
        name = choose_newest(runs)
    if name not in runs:
        notices.unknown_run(name, {run: link_to("overview", run=run, filter=None) for run in runs})
        st.stop()
    return name, runs[name]


def choose_newest(runs: Mapping[str, Location]) -> str:
    """Make the run that was changed last the current one, and return its name."""
    name = data.latest_run(runs) or ""
    set_params(run=name)
    return name


def page_context() -> PageContext:
    """Open what the URL names; where nothing can be shown, say what is going on and what to do, and stop."""
    name, path = current_run()
    try:
        catalog = data.open_catalog(path)
    except GazelakeError as error:
        notices.unusable_run(error)
        st.stop()
    manifest = catalog.manifest
    notices.run_state(catalog.run)
    notices.no_index(catalog)
    if not manifest.rows("samples"):
        notices.no_samples(catalog.run)
        st.stop()
    chosen = Filter()
    try:
        chosen = current_filter()
        compile_filter(chosen, manifest)
    except FilterError as error:
        notices.refused_filter(error, on_drop=lambda: set_filter(Filter()))
        chosen = Filter()
    method = param("method", manifest.default_method)
    if method not in manifest.methods:
        notices.unknown_method(method, manifest.default_method)
        method = manifest.default_method
    target = param("target", TARGET_PRED)
    return PageContext(
        name, path, catalog, manifest, chosen, method, target if target in TARGETS else TARGET_PRED
    )
