"""What a search leaves to read: trials.csv, search.html, best.yaml, search.json, and a table on the terminal."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from ct_xception.checkpoint import SEARCH
from ct_xception.checkpoint_files import SearchRecord
from ct_xception.files import write_atomically, write_json
from ct_xception.html import render_page
from ct_xception.statistics.intervals import describe_metric
from ct_xception.training.options import option_defaults
from ct_xception.training.search.space import apply_options
from ct_xception.training.search.study import EPOCHS, REASON, REFERENCE, counted, finished, pareto_front

if TYPE_CHECKING:
    import optuna

    from ct_xception.statistics.selection import Selection
    from ct_xception.training.search.study import Search

TRIALS, PAGE, BEST = "trials.csv", "search.html", "best.yaml"
CLEAR, GRID = "rgba(0,0,0,0)", "rgba(128,128,128,0.3)"


def write_trials(study: optuna.Study, search: Search) -> None:
    """trials.csv: a row a trial, its state, what it scored, its options, its epochs and seconds."""
    names, objectives = [one.name for one in search.space.dimensions], search.options.objectives
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    # The options may be called like the figures: loss, epochs.
    rows.writerow(["trial", "state", *_heads(objectives), *names, "epochs trained", "seconds", "folder", REASON])
    for one in counted(study):
        options, noted = search.space.values(one.params), one.user_attrs
        scored = one.values if one.state.name == "COMPLETE" else [""] * len(objectives)
        notes = [noted.get(name, "") for name in (EPOCHS, "seconds", "folder", REASON)]
        rows.writerow([one.number, one.state.name.lower(), *scored, *(options.get(name, "") for name in names), *notes])
    write_atomically(search.folder / TRIALS, stream.getvalue())


def report_search(study: optuna.Study, search: Search, judged: tuple[Selection, list[Any]] | None) -> dict[str, Any]:
    """Write everything, print the table and the verdict; the record, as search.json has it."""
    write_trials(study, search)
    winner = judged[1][judged[0].best] if judged and len(search.options.objectives) == 1 else pareto_front(study)[0]
    options = search.space.values(winner.params)
    # As in the trials, the figure that was searched for chooses the epoch.
    config = replace(apply_options(search.recipe, options), metric=search.options.objectives[0])
    record: dict[str, Any] = {
        "format": 1,
        "space": search.space.to_json(),
        "proxy": dict(search.proxy),
        "objectives": list(search.options.objectives),
        "sampler": search.options.sampler,
        "pruner": search.options.pruner if search.options.prunes else "none",
        "folds": search.options.folds,
        "trials": {state: sum(one.state.name == state for one in counted(study)) for state in ("COMPLETE", "PRUNED")},
        "epochs": sum(one.user_attrs.get(EPOCHS, 0) for one in counted(study)),
        "winner": {
            "number": winner.number,
            "chosen": options,
            "values": list(winner.values),
            "folder": winner.user_attrs.get("folder", ""),
            "options": config.mapping,
        },
        "front": [one.number for one in pareto_front(study)],
        "selection": None if judged is None else selection_record(judged[0], judged[1]),
        "verdict": [*_front_in_words(study, winner), *verdict(judged)],
    }
    write_json(search.folder / SEARCH, record)
    write_atomically(search.folder / BEST, _best_yaml(config.mapping, record))
    write_page(study, search, record)
    print("\n".join(["", *_table(study, search), "", *record["verdict"]]), flush=True)
    print(f"written to {search.folder}/: {BEST} (train_hf.py --config takes it), {TRIALS}, {PAGE}, {SEARCH}")
    return record


def _front_in_words(study: optuna.Study, winner: optuna.trial.FrozenTrial) -> list[str]:
    """With several objectives, how the winner came to be one."""
    if len(winner.values) < 2:
        return []
    front = ", ".join(str(one.number) for one in pareto_front(study))
    return [f"No trial beats these in every objective: {front}. The first objective alone chose among them."]


def told_search(search: Search, record: Mapping[str, Any]) -> SearchRecord:
    """What the winner's checkpoint says of the search that chose it."""
    own = {name: record[name] for name in ("proxy", "objectives", "sampler", "pruner", "folds", "trials", "epochs")}
    told = {"space": search.space.words(), "winner": record["winner"]["number"], "verdict": list(record["verdict"])}
    return SearchRecord.of(own | told, SEARCH)


def selection_record(selection: Selection, trials: Sequence[Any]) -> dict[str, Any]:
    """What the choice is worth, as JSON: see `statistics/selection.py`."""
    return {
        "score": selection.score,
        "judged": [trial.number for trial in trials],
        "apparent": selection.apparent.to_json(),
        "corrected": selection.corrected.to_json(),
        "optimism": selection.optimism,
        "gain": None if selection.gain is None else selection.gain.to_json(),
        "beats_reference": selection.beats_reference,
    }


def verdict(judged: tuple[Selection, list[Any]] | None) -> list[str]:
    """What may be believed of the winner's figure, in sentences."""
    if judged is None:
        return ["No answers of the trials are kept here, so what the choice is worth cannot be said."]
    found, trials = judged
    lines = [
        f"Best of {len(trials)}: trial {trials[found.best].number}, validation {found.score} "
        f"{describe_metric(found.apparent)} as chosen.",
        f"Such a choice is worth {describe_metric(found.corrected)} on patients without a say in it "
        f"({_flattery(found.optimism)}).",
    ]
    if found.gain is None:
        return [*lines, "The recipe that the search began with was not among the trials: no gain over it is claimed."]
    if trials[found.best].user_attrs.get(REFERENCE):
        return [*lines, "That is the recipe that the search began with: no trial was better."]
    gain = describe_metric(found.gain)
    if found.beats_reference:
        return [*lines, f"It beats the recipe that the search began with by {gain}."]
    return [
        *lines,
        f"It does NOT beat the recipe that the search began with beyond chance (gain {gain}): keep that one.",
    ]


