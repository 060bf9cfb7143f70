"""`verify`: proves or refutes a run's findings on the original images, with the model that was explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from cache.catalog import Catalog
from cache.errors import ConfigError, DatasetError, RunMismatchError
from cache.filters import Filter
from cache.findings import Finding, Findings, load_findings, store_findings
from cache.locations import Location
from cache.queries import count
from cache.run import Run
from cache.summaries import Totals, summary_sentences
from cache.writer import RunWriter
from engine.progress import Reporter, Silent
from engine.verifying.cases import Case, dice
from engine.verifying.reopening import open_model, open_originals
from engine.verifying.subjects import Loader, Tally
from engine.verifying.verdicts import reranked

LOOKED_AT = 16
"""Images that are looked at first, to see whether the originals are there and are those that were explained."""
CHANGED_SHARE = 0.5
"""Where the model predicts something else for more of the images than this, the images or the model are not the run's."""


@dataclass
class Verified:
    """What `verify` did.

    Attributes:
        findings: The run's, re-ranked.
        tested: Findings tested now.
        kept: Findings whose results were there already.
        untestable: Findings asked for that could not be tested.
        tally: What became of the images.
        seconds: How long it took.
        notices: Sentences that a person should read.
        summary: The run in plain words.
    """

    findings: tuple[Finding, ...] = ()
    tested: int = 0
    kept: int = 0
    untestable: int = 0
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    notices: list[str] = field(default_factory=list)
    summary: tuple[str, ...] = ()


def verify(
    path: Location,
    *,
    ranks: Sequence[int] | None = None,
    data_root: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    checkpoint: str | None = None,
    reporter: Reporter | None = None,
) -> Verified:
    """Test a run's findings, publish each result as it is done, and rank the findings anew.

    Findings that have a verdict are not tested again, so that an interrupted verification goes on where it stopped:
    a list belongs to one model, and `discover` begins a new one.

    Args:
        path: The run.
        ranks: Which findings; None for all.
        data_root: Where the originals are, if they moved.
        device: auto, cpu, cuda, cuda:1, mps.
        batch_size: Views of one forward pass; None measures how many fit.
        checkpoint: Where the weights are, if they moved.
        reporter: Receives progress.

    Raises:
        GazelakeError: Something that the user can mend, in one sentence.
    """
    reporter, began = reporter or Silent(), monotonic()
    run = Run.open(path)
    found = load_findings(run)
    wanted = _wanted(found, ranks, path)
    result = Verified(found.findings, kept=sum(found.findings[at].verdict != "untested" for at in wanted))
    todo = [at for at in wanted if found.findings[at].verdict == "untested"]
    catalog = Catalog(run)
    if todo:
        reporter.say("Loading PyTorch and the model …")
        predict = open_model(run.manifest, device, batch_size, checkpoint)
        loader = Loader(catalog, predict, open_originals(run.manifest, data_root), result.tally)
        _refuse_without_originals(loader, [found.findings[at] for at in todo], path)
        with RunWriter(path) as writer:
            _refuse_other_list(writer, found, path)
            findings, started = list(found.findings), monotonic()
            for number, at in enumerate(todo, 1):
                findings[at] = Case(loader, findings[at], run.manifest.classes).tested()
                done = findings[at].verdict != "untested"
                result.tested += done
                result.untestable += not done
                store_findings(writer, replace(found, findings=tuple(findings)))
                each = (monotonic() - started) / number
                reporter.say(
                    f"{number} of {len(todo)} · {findings[at].title}: {findings[at].verdict} · {each:.1f} s a finding · "
                    f"{each * (len(todo) - number):.0f} s left"
                )
            result.findings = reranked(findings, count(catalog, Filter()).wrong)
            store_findings(writer, replace(found, findings=result.findings))
        result.notices = _notices(result)
    totals = Totals.of(catalog)
    result.summary = summary_sentences(result.findings, totals, run.manifest.classes)
    result.seconds = monotonic() - began
    return result


def _wanted(found: Findings, ranks: Sequence[int] | None, path: Location) -> list[int]:
    if not found.discovered:
        raise ConfigError(
            f"{path} has no list of findings yet: make it with `python -m engine discover {path}`."
        )
    by_rank = {finding.rank: at for at, finding in enumerate(found.findings)}
    if ranks is None:
        return list(by_rank.values())
    missing = [rank for rank in ranks if rank not in by_rank]
    if missing:
        raise ConfigError(
            f"{path} has no finding {missing[0]}, only 1 to {len(by_rank)}: `python -m engine findings {path}` lists them."
            if by_rank
            else f"{path} has no findings, so that there is no finding {missing[0]} to verify: leave --findings out."
        )
    return [by_rank[rank] for rank in dict.fromkeys(ranks)]


def _refuse_without_originals(loader: Loader, findings: Sequence[Finding], path: Location) -> None:
    """Look at a few of the images first: where none is there, or most are others, no finding can be tested."""
    ids = sorted({sample_id for finding in findings for sample_id in finding.sample_ids[:20]})
    chosen = dice(loader, "a look first").permutation(len(ids))[:LOOKED_AT]
    loader.load([ids[i] for i in chosen])
    tally = loader.tally
    if tally.gone and not tally.read:
        raise DatasetError(
            f"The original images of {path} cannot be read ({tally.example.rstrip('.')}): name where they are now with "
            "--data-root; the findings can still be looked at, untested."
        )
    if tally.changed > CHANGED_SHARE * tally.read:
        raise RunMismatchError(
            f"The model predicts other classes than {path} says for {tally.changed} of {tally.read} images, so that the "
            "images are not those that were explained: name the right ones with --data-root, or run `explain` again."
        )


def _refuse_other_list(writer: RunWriter, found: Findings, path: Location) -> None:
    if load_findings(Run.open(writer.path)) != found:
        raise RunMismatchError(f"The findings of {path} were made anew in the meantime: verify them again.")


def _notices(result: Verified) -> list[str]:
    tally, notices = result.tally, []
    if tally.gone:
        notices.append(
            f"{tally.gone:,} originals could not be read and took no part in the tests: {tally.example}"
        )
    if tally.changed:
        notices.append(
            f"{tally.changed:,} images took no part in the tests, since the model predicts another class for them than "
            "the run says: they changed since they were explained."
        )
    return notices


def verified_lines(result: Verified, path: Location) -> list[str]:
    """Return what `verify` came to, in lines for a person, with the next command at the end."""
    did = [f"{result.tested:,} finding{'s' * (result.tested != 1)} tested"]
    if result.kept:
        did.append(f"{result.kept:,} reused")
    if result.untestable:
        did.append(f"{result.untestable:,} could not be tested")
    lines = ["", f"{' · '.join(did)} in {result.seconds:.1f} s", ""]
    for finding in result.findings:
        lines.append(f"{finding.rank:>3}  {finding.verdict:<12}  {finding.title}")
        lines += [f"     {reason}" for reason in finding.reasons]
    lines += [*([""] if result.findings else []), *result.summary]
    lines += [f"Note: {notice}" for notice in result.notices]
    return [*lines, f"Look at it:  python -m dashboard serve {path} --page findings"]
