"""The report as one self-contained page: plain words first, then tables, then the technical appendix.

A pure function of the signed payload's bytes, so that a verifier can make the page again and compare. Whatever
changes the page changes its `VERSION`, and the renderer of every released version stays: a bundle made today must
verify in ten years. No remote resource, no script; what the report says is escaped wherever it appears, and signs that
nobody sees or that turn the order of the letters round are shown as U+FFFD: a name must not read as another one.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files

from audits import statement
from audits.predicate import Attempt, Estimate, Finding, GateResultJson, Predicate
from audits.render import charts, groups, series, words

VERSION = 1
_STYLES = files("audits.render")  # the package may lie in a zip file
_STYLE = (_STYLES / "page.css").read_text(encoding="utf-8")
_STYLE_OF_GROUPS = (_STYLES / "groups.css").read_text(encoding="utf-8")
_DIGEST = re.compile(r"[0-9a-f]{32}")
# By number, not by category: Unicode's tables change, and the page must not.
_UNSEEN = dict.fromkeys(
    (
        0xAD,
        0x61C,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2070),
        0xFEFF,
        *range(0xE0000, 0xE0080),
    ),
    "\ufffd",
)
_SECURITY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(payload: bytes) -> bytes:
    """The page for a verified payload, as UTF-8; `VerificationError` when the payload is no report."""
    predicate = statement.parse(payload)
    parts = [
        _header(predicate),
        _plain_words(predicate),
        _measurements(predicate),
        groups.section(predicate["evidence"]),
        _versions(predicate),
        _history(predicate),
        _certificate(predicate),
        _checking(),
        _appendix(predicate, hashlib.sha256(payload).hexdigest()),
    ]
    name = f"{predicate['model']['name']}, version {predicate['model']['after']['version']}"
    title = f"{'Interim' if words.guards(predicate) else 'Unlearning'} report: {name}"
    style = _STYLE + (_STYLE_OF_GROUPS if "aggregates" in predicate["evidence"] else "")
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_SECURITY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<meta name="generator" content="expunge report page {VERSION}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
    )
    text = head + "\n".join(part for part in parts if part) + "\n</main>\n</body>\n</html>\n"
    return text.translate(_UNSEEN).encode()


def _header(predicate: Predicate) -> str:
    model, guarantee = predicate["model"], predicate["guarantee"]
    facts = [
        ("Report", predicate["reportId"]),
        ("Made", words.moment(predicate["createdAt"])),
        ("Model", model["name"]),
        ("Version", words.replaced(predicate)),
        ("Requests", f"{words.exact_number(predicate['requestBatch']['requests'])}"),
        ("Guarantee", words.CLASSES[guarantee["class"]][0]),
    ]
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    asked, rest = words.heading(predicate)
    name = f'<span class="title">“{escape(model["name"])}”{"" if words.guards(predicate) else ","}</span>'
    return (
        f'<header>\n<p class="kind">{words.kind(predicate)}</p>\n<h1>{asked} {name} {rest}</h1>\n'
        f'<dl class="facts">{cells}</dl>\n<p class="verdict">{escape(_verdict(predicate))}</p>\n</header>'
    )


def _verdict(predicate: Predicate) -> str:
    outcomes = Counter(one["outcome"] for one in predicate["gates"])
    total = sum(outcomes.values())
    name = words.CLASSES[predicate["guarantee"]["class"]][0].lower()
    begun = "Nothing was removed; the requests are open. " if words.guards(predicate) else ""
    if not total:
        return f"Published under the guarantee class “{name}”. The policy asks for no measurement."
    held = f"{outcomes['held']} of {words.count(total, 'requirement')} held"
    weak = outcomes["underpowered"]
    rest = f"; for {weak} the evidence was too weak to tell, which this class allows" if weak else ""
    return f"{begun}Published under the guarantee class “{name}”: {held}{rest}."


def _plain_words(predicate: Predicate) -> str:
    guarantee = predicate["guarantee"]
    gates = _by_metric(predicate["gates"])
    title, meaning = words.CLASSES[guarantee["class"]]
    bound = "" if guarantee["certificate"] is None else f"<p>{escape(words.bound(guarantee['certificate']))}</p>"
    refused = (
        ""
        if guarantee["refused"] is None
        else f"<p><strong>Why there is no certificate:</strong> {escape(guarantee['refused'])}</p>"
    )
    conditions = f"<p>Conditions:</p>{_list(guarantee['conditions'])}" if guarantee["conditions"] else ""
    findings = [
        f"<li><strong>{escape(words.metric(one['metric']).label)}:</strong> "
        f"{escape(words.measured(one, gates.get(one['metric'])))}</li>"
        for one in predicate["evidence"]["findings"]
        if one["metric"] in gates or not gates
    ]
    more = "Everything else that was measured is shown further down." if gates else "No requirement was set."
    return (
        '<section class="plain">\n<h2>In plain words</h2>\n'
        f"<h3>What was asked</h3>\n<p>{escape(words.asked(predicate))}</p>\n"
        f"<h3>What was done</h3>\n<p>{escape(words.done(predicate))}</p>\n"
        f"<h3>Under which guarantee</h3>\n<p><strong>{title}.</strong> {escape(meaning)}</p>\n"
        f"<p>{escape(guarantee['statement'])}</p>{bound}{refused}{conditions}\n"
        f"<h3>What the measurements say</h3>\n<ul>{''.join(findings)}</ul>\n<p>{more}</p>\n"
        f"<h3>What this report does not claim</h3>\n{_list(_limits(predicate))}\n</section>"
    )


def _limits(predicate: Predicate) -> list[str]:
    """The report's own limits, and what follows from a log that nobody watches."""
    if predicate["witnessed"]:
        return predicate["limits"]
    unwitnessed = (
        "When this report was made, no independent witness had confirmed that the log shows everyone the same history."
    )
    return [*predicate["limits"], unwitnessed]


