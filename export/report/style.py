"""The style of the page: its own colours in light and dark, and the light ones on paper."""

LIGHT = """\
  --page: #ffffff; --ink: #2b3440; --soft: #5c6773; --pale: #d0d7de; --card: #f6f8fa; --link: #1f6fb5;
  --blue: #cfe3f7; --green: #cdebd7; --violet: #e2d6f5; --amber: #fbe1b6; --grey: #eceff2;
  --floats: #6b7785; --bytes: #c07a00; --bad: #b3261e;
  --line0: #1f6fb5; --line1: #c07a00; --line2: #1d8a4f; --line3: #7a4fc0; --line4: #b3261e; --line5: #0a8a94;
  --line6: #8a6d3b; --line7: #5c6773;
"""
DARK = """\
  --page: #14181d; --ink: #dfe5ec; --soft: #9aa6b2; --pale: #38414b; --card: #1c2229; --link: #79b8f0;
  --blue: #1d3f5f; --green: #1c4a30; --violet: #3b2f5c; --amber: #5a4312; --grey: #2a313a;
  --floats: #8a96a3; --bytes: #f0ad3c; --bad: #ff8a80;
  --line0: #6cb2f2; --line1: #f0ad3c; --line2: #5fcf8d; --line3: #b394f0; --line4: #ff8a80; --line5: #4fd0d9;
  --line6: #d3b57d; --line7: #9aa6b2;
"""
RULES = """\
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1.5rem 4rem; max-width: 1360px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
h1 { font-size: 1.7rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--pale); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, li { max-width: 52rem; } .legend { max-width: none; } p { margin: .4rem 0 .8rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .9rem; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--pale); text-align: left; vertical-align: top; }
th { font-weight: 600; color: var(--soft); } tbody th { color: var(--ink); font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { white-space: nowrap; }
.kernels { color: var(--soft); font-size: .82rem; min-width: 13rem; }
.worse { color: var(--bad); }
code, pre { font: .86rem/1.45 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
pre { background: var(--card); border: 1px solid var(--pale); border-radius: 6px; padding: .7rem .9rem; margin: .5rem 0;
  overflow-x: auto; }
details { margin: .35rem 0; } summary { cursor: pointer; }
figure { margin: .8rem 0 1.4rem; }
figure .scroll { background: var(--page); border: 1px solid var(--pale); border-radius: 8px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); gap: 1rem; }
.plots figure { margin: 0; }
.tables { display: flex; flex-wrap: wrap; gap: .5rem 3rem; margin: 1rem 0; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: 3px; border: 1px solid var(--soft);
  vertical-align: -1px; margin: 0 .25rem 0 .6rem; }
.key.line { height: 0; border: 0; border-top: 3px solid; vertical-align: 4px; }
svg { display: block; margin: 0 auto; max-width: none; font-family: inherit; }
svg text { fill: var(--ink); }
svg.plot { width: 100%; height: auto; max-width: 680px; margin: 0; }
.graph .box > rect { stroke: var(--ink); stroke-width: 1.2; fill: var(--page); }
.graph .box > text { text-anchor: middle; font-size: 12.5px; font-weight: 600; }
.graph .box > text.over { font-size: 9px; font-weight: 400; }
.graph .box .number { font-size: 9px; font-weight: 400; }
.graph .box > text.chip { font-size: 10px; font-weight: 400; }
.graph .box > rect.chip { stroke: var(--soft); stroke-width: .7; fill: var(--page); }
.graph .box > rect.chip.int8 { fill: var(--amber); stroke: var(--bytes); }
.graph .box > rect.chip.bias { stroke-dasharray: 2 2; }
.graph .box.pill > rect { fill: var(--grey); }
.graph .box.product > rect:not(.chip) { fill: var(--green); }
.graph .box.projected > rect:not(.chip) { fill: var(--blue); }
.graph .box.curve > rect:not(.chip) { fill: var(--violet); }
.graph .box.move > rect:not(.chip) { fill: var(--grey); stroke: var(--soft); }
.graph .box.convert > rect:not(.chip) { fill: var(--amber); stroke: var(--bytes); }
.graph .wire { fill: none; stroke-width: 1.5; } .graph .head { stroke: none; }
.graph .wire.floats { stroke: var(--floats); } .graph .head.floats { fill: var(--floats); }
.graph .wire.bytes { stroke: var(--bytes); stroke-width: 1.8; } .graph .head.bytes { fill: var(--bytes); }
.graph .size { font-size: 10px; paint-order: stroke; stroke: var(--page); stroke-width: 5px; stroke-linejoin: round; }
.graph .size.bytes { fill: var(--bytes); }
.plot text { font-size: 12px; } .plot .soft { fill: var(--soft); }
.plot .grid { stroke: var(--pale); stroke-width: 1; } .plot .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
.plot .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; } .plot .line.bold { stroke-width: 2.8; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  .scroll { overflow: visible; } svg.graph { max-width: 100%; height: auto; }
  figure, table, pre { break-inside: avoid; } h2, h3 { break-after: avoid; }
}
"""
STYLE = (
    f":root {{\n  color-scheme: light dark;\n{LIGHT}}}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{\n{DARK}}} }}\n"
    f"@media print {{ :root {{\n  color-scheme: light;\n{LIGHT}}} }}\n{RULES}"
)
