"""The few rules that Streamlit's theme cannot say; colours come from the theme, so both themes follow."""

from __future__ import annotations

import streamlit as st

from dashboard.rendering import PALETTE

_FINDINGS = f"""
.shortcut {{ --c: #C2410C; }} .relied {{ --c: #A16A00; }} .refuted {{ --c: {PALETTE.right}; }}
.inconclusive {{ --c: #6D6A9C; }} .untested {{ --c: #7A838E; }}
.gl-badge {{ display: inline-flex; align-items: center; gap: .36rem; padding: .1rem .62rem .1rem .22rem; border-radius: 999px; font-size: .82rem;
  font-weight: 600; line-height: 1.3rem; white-space: nowrap; border: 1px solid color-mix(in srgb, var(--c) 55%, transparent);
  background: color-mix(in srgb, var(--c) 13%, transparent); }}
.gl-badge b, .gl-sign {{ display: inline-block; width: 1.12rem; height: 1.12rem; line-height: 1.12rem; border-radius: 50%; text-align: center;
  font-size: .76rem; font-weight: 700; color: #fff; background: var(--c); flex: none; }}
.gl-badge.shortcut {{ background: var(--c); border-color: var(--c); color: #fff; }}
.gl-badge.shortcut b {{ background: #fff; color: var(--c); }}
.gl-badge.untested {{ border-style: dashed; background: transparent; }}
.st-key-finding_summary, .st-key-overview_summary {{ border-left: 4px solid {PALETTE.accent}; padding: .85rem 1.1rem; margin-top: .3rem; }}
.gl-summary p {{ margin: 0; line-height: 1.5; }}
.gl-summary {{ display: grid; gap: .55rem; }}
.gl-summary ul {{ list-style: none; margin: 0; padding: 0; display: grid; gap: .4rem; }}
.gl-summary li {{ display: flex; gap: .6rem; line-height: 1.45; margin: 0; }}
.gl-summary li b {{ margin-top: .14rem; }}
.gl-summary .gl-next {{ font-weight: 600; }}
.st-key-finding_list {{ position: sticky; top: 1rem; max-height: calc(100vh - 2rem); overflow-y: auto; padding: 2px; flex-wrap: nowrap; }}
[class*="st-key-finding_card_"] {{ position: relative; border: 1px solid color-mix(in srgb, currentColor 15%, transparent); border-radius: 10px;
  flex: none; }}
[class*="st-key-finding_card_"]:hover {{ border-color: {PALETTE.accent}; }}
[class*="st-key-finding_card_"]:has(.gl-card.on) {{ border-color: {PALETTE.accent}; box-shadow: inset 3px 0 0 {PALETTE.accent};
  background: color-mix(in srgb, {PALETTE.accent} 9%, transparent); }}
[class*="st-key-finding_card_"]:has(button:focus-visible) {{ outline: 2px solid {PALETTE.accent}; outline-offset: 1px; }}
[class*="st-key-finding_card_"] [class*="st-key-finding_open_"] {{ position: absolute; inset: 0; width: 100% !important; height: 100%; opacity: 0; }}
[class*="st-key-finding_open_"] * {{ width: 100% !important; height: 100% !important; overflow: hidden; }}
.gl-card {{ padding: .62rem .8rem .66rem; display: grid; gap: .34rem; }}
.gl-card-top {{ display: flex; align-items: center; gap: .55rem; }}
.gl-rank {{ font-weight: 650; font-variant-numeric: tabular-nums; min-width: .8rem; }}
.gl-card-title {{ font-weight: 560; line-height: 1.35; overflow-wrap: anywhere; }}
.gl-card-facts {{ font-size: .82rem; opacity: .7; font-variant-numeric: tabular-nums; }}
.gl-finding-top {{ display: flex; flex-wrap: wrap; gap: .3rem .8rem; align-items: center; font-size: .9rem; }}
.gl-finding-top > span:last-child {{ opacity: .75; }}
.gl-finding-title {{ margin: .45rem 0 .1rem; padding: 0; line-height: 1.3; font-size: 1.28rem !important; overflow-wrap: anywhere; }}
.gl-finding-meaning {{ margin: 0; opacity: .8; }}
.gl-figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem; margin: 0 !important; padding: 0 !important; }}
.gl-figures > div {{ border: 1px solid color-mix(in srgb, currentColor 15%, transparent); border-radius: 8px; padding: .7rem .9rem .75rem; }}
.gl-figures dt {{ font-size: .86rem; font-weight: 400; opacity: .8; }}
.gl-figures dd {{ margin: 0; font-size: .84rem; opacity: .7; line-height: 1.4; }}
.gl-figures dt + dd {{ font-size: 1.7rem; line-height: 1.4; opacity: 1; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.gl-pair {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; max-width: 620px; }}
.gl-pair figure {{ margin: 0; }}
.gl-view {{ position: relative; overflow: hidden; border-radius: 8px; }}
.gl-view img {{ position: absolute; inset: 0; width: 100%; height: 100%; object-fit: fill; }}
.gl-pair figcaption {{ font-size: .88rem; margin-top: .35rem; line-height: 1.4; }}
.gl-pair figcaption span {{ opacity: .7; }}
.gl-reasons {{ margin: 0; padding-left: 1.1rem; display: grid; gap: .45rem; font-size: .92rem; line-height: 1.45; }}
"""
_RULES = f"""
:root {{ --gl-right: {PALETTE.right}; --gl-wrong: {PALETTE.wrong}; --gl-neutral: {PALETTE.neutral}; }}
.stMainBlockContainer {{ padding: 1rem 2.2rem 3rem; max-width: none; }}
.stMainBlockContainer > .stVerticalBlock {{ gap: .65rem; }}
[data-testid="stSidebarContent"] {{ padding: 0 .25rem; }}
.st-key-filter_bar {{ max-width: 1640px; }}
.st-key-filter_bar [data-testid="stWidgetLabel"], .st-key-order [data-testid="stWidgetLabel"] {{ min-height: 1.1rem; margin-bottom: .1rem; }}
.st-key-filter_bar [data-testid="stWidgetLabel"] p, .st-key-order [data-testid="stWidgetLabel"] p {{ font-size: .82rem; line-height: 1.2; }}
.st-key-filter_bar [data-testid="stSlider"] [role="group"], [class*="st-key-filter_range_"] [data-testid="stSlider"] [role="group"] {{ top: -.62rem; }}
.st-key-filter_bar [data-testid="stSliderThumbValue"], [class*="st-key-filter_range_"] [data-testid="stSliderThumbValue"] {{ transform: translateY(2rem); }}
.st-key-filter_bar [data-testid="stSliderTickBar"], [class*="st-key-filter_range_"] [data-testid="stSliderTickBar"] {{ display: none; }}
[class*="st-key-filter_range_"] {{ margin-top: .25rem; }}
[class*="st-key-filter_range_"] [data-testid="stCaptionContainer"] {{ opacity: 1; }}
.stMainBlockContainer [data-testid="stHeading"]:has(h1) [data-testid="stMarkdownContainer"] {{ margin-bottom: 0; }}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p {{ color: inherit; }}
[data-testid="stCaptionContainer"] {{ opacity: .68; }}
.st-key-sentence {{ min-height: 2.6rem; }}
/* While something is computed anew, a line along the top says so, and pictures that are no longer what the page says are faded at one stroke.
   Streamlit fades all ninety elements there and back, frame by frame, and lets its sign of running lie over the page's own buttons. */
[data-testid="stElementContainer"][data-stale="true"] {{ opacity: 1 !important; transition: none !important; }}
[data-testid="stElementContainer"][data-stale="true"]:is(.st-key-gallery, .st-key-map_selection, .st-key-contact_sheet, .st-key-region_gallery, .st-key-sample_nearest) {{ opacity: .33 !important; transition: opacity 1ms linear .5s !important; }}
[data-testid="stStatusWidget"] {{ transition: none !important; position: fixed; right: 1.2rem; bottom: 1rem; padding: .2rem .7rem; border-radius: 999px; background: Canvas;
  border: 1px solid color-mix(in srgb, currentColor 16%, transparent); box-shadow: 0 4px 16px rgba(0, 0, 0, .18); }}
/* Its picture is another one ten times a second, which has the page painted anew each time. */
[data-testid="stStatusWidgetRunningIcon"] {{ display: none !important; }}
[data-testid="stStatusWidget"] :is(div, span) {{ margin: 0; padding: 0; }}
.stApp::after {{ content: ""; position: fixed; inset: 0 0 auto; height: 3px; background: {PALETTE.accent}; visibility: hidden; z-index: 1000000; pointer-events: none; }}
.stApp[data-test-script-state="running"]::after {{ visibility: visible; transition: visibility 1ms linear .4s; }}
.stAppHeader {{ height: 2.4rem; background: transparent; pointer-events: none; }}
.stAppHeader div, .stAppHeader header {{ pointer-events: none; }}
.stAppHeader button, .stAppHeader a, .stAppHeader [data-testid="stStatusWidget"] {{ pointer-events: auto; }}
section[data-testid="stSidebar"] {{ width: 232px !important; min-width: 0; }}
section[data-testid="stSidebar"] [data-testid="stSidebarHeader"] {{ height: 2rem; padding-bottom: 0; margin-bottom: 0; }}
section[data-testid="stSidebar"] [data-testid="stSidebarUserContent"] {{ padding: 0 1rem 1rem; }}
.gl-brand {{ display: flex; align-items: center; gap: .6rem; font-weight: 650; font-size: 1.2rem; letter-spacing: -.01em; padding: 0 .25rem .4rem; }}
.gl-mark {{ width: 1.35rem; height: 1.35rem; border-radius: 50%; flex: none;
  background: radial-gradient(circle at 62% 40%, #fcffa4 0 9%, #fca50a 20%, #bc3754 38%, #420a68 58%, #0B7285 60% 100%); }}
h1 {{ font-size: 1.55rem !important; font-weight: 650 !important; letter-spacing: -.015em; padding: .15rem 0 .3rem !important; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem !important; font-weight: 620 !important; }}
h3 {{ font-size: 1.02rem !important; font-weight: 620 !important; padding: .3rem 0 .35rem !important; }}
.st-key-facts table {{ width: 100%; font-size: .8rem; border: 0; }}
.st-key-facts thead {{ display: none; }}
.st-key-facts td {{ border: 0 !important; padding: .16rem .25rem !important; vertical-align: top; overflow-wrap: anywhere; }}
.st-key-facts td:first-child {{ opacity: .62; width: 4.2rem; padding-right: .5rem !important; overflow-wrap: normal; }}
.st-key-facts {{ border-top: 1px solid color-mix(in srgb, currentColor 12%, transparent); padding-top: .7rem; margin-top: .2rem; }}
.st-key-help {{ border-top: 1px solid color-mix(in srgb, currentColor 12%, transparent); padding-top: .5rem; }}
.st-key-help button {{ justify-content: flex-start; padding: .1rem .25rem; min-height: 1.9rem; }}
.st-key-help button p {{ font-size: .86rem; }}
.st-key-tour {{ position: absolute; height: 0; width: 0; overflow: visible; }}
.st-key-chips {{ gap: .4rem; }}
.st-key-chips button {{ min-height: 1.75rem; padding: .05rem .65rem; border-radius: 999px; }}
.st-key-chips button p {{ font-size: .82rem; }}
.st-key-notice {{ max-width: 46rem; margin: 8vh auto 0; padding: 1.6rem 1.8rem; border-radius: 14px;
  border: 1px solid color-mix(in srgb, currentColor 14%, transparent); }}
.st-key-sentence p {{ font-size: 1rem; }}
.stMainBlockContainer [data-testid="stButtonGroup"] button {{ min-height: 2.5rem; }}
[class*="st-key-"] [data-testid="stButtonGroup"] > div:is([role="radiogroup"], [role="group"]) {{ margin: 0; padding: 0; overflow: visible; }}
.stMainBlockContainer [data-testid="stHeading"]:has(h3) [data-testid="stMarkdownContainer"] {{ margin-bottom: -.45rem; }}
.st-key-sample_header, .st-key-browse_heading, .st-key-overview_heading, .st-key-contact_heading {{ padding-right: 1.6rem; }}
/* The way to other pages stays in sight, on the background that .streamlit/config.toml gives the page. */
.stMain {{ scroll-padding-bottom: 4rem; }}
[data-testid="stLayoutWrapper"]:has(> .st-key-pages) {{ position: sticky; bottom: 0; z-index: 4; }}
.st-key-pages {{ padding: .4rem 0; background: light-dark(#FFFFFF, #11161C); border-top: 1px solid color-mix(in srgb, currentColor 9%, transparent); }}
.gl-pill {{ display: inline-block; padding: .1rem .6rem; margin: 0 .35rem .35rem 0; border-radius: 999px; font-size: .84rem; unicode-bidi: isolate;
  background: color-mix(in srgb, {PALETTE.accent} 16%, transparent); overflow-wrap: anywhere; }}
.gl-note {{ border-left: 3px solid color-mix(in srgb, {PALETTE.accent} 60%, transparent); padding: .1rem 0 .1rem .7rem; white-space: pre-wrap; overflow-wrap: anywhere;
  max-height: 16rem; overflow-y: auto; font-size: .9rem; }}
.st-key-activity p, [class*="st-key-review_"] [data-testid="stExpanderDetails"] p {{ font-size: .88rem; }}
.st-key-activity .stHorizontalBlock, [data-testid="stExpanderDetails"] .stHorizontalBlock {{ flex-wrap: nowrap; }}
.gl-note small {{ opacity: .62; }}
.st-key-selected_bar {{ position: fixed; bottom: 4rem; left: calc(50% + 116px); transform: translateX(-50%); z-index: 5; width: fit-content !important; padding: .5rem 1rem; border-radius: 14px;
  background: Canvas; border: 1px solid color-mix(in srgb, currentColor 16%, transparent); box-shadow: 0 8px 30px rgba(0, 0, 0, .22); }}
.gl-muted {{ opacity: .66; }}
.gl-table {{ width: 100%; border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }}
.gl-table th {{ text-align: left; font-weight: 500; opacity: .62; padding: .1rem .6rem .35rem 0; white-space: nowrap; }}
.gl-table td {{ padding: .3rem .6rem .3rem 0; border-top: 1px solid color-mix(in srgb, currentColor 9%, transparent); overflow-wrap: anywhere; }}
.gl-table .figure {{ text-align: right; white-space: nowrap; }}
.gl-table .name {{ opacity: .66; white-space: nowrap; }}
.gl-help {{ position: relative; cursor: help; text-decoration: underline dotted color-mix(in srgb, currentColor 45%, transparent); text-underline-offset: 3px; }}
.gl-help:focus-visible {{ outline: 2px solid {PALETTE.accent}; outline-offset: 2px; border-radius: 3px; }}
.gl-help:hover::after, .gl-help:focus-visible::after {{ content: attr(data-help); position: absolute; left: 0; top: calc(100% + 6px); z-index: 30;
  width: max-content; max-width: 21rem; padding: .55rem .7rem; border-radius: 8px; white-space: pre-line; font-weight: 400; line-height: 1.4;
  color: #f2f5f7; background: #1d262e; box-shadow: 0 6px 22px rgba(0, 0, 0, .28); opacity: 1; }}
td.name:has(.gl-help) {{ opacity: 1; }}
td.name .gl-help {{ color: color-mix(in srgb, currentColor 72%, transparent); }}
.gl-glossary td {{ vertical-align: top; padding: .5rem .9rem .5rem 0; }}
.gl-glossary td:first-child {{ width: 9.5rem; }}
.gl-glossary td:last-child {{ width: 14rem; padding-right: 0; }}
.gl-glossary th {{ padding-top: 1rem; font-weight: 620; opacity: 1; font-size: .95rem; }}
.gl-strip {{ position: relative; height: .5rem; min-width: 6rem; border-radius: .25rem;
  background: linear-gradient(90deg, transparent calc(50% - 1px), color-mix(in srgb, currentColor 45%, transparent) calc(50% - 1px) calc(50% + 1px), transparent calc(50% + 1px)),
    color-mix(in srgb, currentColor 12%, transparent); }}
.gl-strip i {{ position: absolute; top: -.17rem; width: .84rem; height: .84rem; margin-left: -.42rem; border-radius: 50%; background: {PALETTE.accent};
  box-shadow: 0 0 0 2px color-mix(in srgb, Canvas 80%, transparent); }}
.gl-bar {{ height: .55rem; border-radius: .28rem; background: color-mix(in srgb, currentColor 10%, transparent); overflow: hidden; min-width: 4rem; }}
.gl-bar i {{ display: block; height: 100%; border-radius: .28rem; background: {PALETTE.neutral}; }}
.gl-superpixels {{ width: 100%; max-width: 480px; border-radius: 8px; display: block; margin-bottom: .5rem; }}
.gl-weights {{ max-width: 480px; }}
.gl-weights td {{ border-top: 0 !important; padding: .1rem .5rem .1rem 0 !important; }}
.gl-tag {{ display: inline-block; min-width: 1.25rem; line-height: 1.2rem; border-radius: .3rem; text-align: center; color: #fff; font-size: .76rem; font-weight: 650; }}
.gl-weight {{ position: relative; height: .62rem; border-radius: .2rem; overflow: hidden;
  background: linear-gradient(90deg, transparent calc(50% - .5px), color-mix(in srgb, currentColor 60%, transparent) calc(50% - .5px) calc(50% + .5px), transparent calc(50% + .5px)),
    color-mix(in srgb, currentColor 9%, transparent); }}
.gl-weight i {{ position: absolute; top: 0; bottom: 0; border-radius: .1rem; }}
.gl-verdict {{ display: flex; gap: .55rem; align-items: center; font-size: 1.12rem; font-weight: 620; margin-bottom: .5rem; line-height: 1.3; }}
.gl-verdict b {{ color: #fff; font-size: .8rem; width: 1.35rem; height: 1.35rem; line-height: 1.35rem; text-align: center; border-radius: 50%; flex: none; }}
.gl-verdict span {{ overflow-wrap: anywhere; }}
@media print {{
  section[data-testid="stSidebar"], .stAppHeader, [data-testid="stStatusWidget"], .st-key-pages, .st-key-contact_bar .stColumn,
  .st-key-chips, .st-key-contact_choice [data-testid="stButtonGroup"], .st-key-contact_heading > :not(:first-child) {{ display: none !important; }}
  .stApp, .stMain, [data-testid="stAppViewContainer"] {{ position: static !important; overflow: visible !important; height: auto !important; }}
  .stMainBlockContainer {{ padding: 0; }}
}}
{_FINDINGS}
"""

_DARK = '[data-testid="stBaseButton-primary"], [data-tag] { color: #0B1318; }'


def apply() -> None:
    """Put the rules on the page."""
    # Streamlit writes white on the primary colour, which is a light one in dark.
    dark = _DARK if st.context.theme.type == "dark" else ""
    st.html(f"<style>{_RULES}{dark}</style>")