def _measurements(predicate: Predicate) -> str:
    gates = _by_metric(predicate["gates"])
    meant = " What is called removed below is what is to be removed." if words.guards(predicate) else ""
    rows = [
        (
            words.metric(one["metric"]).label,
            words.requirement(one),
            "" if one["interval"] is None else words.interval(*one["interval"], sign=True),
            "" if one["n"] is None else f"{one['n']} (at least {one['minimumN']})",
            _outcome(one),
        )
        for one in predicate["gates"]
    ]
    head = ("Measurement", "Required", "Difference, 95 %", "People measured", "Outcome")
    excluded = predicate["evidence"]["aggregates"]["excluded"] if "aggregates" in predicate["evidence"] else 0
    notes = {"ta": words.left_out(excluded)} if excluded else {}
    cards = [
        _card(one, gates.get(one["metric"]), notes.get(one["metric"], ""))
        for one in _gated_first(predicate["evidence"]["findings"], gates)
    ]
    return (
        "<section>\n<h2>Measurements against their requirements</h2>\n"
        f"<p>Each requirement is about the difference between the published model and a reference: "
        f"{escape(words.REFERENCES[predicate['policy']['reference']])}. It is judged on the whole 95 % interval of "
        f"that difference, never on a single number. The test items were drawn by a seed that follows from the log "
        f"and could not be known before the published weights were fixed.{meant}</p>\n"
        f"{_table(head, rows, whole={2, 4}, raw={4})}\n{series.glance(predicate['gates'])}"
        f'<div class="cards">{"".join(cards)}</div>\n'
        '<p class="soft small">Dots are values, lines their 95 % confidence intervals by resampling data subjects. '
        "The shaded zone is where the difference to the reference has to lie.</p>\n</section>"
    )


