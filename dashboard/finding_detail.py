"""One finding: what it says, how large it is, what the tests showed, and the images behind it."""

from __future__ import annotations

import html

import streamlit as st

from cache import queries
from cache.fields import class_title
from cache.filters import Filter
from cache.findings import Finding
from cache.review_events import Subject
from dashboard.attention import region_to_param
from dashboard.components.chart import chart
from dashboard.data import ask
from dashboard.figures import look_of
from dashboard.finding_examples import examples
from dashboard.finding_export import finding_json, samples_csv
from dashboard.finding_figure import trials, trials_figure
from dashboard.finding_list import badge
from dashboard.finding_pictures import pictures
from dashboard.finding_words import (
    KINDS,
    class_of,
    effect_text,
    meaning,
    region_of,
    share_text,
)
from dashboard.notices import plain
from dashboard.review_panel import review_panel
from dashboard.session import PageContext, open_page


def finding_detail(context: PageContext, finding: Finding) -> None:
    """Draw everything about a finding."""
    labelled = ask(context.catalog, queries.count, Filter()).labelled > 0
    finding_header(context, finding)
    _numbers(finding, labelled)
    left, right = st.columns(2, gap="small")
    with left, st.container(border=True, height="stretch"):
        st.subheader("Where its images look")
        pictures(context, finding)
    with right, st.container(border=True, height="stretch"):
        _reasons(context, finding)
    _tests(context, finding)
    with st.container(border=True):
        st.subheader("Examples and counter-examples")
        examples(context, finding, labelled)


def finding_header(context: PageContext, finding: Finding) -> None:
    """Say what the finding is and what its verdict means, and offer where to go from it."""
    name = class_title(context.manifest.classes, finding.class_index)
    with st.container(key="finding_header", gap="small"):
        st.html(
            f'<div class="gl-finding-top">{badge(finding)}<span>Finding {finding.rank} · {KINDS[finding.kind]} · '
            f"leads to <b>{html.escape(name)}</b></span></div>"
            f'<h2 class="gl-finding-title">{html.escape(finding.title)}</h2>'
            f'<p class="gl-finding-meaning">{html.escape(meaning(finding, context.manifest.classes))}</p>'
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if st.button("Show me these samples", key="finding_browse", icon=":material/grid_view:", type="primary"):  # fmt: skip
                open_page("browse", filter=finding.filter)
            region = region_of(finding)
            if region is not None and st.button(
                "Ask about its region", key="finding_region", icon=":material/select_all:"
            ):
                open_page("region", filter=class_of(finding), region=region_to_param(region))
            with st.popover("Export", icon=":material/download:"):
                _exports(context, finding)
            with st.popover("Review", icon=":material/rate_review:"):
                review_panel(context, Subject.finding(finding.key), f"finding_{finding.key}")


def _exports(context: PageContext, finding: Finding) -> None:
    # Made when they are asked for: a run of a million images has long lists.
    st.download_button(
        "The finding as JSON", lambda: finding_json(finding, context.manifest.classes),
        file_name=f"finding-{finding.key}.json", mime="application/json", key="finding_json", on_click="ignore",
        icon=":material/data_object:", width="stretch",
    )  # fmt: skip
    st.download_button(
        f"Its {finding.n:,} samples as CSV", lambda: samples_csv(context.catalog, finding),
        file_name=f"finding-{finding.key}.csv", mime="text/csv", key="finding_csv", on_click="ignore",
        icon=":material/table:", width="stretch",
    )  # fmt: skip


def _numbers(finding: Finding, labelled: bool) -> None:
    """Show the four numbers that size a finding up; as HTML, since metrics of Streamlit cut what does not fit."""
    evidence = finding.evidence
    predicted, rest = evidence.get("predicted"), evidence.get("error_rate_rest")
    effect, interval = effect_text(finding)
    compared = "no labels" if not labelled else "nothing to compare with"
    cards = [
        ("Images", f"{finding.n:,}", f"of {predicted:,.0f} called so" if predicted else "", "All of its images, of both halves."),
        (
            "Wrong here", share_text(evidence.get("error_rate")),
            compared if rest is None else f"{rest:.0%} in the rest of the class",
            "Share of its labelled images that are wrong, against the rest that is called the same.",
        ),
        (
            "Effect, held-back half", effect, interval,
            "Error rate inside minus outside on the half of the images that no search has seen, in percentage points, with "
            "Newcombe’s 95% interval. The q-value is the share of false findings to expect among those at least as sure.",
        ),
        _unlike(finding),
    ]  # fmt: skip
    st.html(
        '<dl class="gl-figures">'
        + "".join(
            f'<div title="{html.escape(told)}"><dt>{html.escape(label)}</dt><dd>{html.escape(value)}</dd>'
            f"<dd>{html.escape(note)}</dd></div>"
            for label, value, note, told in cards
        )
        + "</dl>"
    )


def _unlike(finding: Finding) -> tuple[str, str, str, str]:
    """Return what speaks against its being the object: how far beside it lies, and how alike it is."""
    outside, alike = finding.outside_object, finding.likeness
    told = (
        "Share of the attention outside the known object. Alike: how near-identical what is attended to is from image to "
        "image, 0 to 1: stamps are, living things are not."
    )
    if outside is not None:
        note = "of the attention" + ("" if alike is None else f"; alike {alike:.2f}")
        return "Beside the object", share_text(outside), note, told
    if alike is not None:
        return "Alike", f"{alike:.2f}", "from image to image, 0 to 1", told
    return "Beside the object", "–", "no object is known", told


def _reasons(context: PageContext, finding: Finding) -> None:
    st.subheader("Why this verdict")
    if finding.verdict == "untested":
        for reason in finding.reasons:
            st.markdown(plain(reason))
        st.markdown("Searching proposes; only tests on the images prove. Test it with")
        st.code(f"python -m engine verify {context.run_path}", language="shell", wrap_lines=True)
        return
    st.html(
        '<ul class="gl-reasons">' + "".join(f"<li>{html.escape(r)}</li>" for r in finding.reasons) + "</ul>"
    )


def _tests(context: PageContext, finding: Finding) -> None:
    name = class_title(context.manifest.classes, finding.class_index)
    shown = trials(finding, name)
    if not shown:
        return
    with st.container(border=True):
        st.subheader("What the tests did")
        st.caption(_tests_words(finding, name))
        chart(
            trials_figure(shown, name, look_of(st.context.theme.type)),
            f"finding_tests_{finding.key}",
            "How often predictions changed in each test, against its controls, with 95% intervals",
        )


def _tests_words(finding: Finding, name: str) -> str:
    moved = finding.transfer
    told = ["Each image is its own control: the same is done with an equal area that is not suspected."]
    if finding.property is not None:
        told = [
            f"The image’s {finding.property} is changed, or imposed on others; the control takes it from an image of the "
            "same side."
        ]
    elif finding.imposed is not None and finding.shows_as:
        told.append(
            f"Imposed is its {finding.shows_as[0]}, as an image of another class has it for the control."
        )
    if moved is not None and moved.class_rate is not None:
        told.append(
            f"Squares: what else the model attends to in images called {plain(name)}; on the right, hollow, the differences."
        )
    return " ".join(told)
