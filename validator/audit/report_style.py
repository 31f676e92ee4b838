"""The style sheet of a report: light and dark, one column on a phone. Its digest is in the page's security policy."""

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1c1f23;--soft:#5d6670;--line:#dfe3e6;--track:#eef0f2;
--red:#b3261e;--amber:#9a6300;--green:#1b6e3c;--grey:#56606a;--blue:#1f5fbf;
--c0:#1f77b4;--c1:#d9730d;--c2:#7b4fb5;--c3:#0f8b8d;--c4:#a0522d;--c5:#6b7f1d}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1c2024;--ink:#e8eaec;--soft:#9aa4ae;--line:#333a41;
--track:#2a3036;--red:#ff8a80;--amber:#ffc66b;--green:#7ed89b;--grey:#aab4be;--blue:#8ab8ff;
--c0:#6fb3e8;--c1:#ffab5e;--c2:#c0a0f0;--c3:#5fd0d0;--c4:#e0a080;--c5:#c0d060}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:960px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.5rem;line-height:1.3;margin:.4em 0 .3em;text-wrap:balance}
h2{font-size:1.1rem;margin:2.2em 0 .6em}
p{margin:.4em 0}
.soft{color:var(--soft)}
.small{font-size:.875rem}
.badge{display:inline-block;padding:.15em .7em;border-radius:99px;border:1.5px solid currentColor;font-weight:700;
letter-spacing:.04em;text-transform:uppercase;font-size:.85rem}
.proven{color:var(--red)}.suspect,.unstable{color:var(--amber)}.consistent{color:var(--green)}
.uninformative{color:var(--grey)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:1.4em 0 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.tile b{display:block;font-size:1.3rem;font-weight:650;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.82rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.scroll{overflow-x:auto}
svg{display:block;width:100%;height:auto;font-family:inherit}
.grid{stroke:var(--line)}.axis-line{stroke:var(--soft)}
.axis{fill:var(--soft);font-size:12px}
.label{fill:var(--ink);font-size:14px}
.line{fill:none;stroke-linejoin:round}
.line.total{stroke:var(--ink);stroke-width:3}
.line.channel{stroke-width:1.6;stroke-dasharray:5 3}
.name{font-size:13px;font-weight:600}.total-text{fill:var(--ink)}
.threshold{stroke:var(--red);stroke-width:1.6}.alarm{stroke:var(--amber);stroke-width:1.4;stroke-dasharray:2 4}
.level{font-size:12px;font-weight:600}.threshold-text{fill:var(--red)}.alarm-text{fill:var(--amber)}
.missing{stroke:var(--red);stroke-width:2}
.track{fill:var(--track)}.bar{fill:var(--blue)}.dot{fill:var(--blue);fill-opacity:.45}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}
.c5{stroke:var(--c5)}
.c0-text{fill:var(--c0)}.c1-text{fill:var(--c1)}.c2-text{fill:var(--c2)}.c3-text{fill:var(--c3)}
.c4-text{fill:var(--c4)}.c5-text{fill:var(--c5)}
text.name{stroke:none}
sup{line-height:0;font-size:.7em}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}
.rows th,.rows td{white-space:nowrap}
.rows td.note{white-space:normal;min-width:220px}
.number{text-align:right;font-variant-numeric:tabular-nums}
thead th{position:sticky;top:0;background:var(--card)}
.tall{max-height:520px;overflow:auto}
.facts th{width:34%}
.bars th{width:34%;color:var(--ink);font-weight:400}.bars td{vertical-align:middle;padding-right:0}
.bars td.number{width:7.5em;padding-left:10px;white-space:nowrap}
.share{height:14px;border-radius:3px}
.up{color:var(--red)}.down{color:var(--green)}
details{border-bottom:1px solid var(--line);padding:6px 0}
summary{cursor:pointer;font-variant-numeric:tabular-nums}
.turn{margin:8px 0;padding:8px 12px;border-left:3px solid var(--line)}
.turn.answer{border-color:var(--blue)}
.turn h3{margin:0 0 2px;font-size:.75rem;color:var(--soft);font-weight:600;text-transform:uppercase;
letter-spacing:.05em}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;unicode-bidi:plaintext}
code,.code pre{font:.85rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
@media(max-width:560px){main{padding:16px 12px 48px}h1{font-size:1.25rem}.card{padding:10px}
.axis{font-size:21px}.axis tspan{font-size:16px}.name,.level{font-size:22px}.line.total{stroke-width:5}
.line.channel{stroke-width:3;stroke-dasharray:9 6}.bars th{width:38%}.bars td.number{width:auto;font-size:.8rem}}
@media print{.tall{max-height:none}body{background:#fff}}
"""