def _card(finding: Finding, result: GateResultJson | None, note: str) -> str:
    metric = words.metric(finding["metric"])
    outcome = "No requirement was set; shown for information." if result is None else _outcome(result)
    reading = f"{metric.reading} {note}" if note else metric.reading
    return (
        f'<article class="card"><h3>{escape(metric.label)}</h3><p class="soft">{escape(reading)}</p>'
        f"{charts.values(finding)}{charts.difference(finding, result)}<p>{outcome}</p></article>"
    )


def _history(predicate: Predicate) -> str:
    rows = [
        (
            f"{index}. {one['rung']}",
            f"{words.ATTEMPTS[one['outcome']]}{': ' + why if (why := _why(one)) else ''}",
            words.duration(one["seconds"]),
            words.exact_number(one["logIndex"]),
        )
        for index, one in enumerate(predicate["attempts"], start=1)
    ]
    states = Counter(one["state"] for one in predicate["requestBatch"]["accounted"])
    told = ", ".join(f"{words.exact_number(n)} {state.replace('(', ' (')}" for state, n in states.most_common())
    ledger = predicate["requestBatch"]["ledgerRange"]
    ladder = ", then ".join(predicate["policy"]["ladder"])
    evidence = predicate["evidence"]
    took = f"<p>{escape(words.run_time(evidence['runTime']))}</p>\n" if "runTime" in evidence else ""
    return (
        "<section>\n<h2>What happened, failures included</h2>\n"
        f"<p>The policy “{escape(predicate['policy']['name'])}” prescribes these methods in order: {escape(ladder)}. "
        f"What would be measured, and against which requirement, was entered in the log as entry "
        f"{predicate['plan']['logIndex']}, before the first attempt.</p>\n"
        f"{_table(('Attempt', 'Outcome', 'Took', 'Log entry'), rows, numbers={2, 3})}\n{took}"
        f"<p>Every request of the log's entries {ledger['from']} to {ledger['to']} is accounted for: "
        f"{escape(told)}.</p>\n</section>"
    )


def _why(attempt: Attempt) -> str:
    failed = [one for one in attempt["gates"] if one["outcome"] != "held" and attempt["outcome"] == "gates_failed"]
    told = ", ".join(f"{words.metric(one['metric']).label} ({words.OUTCOMES[one['outcome']][1]})" for one in failed)
    parts = (
        attempt["why"],
        f"Not held: {told}." if told else None,
        f"({attempt['code']})" if attempt["code"] else None,
    )
    return " ".join(part for part in parts if part)


def _versions(predicate: Predicate) -> str:
    """How the model's measurements went on from version to version, where earlier reports told of them."""
    told = series.row_of(predicate)
    if len(told) < 2:  # noqa: PLR2004 - one version is no history
        return ""
    gated = [one["metric"] for one in predicate["gates"]]
    head = ("Version", "Guarantee", "ε", *(words.metric(name).label for name in gated))
    rows = [
        (
            f"{one['version']}",
            words.CLASSES[one["guarantee"]][0],
            words.NOTHING if one["epsilon"] is None else words.number(one["epsilon"]),
            *(_valued(one["metrics"].get(name)) for name in gated),
        )
        for one in told
    ]
    table = _table(head, rows, numbers=set(range(2, len(head))), look="stack wrap")
    return (
        "<section>\n<h2>From version to version</h2>\n"
        "<p>What the reports on earlier versions of this model measured after their own removals, and this one. Each "
        "measured other people's records, so a step between two versions is not the effect of one method.</p>\n"
        f'{table}\n<div class="cards">{series.versions(predicate)}</div>\n'
        "</section>"
    )


def _valued(one: Estimate | None) -> str:
    return words.NOTHING if one is None else f"{words.number(one['value'])} ({words.interval(*one['ci95'])})"