def _flattery(optimism: float) -> str:
    return f"the choice flatters by {optimism:.4f}" if optimism > 0 else "no flattery was found"


def _rows(study: optuna.Study, search: Search, count: int) -> list[list[str]]:
    """The best trials as cells, the first row their names."""
    objectives, names = search.options.objectives, [one.name for one in search.space.dimensions]
    sign = 1 if search.options.directions[0] == "minimize" else -1
    cells = [["trial", *_heads(objectives), *names]]
    for one in sorted(finished(study), key=lambda one: sign * one.values[0])[:count]:
        options = search.space.values(one.params)
        cells.append(
            [str(one.number), *(f"{value:.4f}" for value in one.values), *(_short(options.get(n)) for n in names)]
        )
    return cells


def _heads(objectives: Sequence[str]) -> list[str]:
    """The objectives as heads of columns."""
    return [name if name == "parameters" else f"validation {name}" for name in objectives]


def _table(study: optuna.Study, search: Search) -> Iterator[str]:
    cells = _rows(study, search, 10)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _best_yaml(options: dict[str, Any], record: dict[str, Any]) -> str:
    """The winner's options as --config takes them: those that are not the defaults."""
    defaults = option_defaults()
    kept = {
        name: value
        for name, value in options.items()
        if value != defaults[name] and name not in ("output_dir", "resume")
    }
    if "augment" in kept:
        kept["augment"] = {name: float(value) for name, value in kept["augment"].items()}
    head = "".join(f"# {line}\n" for line in record["verdict"])
    stated = yaml.safe_dump(kept, sort_keys=True, allow_unicode=True)
    return f"# Trial {record['winner']['number']} of a search.\n{head}{stated}"


def write_page(study: optuna.Study, search: Search, record: dict[str, Any]) -> None:
    """search.html: Optuna's own plots in one page that opens offline; without plotly there is none, which is said."""
    try:
        import plotly  # noqa: F401
    except ImportError:
        print("no search.html: plotly is not installed; pip install 'ct-xception[tune]'.")
        return
    plots, script = list[dict[str, str]](), True
    for title, draw in _plots(study, search):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of evaluators that Optuna may change
                plots.append({"title": title, "drawn": _drawn(draw(), with_script=script), "why_not": ""})
            script = False
        except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few trials for this plot
            plots.append({"title": title, "drawn": "", "why_not": str(error)})
    slots = {"verdict": record["verdict"], "table": _rows(study, search, 20), "plots": plots}
    width = f"{5 * (len(search.space.dimensions) + len(search.options.objectives))}rem"
    write_atomically(search.folder / PAGE, render_page("Search of hyperparameters", _PAGE, **slots, width=width))


def _drawn(figure: Any, *, with_script: bool) -> str:
    """A plot as a part of the page, which has its title and its ground already."""
    figure.update_layout(
        title=None, margin={"t": 30, "b": 60, "l": 70, "r": 30}, paper_bgcolor=CLEAR, plot_bgcolor=CLEAR
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)
    config = {"displaylogo": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=with_script, config=config))


def _plots(study: optuna.Study, search: Search) -> Iterator[tuple[str, Any]]:
    from optuna import visualization

    objectives = search.options.objectives
    if len(objectives) > 1:
        yield "Front", lambda: visualization.plot_pareto_front(study, target_names=list(objectives))
    for index, name in enumerate(objectives):
        several = (
            {"target": lambda one, index=index: one.values[index], "target_name": name}
            if len(objectives) > 1
            else {"target_name": name}
        )
        yield f"Course of {name}", lambda named=several: visualization.plot_optimization_history(study, **named)
        yield (
            f"Which options mattered for {name}",
            lambda named=several: visualization.plot_param_importances(study, **named),
        )
        yield f"Every option against {name}", lambda named=several: visualization.plot_slice(study, **named)
        yield (
            f"Trials side by side, {name}",
            lambda named=several: visualization.plot_parallel_coordinate(study, **named),
        )
    if len(objectives) == 1:
        yield "Learning curves", lambda: visualization.plot_intermediate_values(study)


_PAGE = """
<style>
.plot { --card: #fbfcfd; --ink: #17202b; color: var(--ink); } /* Optuna's colours are for a light ground */
.side { min-width: {{ width }}; }
</style>
<header class="top"><h1>Search of hyperparameters</h1>
<p class="quiet">Every figure here is of validation. The test split was not looked at by any trial.
For research use only.</p></header>
<main>
<div class="card"><ul>{% for line in verdict %}<li>{{ line }}</li>{% endfor %}</ul></div>
<h2>The best trials</h2>
<div class="card scroll" tabindex="0" role="region" aria-label="The best trials"><table>
<thead><tr>{% for name in table[0] %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table[1:] %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% for plot in plots %}
<h2>{{ plot.title }}</h2>
<div class="card scroll plot" tabindex="0" role="region" aria-label="{{ plot.title }}">
{% if plot.drawn %}
<div{% if plot.title.startswith("Trials") %} class="side"{% endif %}>{{ plot.drawn | safe }}</div>
{% else %}
<p>Not drawn: {{ plot.why_not }}</p>
{% endif %}
</div>
{% endfor %}
</main>
"""
