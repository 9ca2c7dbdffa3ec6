"""`panel`: labels of the same completions by several judges to their agreement, and to one label by a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from msgspec.structs import replace

from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.records.panel import Disagreement, JudgeAgreement, JudgePair, LanguagePanel, PanelAgreement, VoteRule
from refusalctl.records.rows import Label, Outcome
from refusalctl.stats.panel import TIE, agreement, shared_flag, vote
from refusalctl.steps.labelling.labels import LABELS_FILE, read_labels
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact


@dataclass(frozen=True)
class Group:
    """The labels of one completions artifact, by the judges' names, each in one order of prompts."""

    key: str
    about: JsonObject
    artifacts: dict[str, Artifact]
    rows: dict[str, list[Label]]

    @property
    def lang(self) -> str:
        return str(self.about["lang"])

    @property
    def where(self) -> list[tuple[str, str]]:
        """Completions (short id, or the condition where there is none) and prompt id of every row."""
        some = next(iter(self.artifacts.values()))
        name = short(self.key) if "completions" in some.inputs else str(self.about.get("condition"))
        return [(name, row.prompt_id) for row in self.first]

    @property
    def votes(self) -> list[tuple[Outcome, ...]]:
        """Outcomes [n_completions][n_judges]."""
        return list(zip(*([row.outcome for row in rows] for rows in self.rows.values())))

    @property
    def first(self) -> list[Label]:
        return next(iter(self.rows.values()))

    @property
    def clusters(self) -> list[str]:
        return [row.cluster or row.prompt_id for row in self.first]


def groups(artifacts: Sequence[Artifact]) -> list[Group]:
    """Labels sorted by the completions that they are of.

    Raises `BadInput` when a judge is there twice or alone, when completions were not judged by the same judges, or when
    labels of one completions artifact hold different prompts.
    """
    unique = list({artifact.id: artifact for artifact in artifacts}.values())
    known = {(source_of(artifact), judge_name(artifact)) for artifact in unique}
    sorted_: dict[str, dict[str, Artifact]] = {}
    for artifact in unique:
        home = sorted_.setdefault(source_of(artifact), {})
        name = judge_name(artifact, full=len(known) < len(unique))
        if name in home:
            raise BadInput(
                f"the judge {name!r} labelled the same completions in {home[name].label} and {artifact.label}",
                hint="a panel takes every judge once",
            )
        home[name] = artifact
    found = [_group(key, home) for key, home in sorted_.items()]
    judges = {tuple(sorted(group.rows)) for group in found}
    if len(judges) > 1:
        listed = "; ".join(", ".join(each) for each in sorted(judges))
        raise BadInput(f"completions were judged by different judges ({listed})", hint="judge all by the same ones")
    if not judges or len(next(iter(judges))) < 2:
        raise BadInput("a panel needs labels of the same completions by at least two judges")
    return found


def source_of(labels: Artifact) -> str:
    """The id of the completions; for labels imported without text, their file, language and condition."""
    if labels.kind != "labels":
        raise BadInput(f"{labels.label} holds no labels")
    params = labels.manifest["recipe"]["params"]
    imported = "/".join(str(params.get(k)) for k in ("sha256", "lang", "condition"))
    return labels.inputs.get("completions") or imported


def judge_name(labels: Artifact, *, full: bool = False) -> str:
    """`wildguard` or `wildguard on back-translation`; in `full` with the translator and the digest of its weights."""
    name = str(labels.about["judge"])
    digest = labels.manifest["recipe"]["params"].get("judge_digest")
    if full and digest:
        name += f" #{digest[:6]}"
    if labels.about.get("text") == "back-translation":
        name += " on back-translation" + (f" by {labels.about.get('translator')}" if full else "")
    return name


def _group(key: str, home: Mapping[str, Artifact]) -> Group:
    artifacts = {name: home[name] for name in sorted(home)}
    found = {name: {row.prompt_id: row for row in read_labels(a)} for name, a in artifacts.items()}
    order = list(next(iter(found.values())))
    for name, rows in found.items():
        if set(rows) != set(order):
            raise BadInput(
                f"{artifacts[name].label} labels {len(rows)} prompts, {next(iter(artifacts.values())).label} "
                f"{len(order)}, {len(set(rows) & set(order))} of them the same",
                hint="a panel needs labels of the same completions",
            )
    rows_of = {name: [rows[i] for i in order] for name, rows in found.items()}
    return Group(key, next(iter(artifacts.values())).about, artifacts, rows_of)