def _certificate(predicate: Predicate) -> str:
    certificate = predicate["guarantee"]["certificate"]
    if certificate is None:
        return ""
    audit, found = certificate["audit"], certificate["learned"]
    rows = [
        ("Theorem", certificate["theorem"]),
        ("Protected unit", certificate["unit"]),
        ("Neighbouring data sets", certificate["neighbours"]),
        ("Units in the training data", words.exact_number(certificate["points"])),
        ("Units deleted since the base was trained", words.exact_number(certificate["unitsDeletedSinceBase"])),
        ("ε for all of them together", words.exact_number(certificate["epsilon"])),
        ("Units that may still be deleted", words.left(certificate)),
        ("ε for one unit", words.exact_number(certificate["singleEpsilon"])),
        ("δ", words.small(certificate["delta"])),
        ("Largest ε that the policy allows", words.exact_number(certificate["epsilonLimit"])),
        ("Mechanism", words.MECHANISMS[certificate["accountant"]["mechanism"]]),
        *((words.constant(one["name"]), words.held(one)) for one in certificate["constants"]),
        *(() if found is None else (("Did the base learn?", words.learned(found)),)),
        ("What is kept between runs", words.STATE[certificate["internalStateCovered"]]),
        ("Privacy audit", words.NO_AUDIT if audit is None else words.audit(audit)),
        ("Commitment to the secret noise seed", certificate["seedCommitment"]),
    ]
    spent = series.budget(certificate, predicate.get("history", []))
    return f"<section>\n<h2>The certificate</h2>\n{spent}{_pairs(rows)}\n</section>"


def _checking() -> str:
    return (
        "<section>\n<h2>How to check this report</h2>\n"
        "<p>This page is a picture of a signed statement and proves nothing by itself. The file "
        "<code>report.dsse.json</code> beside it is what was signed. To check signature, log, measurements and this "
        "page together, without a network:</p>\n"
        "<pre>python -m audits verify BUNDLE --policy FILE</pre>\n"
        "<p>The policy file names the log's key and its witnesses. Take it from somewhere else than this bundle: from "
        "the controller's website, from a supervisory authority, or from a report that you verified earlier.</p>\n"
        "</section>"
    )


def _appendix(predicate: Predicate, digest: str) -> str:
    model, evidence, batch = predicate["model"], predicate["evidence"], predicate["requestBatch"]
    origin = evidence["seedCheckpoint"]
    identities = [
        ("This report's payload, SHA-256", digest),
        ("Previous report, SHA-256", predicate["previousReportDigest"] or "none"),
        ("Model before", model["before"]["digest"]),
        ("Model after", model["after"]["digest"]),
        ("Data set before", predicate["dataset"]["beforeDigest"]),
        ("Data set after", predicate["dataset"]["afterDigest"]),
        ("Program", predicate["method"]["codeDigest"]),
        ("Configuration", predicate["method"]["configDigest"]),
        ("Policy", predicate["policy"]["digest"]),
        ("Verification plan", f"{predicate['plan']['digest']} (log entry {predicate['plan']['logIndex']})"),
        ("Evidence file", evidence["evidenceDigest"]),
        ("Request commitments, Merkle root", batch["commitmentRoot"]),
        ("Evaluation", f"{evidence['suite']}, version {evidence['suiteVersion']}"),
        ("Evaluation seed", evidence["seed"]),
        ("Seed's checkpoint", f"{origin['size']} entries, root {origin['root']}"),
    ]
    times = [
        ("Batch", batch["batchId"]),
        ("Model id", model["modelId"]),
        ("Started", predicate["startedAt"]),
        ("Finished", predicate["finishedAt"]),
        ("Measured", predicate["verifiedAt"]),
        ("Report made", predicate["createdAt"]),
    ]
    files = [(name, words.exact_number(one["size"]), one["sha256"]) for name, one in model["after"]["files"].items()]
    requests = [(one["requestId"], one["state"]) for one in batch["accounted"]]
    return (
        "<section>\n<h2>Technical appendix</h2>\n"
        f"<h3>Digests and references</h3>\n{_pairs(identities)}\n"
        f"<h3>Identifiers and times</h3>\n{_pairs(times)}\n"
        f"<h3>Files of the published model</h3>\n"
        f"{_table(('File', 'Bytes', 'SHA-256'), files, numbers={1}, codes={2})}\n"
        f"<h3>Method: {escape(predicate['method']['variant'] or predicate['method']['name'])}</h3>\n"
        f"{_pairs(_settings(predicate['method']['parameters']))}\n"
        f"<h3>Environment</h3>\n{_pairs(_settings(predicate['method']['environment']))}\n"
        f"<h3>Values as measured</h3>\n{_findings(evidence['findings'])}\n"
        f"{_shapes(groups.numbers(evidence))}"
        f"<h3>Requests accounted for</h3>\n{_table(('Request', 'State'), requests, codes={0})}\n</section>"
    )


