"""`mgem doctor`: check whether the configuration works on this machine, and show the command that fixes a problem."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from mgem_agent.cli.printing import echo_json, open_console

if TYPE_CHECKING:
    from mgem_agent.doctor.finding import Finding
    from mgem_agent.settings import PictureDisplay

__all__ = ["doctor"]

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "problem": ("✗", "bold red")}


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Check this reasoner instead of the configured one.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option("--generator", "-g", help="Check this generator instead of the configured one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Check the installation, show what is missing, and print the command that fixes it.

    Nothing is downloaded, loaded or changed. Exit status: 0 if the configuration works, 1 if not.
    """
    from mgem_agent.cli.factories import go_offline
    from mgem_agent.doctor.doctor import diagnose
    from mgem_agent.settings import load_settings

    settings = load_settings(model=model, generator=generator)
    go_offline(settings)
    findings: list[Finding] = []
    for finding in diagnose(settings):
        findings.append(finding)
        if not as_json:
            _print(finding)
    findings.append(_terminal(settings.images))
    problems = [finding for finding in findings if finding.status == "problem"]
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        echo_json({"able": not problems, "findings": rows})
    else:
        _print(findings[-1])
        _print_verdict(len(problems))
    raise typer.Exit(1 if problems else 0)


def _terminal(images: PictureDisplay) -> Finding:
    """How the terminal will show pictures."""
    from mgem_agent.cli.display.pictures import PictureWindow
    from mgem_agent.doctor.finding import Finding

    way = PictureWindow(open_console(), images).shown_as
    return Finding("terminal", "ok", f"pictures are shown as: {way}")


def _print(finding: Finding) -> None:

    console = open_console(soft_wrap=True)
    mark, style = MARKS[finding.status]
    console.print(f"{mark} ", style=style, end="")
    console.print(f"{finding.topic:<10} ", style="bold", end="")
    console.print(finding.text, markup=False)
    if finding.fix:
        console.print(f"  {'':<10} ", end="")
        console.print(finding.fix, style="cyan", markup=False)


def _print_verdict(num_problems: int) -> None:

    console = open_console(soft_wrap=True)
    if num_problems:
        console.print(f"\n{num_problems} problem(s): your configuration does not work yet.", style="bold red")
    else:
        console.print("\nYour configuration works.", style="bold green")
