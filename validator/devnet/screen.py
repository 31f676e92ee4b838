"""What a devnet shows: a live table of trust scores moving, and the end in words."""

import math
from collections.abc import Sequence

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from challenges.penalty import WEI_PER_QUIV
from validator.devnet.result import DevnetResult, ProviderResult, check_result, find_limits_passed

SPARKS = "▁▂▃▄▅▆▇█"


def build_live(
    providers: Sequence[ProviderResult], epoch: int, epochs: int, seconds: int, news: Sequence[str]
) -> Group:
    """Return the live view: one row for each provider, and the latest events."""
    title = f"epoch {max(epoch, 0)} of {epochs} certified, {seconds} s"
    table = Table(title=title, title_justify="left", expand=False)
    for name in ("provider", "serves", "trust", "so far", "accuracy", "uptime", "stake lost"):
        table.add_column(name, justify="left" if name in ("provider", "serves", "so far") else "right")
    for item in providers:
        table.add_row(*_build_row(item))
    return Group(table, *(Text(f"  {line}", style="dim") for line in news[-6:]))


def print_result(console: Console, result: DevnetResult) -> None:
    """Print who was slashed and why, what the challenges paid, what a stranger can check, and every condition."""
    names = {item.address: item.spec.name for item in result.providers}
    console.print()
    for item in sorted(result.providers, key=lambda provider: -provider.trust):
        loss = f", lost {_quiv(item.slashed_wei)} of its stake" if item.slashed_wei else ""
        console.print(f"  {item.spec.name:<14} trust {item.trust:>4}{loss}")
    console.print("\n[bold]Slashed[/bold]")
    for slash in result.slashes:
        console.print(
            f"  {names.get(slash.provider, slash.provider)}: {slash.rule}, e-value 10^{slash.log10_e_milli / 1000:.1f} "
            f"against a threshold of 10^{math.log10(slash.threshold):.1f} after {slash.probes} probes "
            f"({slash.missing_probes} missing), signed by {slash.signers} validators in epoch {slash.last_epoch}"
        )
    console.print("\n[bold]Challenges[/bold]")
    for challenge in result.challenges:
        change = challenge.consumer_change_wei
        console.print(
            f"  against {names.get(challenge.provider, challenge.provider)}: {challenge.verdict}; the consumer "
            f"{'gained' if change >= 0 else 'lost'} {_quiv(abs(change))} (committee's e-values "
            f"{', '.join(challenge.e_values)})"
        )
    console.print(f"\n[bold]Judge[/bold]\n  {escape(result.judge)}")
    sums = "balances, stakes and burns add up" if result.is_supply_conserved else "the sums do NOT come out"
    console.print(f"\n[bold]Ledger[/bold]\n  {_quiv(result.burned_wei)} burned; {sums}")
    console.print("\n[bold]Check it yourself[/bold]")
    for command in result.commands.values():
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)
    console.print()
    for check in check_result(result):
        mark = "[green]ok  [/green]" if check.passed else "[red]FAIL[/red]"
        console.print(f"  {mark} {check.name} ({escape(check.detail)})", highlight=False)
    memory = result.peak_memory_bytes / 1024**3
    console.print(f"\n{result.epochs} epochs in {result.seconds} s, {memory:.1f} GiB of memory at most")
    for sentence in find_limits_passed(result):
        console.print(Panel(f"this machine was slow or busy: {sentence}", style="yellow"))


def _build_row(item: ProviderResult) -> list[str | Text]:
    scores = [trust for _, trust in item.trust_by_epoch]
    line = "".join(SPARKS[min(7, trust * 8 // 1001)] for trust in scores)
    style = "green" if item.trust >= 600 else "red" if item.trust <= 400 else "yellow"
    serves = " ".join(item.spec.cheats) or f"honest ({item.spec.dtype})"
    trust = Text(str(item.trust) if scores else "-", style=style if scores else "dim")
    accuracy = f"{item.accuracy_ppm / 1e4:.0f} %" if scores else "-"
    uptime = f"{item.uptime_ppm / 1e4:.0f} %" if scores else "-"
    lost = _quiv(item.slashed_wei) if item.slashed_wei else ""
    return [item.spec.name, serves, trust, Text(line, style=style), accuracy, uptime, lost]


def _quiv(wei: int) -> str:
    return f"{wei / WEI_PER_QUIV:,.6g} QUIV"
