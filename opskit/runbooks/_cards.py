"""What a run shows of itself: a line for a step, a list for checks, a card for the outcome; HTML and text."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from html import escape

from opskit.reports.format import format_duration
from opskit.reports.view import View
from opskit.runbooks._record import Check, CheckResult, Step, summary

MARKS = {CheckResult.PASSED: "✓", CheckResult.FAILED: "✗", CheckResult.NOT_RUN: "–"}
# Legible on white and on JupyterLab's dark ground alike; words and marks tell the same without them.
COLOURS = {
    CheckResult.PASSED: "#2E8B57",
    CheckResult.FAILED: "#D9480F",
    CheckResult.NOT_RUN: "#A16207",
}


def step(step: Step, data: Mapping[str, object]) -> View:
    """A step that ended, and how long it took."""
    result = CheckResult.FAILED if step.error else CheckResult.PASSED
    took = format_duration(step.duration)
    end = f"failed after {took} with {step.error}" if step.error else took
    return View(
        html=f'<p class="opskit-step">{_mark(result)} <strong>{escape(step.name)}</strong> · {escape(end)}</p>',
        text=f"{MARKS[result]} {step.name}: {end}",
        data=data,
    )


def checks(checks: Sequence[Check], data: Mapping[str, object]) -> View:
    """Checks, a line each."""
    return View(
        html=f'<ul class="opskit-checks" style="list-style:none;padding-left:0">{"".join(map(_line, checks))}</ul>',
        text="\n".join(_text(check) for check in checks),
        data=data,
    )


def outcome(
    reason: str,
    checks: Sequence[Check],
    cluster: str,
    duration: timedelta,
    data: Mapping[str, object],
) -> View:
    """The outcome of a run: passed when there is no `reason` why not."""
    result = CheckResult.FAILED if reason else CheckResult.PASSED
    word = "Failed" if reason else "Passed"
    told = reason or summary(list(checks))
    end = f"{cluster}, in {format_duration(duration)}"
    return View(
        html=f'<div class="opskit-card opskit-{word.lower()}" style="border-left:6px solid {COLOURS[result]};'
        f'padding:.6em 1em"><p style="font-size:1.25em;margin:0">{_mark(result)} <strong>{word}</strong></p>'
        f'<p style="margin:.3em 0 0">{escape(told)} · {escape(end)}</p></div>',
        text=f"{MARKS[result]} {word}: {told} ({end})",
        data=data,
    )


def _line(check: Check) -> str:
    word = "" if check.result is CheckResult.PASSED else f"<strong>{check.result}:</strong> "
    detail = f'<span class="opskit-detail"> · {escape(check.detail)}</span>' if check.detail else ""
    name = f'class="opskit-{str(check.result).replace(" ", "-")}"'
    return f"<li {name}>{_mark(check.result)} {word}{escape(check.what)}{detail}</li>"


def _text(check: Check) -> str:
    word = "" if check.result is CheckResult.PASSED else f"{check.result}: "
    return f"{MARKS[check.result]} {word}{check.what}" + (
        f" · {check.detail}" if check.detail else ""
    )


def _mark(result: CheckResult) -> str:
    return (
        f'<span class="opskit-mark" style="color:{COLOURS[result]};font-weight:bold" '
        f'aria-label="{result}" role="img">{MARKS[result]}</span>'
    )