def _run(job: Job) -> RunChecks:
    found = groups(list(job.inputs.values()))
    rule = job.params["rule"]
    langs: dict[str, list[Group]] = {}
    for group in found:
        langs.setdefault(group.lang, []).append(group)
    value = PanelAgreement(
        judges=tuple(found[0].rows),
        rule=rule,
        labels={group.key: {name: a.id for name, a in group.artifacts.items()} for group in found},
        languages={lang: _language(each, rule) for lang, each in langs.items()},
    )
    formats.write_record(job.out, value)
    return {"completions": sum(len(group.first) for group in found)}


def _language(found: Sequence[Group], rule: VoteRule) -> LanguagePanel:
    """Agreement over all completions of one language, what the rule makes of them, and where judges disagree."""
    votes = [row for group in found for row in group.votes]
    clusters = [cluster for group in found for cluster in group.clusters]
    names = list(found[0].rows)
    together = [vote(row, rule).outcome for row in votes]
    where = [each for group in found for each in group.where]
    return LanguagePanel(
        n=len(votes),
        pairs=tuple(_pair(names, votes, clusters, where, i, j) for i, j in combinations(range(len(names)), 2)),
        all_judges=JudgeAgreement(**agreement(votes, clusters)._asdict()) if len(names) > 2 else None,
        votes=dict(sorted(Counter(together).items())),  # type: ignore[arg-type]
        ties=tuple(each for each, outcome in zip(where, together) if outcome == TIE),
    )


def _pair(
    names: Sequence[str],
    votes: Sequence[Sequence[Outcome]],
    clusters: Sequence[str],
    where: Sequence[tuple[str, str]],
    i: int,
    j: int,
) -> JudgePair:
    two = [(row[i], row[j]) for row in votes]
    apart: dict[tuple[Outcome, Outcome], list[tuple[str, str]]] = {}
    for pair, each in zip(two, where):
        if pair[0] != pair[1]:
            apart.setdefault(pair, []).append(each)
    ordered = sorted(apart.items(), key=lambda item: (-len(item[1]), item[0]))
    return JudgePair(
        first=names[i],
        second=names[j],
        agreement=JudgeAgreement(**agreement(two, clusters)._asdict()),
        disagreements=tuple(Disagreement(a, b, len(places), tuple(places)) for (a, b), places in ordered),
    )


PANEL = Step("panel", 3, "panel", _run)


def form_panel(bench: Workbench, labels: Sequence[Artifact], rule: VoteRule = "majority") -> Artifact:
    """Agreement of the judges of these labels per language, and their votes by `rule`. Raises what `groups` does."""
    found = groups(labels)
    ordered = sorted({each.id: each for each in labels}.values(), key=lambda a: a.id)
    inputs = {f"labels:{i}": each for i, each in enumerate(ordered)}
    about: JsonObject = {
        "langs": ",".join(sorted({group.lang for group in found})),
        "judges": ", ".join(found[0].rows),
        "rule": rule,
        "n": sum(len(group.first) for group in found),
    }
    return bench.obtain(PANEL, {"rule": rule}, inputs, about)


def panel_labels(bench: Workbench, made: Artifact, labels: Sequence[Artifact]) -> list[Artifact]:
    """The panel's own labels, one artifact per completions artifact, by the judge `panel:RULE`."""
    rule = made.manifest["recipe"]["params"]["rule"]
    artifacts = []
    for group in groups(labels):
        inputs = {"panel": made}
        some = next(iter(group.artifacts.values()))
        if "completions" in some.inputs:
            inputs["completions"] = bench.store.open("completions", some.inputs["completions"])
        about = {k: v for k, v in group.about.items() if k != "text"} | {"judge": f"panel:{rule}"}
        step = Step("panel-labels", 1, "labels", _writer(group, rule))
        artifacts.append(bench.obtain(step, {"rule": rule, "of": group.key, "judge": f"panel:{rule}"}, inputs, about))
    return artifacts


def _writer(group: Group, rule: VoteRule) -> Callable[[Job], RunChecks]:
    def run(job: Job) -> RunChecks:
        rows = [_together(each, rule) for each in zip(*group.rows.values())]
        formats.write_rows(job.out / LABELS_FILE, (row.to_json() for row in rows))
        return dict(Counter(row.outcome for row in rows))

    return run


def _together(rows: Sequence[Label], rule: VoteRule) -> Label:
    """One label of several. A tie is `unparsed` with the votes as its reason: it is in no rate."""
    said = vote([row.outcome for row in rows], rule)
    tied = said.outcome == TIE
    return replace(
        rows[0],
        outcome="unparsed" if tied else said.outcome,
        reason=f"tie: {said.reason}" if tied else said.reason,
        judge=f"panel:{rule}",
        harmful=shared_flag([row.harmful for row in rows]),
        score=None,
        input_cut=any(row.input_cut for row in rows),
    )


def read_panel(artifact: Artifact) -> PanelAgreement:
    return formats.read_record(artifact.path, PanelAgreement)
