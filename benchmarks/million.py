"""A million samples: what opening, filtering, regions, figures and pages' queries cost on the server, beside their bars.

The run is made by `benchmarks.make_run` and its index by this program, where they are not there. Each question is asked once,
before anything could be remembered of it. `--spotlight PYTHON` opens the same table in Renumics Spotlight, with the Python of an
environment that has it.

    python -m benchmarks.million --run FOLDER/million [--build] [--spotlight PYTHON]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.make_run import MAP, METHODS, make_run
from cache import held, profiles, queries
from cache.agreement import agreement_matrix
from cache.attention import region_by_class
from cache.catalog import Catalog
from cache.conditions import AllOf, AnyOf, Condition, InProjection, Is, Not, OneOf, Range, RegionMass, Text
from cache.filters import Filter
from cache.index import find_index
from cache.indexing import build_index, drop_index
from cache.queries import Sort
from cache.regions import PRESETS, Region
from cache.review_condition import Reviewed
from cache.review_events import Subject
from cache.reviews import Reviews
from cache.run import Run, is_run
from cache.scatter import map_points
from cache.sections import sections
from cache.similarity import KINDS, Likeness
from cache.summaries import run_summary
from cache.worst import worst_of_each
from dashboard.attention import mass_histogram
from dashboard.outcomes import separations

SAMPLES = 1_000_000
CLASSES = 100
BOXES = 24
POLYGONS = 12
OTHER = METHODS[1]
"""A method that is not the default one."""


def memory(peak: bool = False) -> float:
    """Return this process's resident memory in MB, now or at its highest."""
    wanted = "VmHWM" if peak else "VmRSS"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) / 1024
    return 0.0


