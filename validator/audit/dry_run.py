"""`quiver audit --dry-run`: what would be asked and what it would cost. Asks nobody, loads no model."""

import click

from validator.audit.estimate import ASSUMED_TOKENS_PER_S, DISCOVERY_REQUESTS, check_budget, estimate
from validator.audit.hostile_text import make_printable
from validator.audit.options import DEFAULT_CONCURRENCY, AuditOptions, check_files, read_profile, resolve_plan
from validator.cli.output import print_facts


def dry_run(options: AuditOptions) -> int:
    """Print it, write the plan if a file for it is named, and return 0; raises what the audit would, before it asks."""
    check_files(options)
    read_profile(options)
    plan = resolve_plan(options)
    check_budget(plan, options.budget_tokens)
    concurrency = options.concurrency or DEFAULT_CONCURRENCY
    found = estimate(plan, concurrency, options.budget_tokens)
    click.echo(f"Would ask {options.base_url} at most {found.requests} requests, {concurrency} at once.")
    click.echo()
    strata = ", ".join(plan.strata)
    facts = {
        "before that": f"{DISCOVERY_REQUESTS} small requests to find out what the endpoint offers, "
        f"about {found.first_look_tokens:,} tokens",
        "prompts": f"about {found.prompt_tokens:,} tokens, drawn from {strata}",
        "answers": f"at most {found.answer_tokens:,} tokens, {plan.max_tokens} each",
        "time": f"about {found.seconds:,.0f} s if each answer comes at {ASSUMED_TOKENS_PER_S} tokens/s",
        "error": f"at most one honest endpoint in {plan.one_over_alpha:,} is called proven",
        "claim": plan.claim.value,
        **({"other models": ", ".join(plan.siblings)} if plan.siblings else {}),
        "plan": f"digest 0x{plan.compute_digest().hex()}",
    }
    if options.plan_path is not None:
        facts["plan file"] = str(options.plan_path)
    print_facts(facts)
    if not found.examples:
        click.echo("\nThe claimed model writes the prompts when the audit starts, from the plan's seed.")
    for probe in found.examples:
        click.echo()
        for message in probe.messages:
            click.echo(f"  {message.role}: {make_printable(message.content, 160)}")
    return 0
