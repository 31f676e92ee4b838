"""The status page of a validator: one HTML page without scripts, made from the same documents as the API."""

from html import escape

from scoring.canonical import Json
from scoring.feed import parse_feed_proof
from scoring.records import FeedItem, Flag
from validator.store import DocumentKind, Store

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="10">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>QUIVer validator</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c2430; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: right; padding: .3rem .6rem; }}
th:first-child, td:first-child {{ text-align: left; font-family: monospace; }}
tr:nth-child(even) {{ background: #f4f6f9; }} .low {{ background: #d8553b; }}
.bar {{ display: inline-block; height: .7em; background: #3b7dd8; vertical-align: middle; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }}
dd {{ margin: 0; font-family: monospace; }}
</style></head><body><h1>QUIVer validator</h1><dl>{status}</dl><h2>Trust, epoch {epoch}</h2>
<table><tr><th>provider</th><th>trust</th><th></th><th>interval</th><th>accuracy</th><th>uptime</th><th>samples</th>
<th>flags</th></tr>{rows}</table></body></html>"""


def render_dashboard(store: Store, status: dict[str, Json]) -> str:
    """Return the page: the node's status and the newest feed."""
    items = _load_items(store)
    epoch = str(items[0].epoch) if items else "none yet"
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in status.items())
    rows = "".join(_render_row(item) for item in sorted(items, key=lambda item: -item.trust))
    return _PAGE.format(status=facts, epoch=epoch, rows=rows)


def _load_items(store: Store) -> list[FeedItem]:
    latest = store.find_latest(DocumentKind.AGGREGATION)
    if latest is None:
        return []
    documents = store.list_documents(DocumentKind.FEED_PROOF, latest.epoch)
    return [parse_feed_proof(document.body).item for document in documents if document.key.endswith(".json")]


def _render_row(item: FeedItem) -> str:
    flags = ", ".join(str(flag.name).lower().replace("_", " ") for flag in Flag if item.flags & flag)
    kind = "bar low" if item.trust < 500 else "bar"
    return (
        f"<tr><td>0x{item.provider.hex()}</td><td>{item.trust}</td>"
        f'<td><span class="{kind}" style="width:{item.trust / 10:.0f}px"></span></td>'
        f"<td>{item.trust_low}-{item.trust_high}</td><td>{item.accuracy_ppm / 1e4:.1f} %</td>"
        f"<td>{item.uptime_ppm / 1e4:.1f} %</td><td>{item.samples}</td><td>{escape(flags)}</td></tr>"
    )
