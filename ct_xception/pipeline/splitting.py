"""The first stage: load the corpus, look for what is wrong with it, and settle its splits."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list

from ct_xception.audit.audit import audit_corpus, audit_summary, keep_audit, write_audit
from ct_xception.audit.overlap import find_overlaps, overlap_findings
from ct_xception.checkpoint import CORPUS, MODEL, OPTIONS, SPLIT
from ct_xception.checkpoint_files import read_side
from ct_xception.corpus.inspection import problems_of_survey
from ct_xception.corpus.load import corpus_summary, load_corpus, public_report
from ct_xception.corpus.split import split_corpus
from ct_xception.corpus.tables.beside import describe_missing, tabular_record, without_columns
from ct_xception.errors import CorpusError, InputError
from ct_xception.evaluation.continuity import too_few_to_judge
from ct_xception.evaluation.shift.external import External, describe_plan, load_external, plan_external
from ct_xception.files import write_json
from ct_xception.pipeline.context import Context
from ct_xception.statistics.class_groups import partition_classes
from ct_xception.training.data.replay import load_old
from ct_xception.training.data.unlabelled import load_unlabelled, settle_unlabelled
from ct_xception.training.distributed import main_first
from ct_xception.training.preflight import check_corpus

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ct_xception.audit.report import Audit
    from ct_xception.corpus.load import Corpus
    from ct_xception.evaluation.shift.external import Plan
    from ct_xception.training.options import TrainConfig


def load_and_split(config: TrainConfig, run: Path, accelerator: Accelerator, command: str) -> Context:
    """Load the corpus, look for what is wrong with it, honour or make its splits; write and print what was found."""
    with main_first(accelerator):
        # The audit's survey decodes every file: loading need not do so too.
        options = config.corpus_options.without_external(config.external)
        corpus = load_corpus(config.corpus, replace(options, decode=not config.audit))
    if config.class_groups:
        partition_classes(config.class_group_lists, corpus.label_names)
    audit, patients = _audit_once(config, run, accelerator, corpus)
    fractions = (1 - config.valid_fraction - config.test_fraction, config.valid_fraction, config.test_fraction)
    splits, split, report = split_corpus(corpus, patients, fractions=fractions, seed=config.seed)
    if beside := tabular_record(splits, options):
        report = report | {"tabular": beside}
    check_corpus(config, run, corpus.label_names, split)
    if accelerator.is_main_process:
        _write_record(run, {OPTIONS: config.mapping, CORPUS: report, SPLIT: split})
        print("\n".join([corpus_summary(report), *describe_missing(beside)]), flush=True)
        if audit is not None:
            _write_audit(run, audit)
    with main_first(accelerator):
        old = load_old(config, corpus.label_names, run / "cache")
    context = Context(config, run, accelerator, command, public_report(report), splits, split, audit, patients, old)
    if config.init is not None and accelerator.is_main_process:
        for told in too_few_to_judge(context.corpora, config.margin):
            print(f"warning: {told}.", file=sys.stderr, flush=True)
    return _settle_unlabelled(context) if config.unlabelled else context


def _settle_unlabelled(context: Context) -> Context:
    """The corpora of --unlabelled, and what they share with the labelled ones, which the main process looks for."""
    config, cache = context.config, context.run / "cache"
    with main_first(context.accelerator):
        corpora = load_unlabelled(config)
    with main_first(context.accelerator):  # the others find what was found
        return replace(context, unlabelled=settle_unlabelled(corpora, context.corpora, config, cache))


def _audit_once(
    config: TrainConfig, run: Path, accelerator: Accelerator, corpus: Corpus
) -> tuple[Audit | None, dict[str, str] | None]:
    """The audit, on the main process, and on every one whose each image probably is; None without an audit."""
    if not config.audit:
        accelerator.print("no audit: leaks are not looked for, and neither twins nor simple rules are measured.")
        return None, None
    audit = None
    if accelerator.is_main_process:
        audit = audit_corpus(
            corpus, window=config.reading.window, frame=config.frame, seed=config.seed, cache=run / "cache"
        )
    told = (None, []) if audit is None else (dict(audit.patients), _problems(corpus, audit))
    patients, problems = broadcast_object_list([told])[0]
    if problems:
        raise CorpusError(problems)
    return audit, patients


def _problems(corpus: Corpus, audit: Audit) -> list[str]:
    """What the audit's survey could not read, and masks of another size than their images."""
    survey = audit.survey
    shapes = zip(survey.attributes["height"].tolist(), survey.attributes["width"].tolist(), strict=True)
    sizes = {
        source: (int(rows), int(columns))
        for source, (rows, columns) in zip(survey.sources, shapes, strict=True)
        if source not in survey.failed
    }
    return problems_of_survey(corpus.dataset, survey.failed, sizes)


def _write_audit(run: Path, audit: Audit) -> None:

    write_audit(audit, run)
    keep_audit(audit, run / "cache")
    print(audit_summary(audit), flush=True)
    if audit.warning():
        print(f"warning: {audit.warning()}", file=sys.stderr, flush=True)


def look_across(context: Context) -> Context:
    """Look, on the main process, for test images of one corpus that another one trains on; nothing without --replay."""
    if context.audit is None or not context.old:
        return context
    reading = context.config.reading
    overlaps = find_overlaps(
        context.corpora,
        cache=context.run / "cache",
        window=reading.window,
        frame=reading.frame,
        modality=context.config.modality,
    )
    findings = overlap_findings(overlaps)
    audit = context.audit.with_findings(findings)
    if findings:
        write_audit(audit, context.run)
        print(f"warning: {' '.join(finding.title for finding in findings)}", file=sys.stderr, flush=True)
    return replace(context, audit=audit, overlaps=overlaps)


def plan_externals(context: Context) -> Context:
    """Settle what the corpora of --external can be asked, and what they share with this one, before training starts."""
    found = []
    for name, source in context.config.external.items():
        with main_first(context.accelerator):
            corpus = load_external(name, source, context.config.corpus_options)
        plan, problem = broadcast_object_list([_plan(context, name, corpus)])[0]
        if plan is None:
            raise InputError(problem)
        for note in without_columns(corpus.report):
            context.accelerator.print(f"--external {name}: {note}.")
        context.accelerator.print(describe_plan(name, plan))
        found.append(External.of(name, plan, corpus, context.config.corpus_options))
    return replace(context, externals=tuple(found))


def _plan(context: Context, name: str, corpus: Corpus) -> tuple[Plan | None, str]:
    """The main process's plan for one external corpus, or what is wrong with it."""
    if not context.accelerator.is_main_process:
        return None, ""
    config, before = context.config, read_side(context.run / MODEL)
    groups = config.class_group_lists or ({} if before is None else before.to_json().get("class_groups", {}))
    try:
        plan = plan_external(
            name,
            corpus,
            context.label_names,
            class_groups=groups,
            class_map=config.class_map,
            learnt=None if context.audit is None else context.learnt,
            options=config.corpus_options,
        )
    except InputError as error:
        return None, str(error)
    return plan, ""


def _write_record(run: Path, records: dict[str, Any]) -> None:
    """The run folder begins with what was asked for and what was found; before that nothing is written."""
    for name, record in records.items():
        write_json(run / name, record)