def _shapes(rows: list[tuple[str, ...]]) -> str:
    """The numbers behind the ellipses, where there are some."""
    if not rows:
        return ""
    head = ("Group", "Pictures", "Middle (x, y)", "Spread (xx, xy, yy)")
    return f"<h3>Groups of pictures inside the model</h3>\n{_table(head, rows, numbers={1, 2, 3})}\n"


def _findings(findings: Iterable[Finding]) -> str:
    rows = []
    for finding in findings:
        models = (finding["before"], finding["after"], finding["reference"], finding["difference"])
        cells = [f"{one['value']:.4f} [{one['ci95'][0]:.4f}, {one['ci95'][1]:.4f}]" if one else "" for one in models]
        rows.append(
            (finding["metric"], *(cell.replace("-", words.MINUS) for cell in cells), f"{finding['after']['n']}")
        )
    head = ("Metric", "Before", "After", "Reference", "Difference", "n")
    return _table(head, rows, numbers={1, 2, 3, 4, 5}, codes={0})


def _by_metric(results: Iterable[GateResultJson]) -> dict[str, GateResultJson]:
    return {one["metric"]: one for one in results}


def _gated_first(findings: Iterable[Finding], gates: Mapping[str, GateResultJson]) -> list[Finding]:
    return sorted(findings, key=lambda one: one["metric"] not in gates)


def _outcome(result: GateResultJson) -> str:
    sign, word, _ = words.OUTCOMES[result["outcome"]]
    return f'<span class="outcome {result["outcome"]}">{sign} {word}</span>'


def _settings(values: Mapping[str, object]) -> list[tuple[str, str]]:
    pairs = [
        (name, words.exact_number(value) if isinstance(value, int | float) else str(value))
        for name, value in sorted(values.items())
    ]
    return pairs or [("none", "")]


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in items)}</ul>"


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    cells = (
        f'<tr><th scope="row">{escape(name)}</th>'
        f"<td{_class('digest' if _DIGEST.search(text) else '')}>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return f'<div class="scroll"><table class="pairs stack"><tbody>{"".join(cells)}</tbody></table></div>'


def _table(
    head: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    *,
    numbers: Iterable[int] = (),
    codes: Iterable[int] = (),
    whole: Iterable[int] = (),
    raw: Iterable[int] = (),
    look: str = "stack",
) -> str:
    """A table whose cells are escaped, except in the columns `raw`, which hold our own markup."""
    kinds = {
        **dict.fromkeys(numbers, "number"),
        **dict.fromkeys(codes, "digest"),
        **dict.fromkeys(whole, "whole"),
    }
    titles = "".join(
        f'<th scope="col"{_class(kinds.get(column, "") if column in numbers else "")}>{escape(title)}</th>'
        for column, title in enumerate(head)
    )
    body = []
    for row in rows:
        cells = [text if column in raw else escape(text) for column, text in enumerate(row)]
        first, *rest = cells
        labelled = [
            f'<td{_class(kinds.get(column, ""))} data-label="{escape(head[column])}">{cell}</td>'
            for column, cell in enumerate(rest, start=1)
        ]
        body.append(f'<tr><th scope="row"{_class(kinds.get(0, ""))}>{first}</th>{"".join(labelled)}</tr>')
    return (
        f'<div class="scroll"><table class="{look}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