def timed(work: Callable[[], Any]) -> float:
    """Return how many milliseconds some work takes."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def say(what: str, value: float, bar: float | None = None, unit: str = "ms") -> None:
    """Print a figure beside its bar."""
    verdict = "" if bar is None else f"bar {bar:,.0f} {'ok' if value < bar else 'OVER'}"
    print(f"{what:<66}{value:>10,.0f} {unit:<3} {verdict}", flush=True)


def galleries(dice: random.Random) -> dict[str, tuple[Filter, Sort | None, int]]:
    """Return filters and sorts of every kind, with the page that is looked at."""

    def box() -> Region:
        x, y = dice.uniform(0, 0.5), dice.uniform(0, 0.5)
        return Region.box(x, y, x + dice.uniform(0.1, 0.5), y + dice.uniform(0.1, 0.5))

    inside, elsewhere = RegionMass(box(), 0.3), RegionMass(box(), None, 0.2)
    other = RegionMass(box(), 0.25, None, OTHER)
    wrong = Is("correct", False)
    conditions: dict[str, tuple[Condition, ...]] = {
        "everything": (),
        "a class": (OneOf("label", ("class 07",)),),
        "a predicted class, wrong": (OneOf("pred", ("class 99",)), wrong),
        "ten classes": (OneOf("label", tuple(f"class {i:02d}" for i in range(10, 20))),),
        "confidence 0.5 to 0.9": (Range("confidence", 0.5, 0.9),),
        "wrong and sure": (wrong, Range("confidence", 0.9)),
        "statistic of another method": (Range("border_mass", 0.4, None, "eigencam"),),
        "statistic of the true class": (Range("entropy", 0.8, None, None, "true"),),
        "statistics of two methods": (Range("entropy", 0.7, None, "gradcampp"), Range("border_mass", None, 0.3, "cam")),
        "text in the id": (Text("sample_id", "00777"),),
        "text in metadata": (Text("meta.camera", "camera b"),),
        "metadata, number and time": (Range("meta.altitude", 500, 900), Range("meta.taken", "2021-01-01", "2021-06-01")),
        "metadata, yes or no": (Is("meta.indoors", True),),
        "in a region": (inside,),
        "regions: and, or, not": (AllOf((AnyOf((inside, elsewhere)), Not(RegionMass(box(), 0.5)))),),
        "region of another method": (other,),
        "region, class and wrong": (inside, OneOf("pred", ("class 42",)), wrong),
        "image statistic": (Range("brightness", 0.2, 0.3),),
        "degenerate": (Is("degenerate", True),),
        "tagged in reviews": (Reviewed(tag="look again"),),
        "in an area of the map": (InProjection(MAP, ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6))),),
    }  # fmt: skip
    asked: dict[str, tuple[Filter, Sort | None, int]] = {
        name: (Filter(some), None, 0) for name, some in conditions.items()
    }
    sorts = {
        "sorted by confidence": Sort("confidence", True),
        "sorted by a statistic": Sort("border_mass", True, METHODS[0], "pred"),
        "sorted by another method's": Sort("entropy", False, "layercam", "true"),
        "sorted by agreement": Sort("agreement", False, METHODS[0], "pred"),
        "sorted by mass in a region": Sort(region=RegionMass(box(), 0), descending=True),
        "sorted by metadata": Sort("meta.taken", True),
        "sorted by text": Sort("meta.camera"),
    }
    for name, sort in sorts.items():
        asked[name] = Filter(), sort, 0
        asked[f"{name}, wrong"] = Filter((wrong,)), sort, 0
    asked["page 10,000"] = Filter(), None, 10_000
    asked["page 10,000 by confidence"] = Filter(), Sort("confidence", True), 10_000
    asked["page 1,000 of wrong by a statistic"] = Filter((wrong,)), sorts["sorted by a statistic"], 1_000
    return asked


def gallery(catalog: Catalog, chosen: Filter, sort: Sort | None, page: int) -> None:
    """Ask what the first page of a gallery asks: the count, the rows, their thumbnails, and their maps by every method."""
    queries.count(catalog, chosen)
    rows = queries.page(catalog, chosen, sort, page * 48)
    ids = rows["sample_id"].to_pylist()
    profiles.thumbnails(catalog, ids)
    profiles.maps_by_method(catalog, ids, list(catalog.manifest.methods))


def measure_galleries(catalog: Catalog, detail: bool) -> None:
    dice = random.Random(0)
    gallery(catalog, Filter((OneOf("label", ("class 03",)),)), None, 0)
    took = {name: timed(lambda a=a: gallery(catalog, *a)) for name, a in galleries(dice).items()}
    again = {name: timed(lambda a=a: gallery(catalog, *a)) for name, a in galleries(random.Random(1)).items()}
    if detail:
        for name, value in took.items():
            print(f"    {name:<46}{value:>8,.0f} ms, other values {again[name]:>8,.0f} ms", flush=True)
    every = [*took.values(), *again.values()]
    say(f"filter to first page, median of {len(every)}", statistics.median(every))
    say("filter to first page, 95th percentile", percentile(every, 0.95), 300)
    say("filter to first page, slowest", max(every))


def measure_regions(catalog: Catalog, indexed: bool) -> None:
    dice = random.Random(2)

    def box() -> Region:
        x, y = dice.uniform(0, 0.5), dice.uniform(0, 0.5)
        return Region.box(x, y, x + dice.uniform(0.2, 0.5), y + dice.uniform(0.2, 0.5))

    def polygon() -> Region:
        return Region.polygon([(dice.uniform(0, 1), dice.uniform(0, 1)) for _ in range(7)])

    def split(method: str | None, region: Region) -> None:
        held.split(catalog, Filter(), RegionMass(region, 0.3, None, method))

    first = timed(lambda: split(None, box()))
    say("box, default method, the first", first)
    for name, shape, method, count, bar in (
        ("box, default method", box, None, BOXES, 50),
        ("polygon, default method", polygon, None, POLYGONS, 400),
    ):
        took = [timed(lambda s=shape, m=method: split(m, s())) for _ in range(count)]
        say(f"{name}, median of {count}", statistics.median(took), bar)
        say(f"{name}, slowest", max(took))
    say("box, another method, the first (its grids are copied)" if indexed else "box, another method, the first",
        timed(lambda: split(OTHER, box())))  # fmt: skip
    took = [timed(lambda: split(OTHER, box())) for _ in range(BOXES)]
    say(f"box, another method, median of {BOXES}", statistics.median(took), 400)
    took = [timed(lambda: split(OTHER, polygon())) for _ in range(POLYGONS)]
    say(f"polygon, another method, median of {POLYGONS}", statistics.median(took), 400)


def questions(catalog: Catalog) -> dict[str, tuple[Callable[[], Any], float | None]]:
    """Return what the pages ask besides galleries and regions, with the bar of each."""
    every, wrong = Filter(), Filter((Is("correct", False),))
    some = queries.ids(catalog, wrong, Sort("confidence", True), 3)
    corner = RegionMass(PRESETS["bottom_left"], 0.3)
    methods = list(catalog.manifest.methods)
    default = catalog.manifest.default_method
    asked: dict[str, tuple[Callable[[], Any], float | None]] = {
        "Overview: count": (lambda: queries.count(catalog, wrong), 1_000),
        "Overview: confusion matrix": (lambda: queries.confusion(catalog, every), 1_000),
        "Overview: classes": (lambda: queries.per_class(catalog, every), 1_000),
        "Overview: calibration": (lambda: queries.reliability(catalog, every), 1_000),
        "Overview: summary": (lambda: run_summary(catalog), 1_000),
        "Overview: statistics of errors": (lambda: separations(catalog, every, default, "pred"), 1_000),
        "Overview: a histogram": (lambda: queries.statistic_by_outcome(catalog, every, "border_mass", default, "pred"), 1_000),
        "mean map of all": (lambda: held.mean_map(catalog, every), None),
        "mean map of the wrong": (lambda: held.mean_map(catalog, wrong), None),
        "Region: histogram of masses": (lambda: mass_histogram(catalog, every, corner), None),
        "Region: classes in a region": (lambda: region_by_class(catalog, every, corner), None),
        "Methods: agreement of all": (lambda: agreement_matrix(catalog, every, methods), None),
        "Methods: least agreeing": (lambda: queries.page(catalog, every, Sort("agreement", False, default, "pred")), None),
        "Contact sheet: worst of each class": (lambda: worst_of_each(catalog, every), None),
        "Browse: groups by confusion": (lambda: sections(catalog, every, "confusion", None, 12, 0, 10), None),
        "Browse: map of features": (lambda: map_points(catalog, MAP, every), None),
        "Browse: map, a selection": (lambda: map_points(catalog, MAP, wrong, ("confidence", None, None)), None),
        "Browse: 48 overlays": (lambda: profiles.maps(catalog, queries.page(catalog, every)["sample_id"].to_pylist()), None),
        "Sample: its values": (lambda: profiles.sample(catalog, some[0]), None),
        "Sample: its maps by every method": (lambda: profiles.attributions_of(catalog, some[0]), None),
        "Sample: where it stands": (lambda: profiles.standing(catalog, some[0]), None),
        "Sample: place in the order": (lambda: queries.position(catalog, every, Sort("confidence", True), some[0]), None),
        "Sample: nearest by features": (lambda: profiles.nearest(catalog, some[0]), None),
        "filter fields: values of a text": (lambda: queries.distinct(catalog, "meta.camera"), None),
        "filter fields: a range": (lambda: queries.field_range(catalog, "meta.altitude"), None),
        "every id of the wrong": (lambda: queries.ids(catalog, wrong), None),
    }  # fmt: skip
    for kind in KINDS:
        like = Sort(descending=True, like=Likeness(some[1], kind))
        asked[f"Browse: alike by {kind}, the first"] = (lambda s=like: queries.page(catalog, every, s), None)  # type: ignore[misc]
        next_ = Sort(descending=True, like=Likeness(some[2], kind))
        asked[f"Browse: alike by {kind}"] = (lambda s=next_: queries.page(catalog, every, s), None)  # type: ignore[misc]
    return asked


def measure_pages(catalog: Catalog) -> None:
    for name, (ask, bar) in questions(catalog).items():
        took = timed(ask)
        print(f"    {name:<62}{took:>10,.0f} ms, again {timed(ask):>7,.0f} ms", flush=True)
        if bar is not None and took > bar:
            print(f"    OVER the bar of {bar:,.0f} ms", flush=True)


def opened(run: Path, indexed: bool) -> None:
    """Open the run in this process and print how long it takes, with the first count and its memory."""
    took = timed(lambda: queries.count(Catalog(Run.open(run), indexed=indexed), Filter()))
    print(f"{took:.0f} {memory(peak=True):.0f}")


def build(run: Path) -> None:
    """Build the index in this process and print how long it takes, what it takes on the disk, and its memory."""
    made = build_index(Run.open(run))
    print(f"{made.seconds:.1f} {made.bytes} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def apart(function: str, *arguments: object) -> list[float]:
    """Call a function of this module in a process of its own and return the numbers that it prints."""
    code = f"from pathlib import Path; from benchmarks import million; million.{function}({', '.join(map(repr, arguments))})"
    command = [sys.executable, "-c", code.replace("PosixPath", "Path")]
    return [float(number) for number in subprocess.check_output(command, text=True).split()]


def spotlight(run: Path, python: str) -> None:
    """Open the same samples in Renumics Spotlight: until it answers, and until it has delivered its table."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "samples.parquet"
        catalog = Catalog(Run.open(run))
        import pyarrow.parquet as pq

        names = ", ".join(f's."{name}"' for name in ("sample_id", "label", "pred", "correct", "confidence", "margin",
                          "entropy", "loss", "brightness", "contrast", "meta.camera", "meta.altitude"))  # fmt: skip
        pq.write_table(catalog.query(f"SELECT {names} FROM samples AS s"), table)
        catalog.close()
        script = Path(__file__).with_name("spotlight_peer.py")
        print(
            subprocess.check_output([python, str(script), str(table)], text=True, cwd=folder).strip(),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True, help="where the run lies or is made")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--build", action="store_true", help="build the index anew")
    parser.add_argument("--no-index", action="store_true", help="measure without the index")
    parser.add_argument("--detail", action="store_true", help="print every gallery")
    parser.add_argument("--only", nargs="*", default=[], choices=("open", "galleries", "regions", "pages"))
    parser.add_argument("--spotlight", metavar="PYTHON", help="a Python that has renumics-spotlight")
    asked = parser.parse_args()
    run = asked.run.absolute()
    if not is_run(run):
        make_run(run, asked.samples, len(METHODS), CLASSES)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    if asked.build:
        drop_index(Run.open(run))
    if not asked.no_index and find_index(Run.open(run)) is None:
        seconds, size, peak = apart("build", run)
        samples = Run.open(run).manifest.rows("samples")
        say("index, built at samples a second (bar 15,000 or more)", samples / seconds, None, "/s")
        say("index, on the disk", size / 2**20, None, "MB")
        say("index, memory while it is built", peak, 4_096, "MB")
    indexed = not asked.no_index

    def wanted(part: str) -> bool:
        return not asked.only or part in asked.only

    if wanted("open"):
        found = [apart("opened", run, indexed) for _ in range(3)]
        say(
            "opening and the first count, median of 3 processes",
            statistics.median(t for t, _ in found),
            2_000 if indexed else 10_000,
        )
        say("memory after it", found[-1][1], None, "MB")
    with tempfile.TemporaryDirectory() as folder:
        reviews = Path(folder) / "reviews.sqlite"
        catalog = Catalog(Run.open(run), reviews, indexed)
        tagged = queries.page(catalog, Filter((Is("correct", False),)), Sort("confidence"), 0, 500)
        Reviews(reviews).tag("ann", [Subject.sample(c) for c in tagged["content"].to_pylist()], "look again")
        if wanted("regions"):
            measure_regions(catalog, indexed)
        if wanted("galleries"):
            measure_galleries(catalog, asked.detail)
        if wanted("pages"):
            measure_pages(catalog)
        say("memory now", memory(), 2_048, "MB")
        say("memory at its highest", memory(peak=True), 2_048, "MB")
    if asked.spotlight:
        spotlight(run, asked.spotlight)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)


if __name__ == "__main__":
    main()
