"""How the page that compares runs looks: its rules after `web_page.STYLE`, and its script."""

STYLE = """
:root { --k0: #1f6fd6; --k1: #d1571b; --k2: #16915f; --k3: #8c4fc9; --k4: #946a00; --k5: #0c8ea3; --k6: #cc3d79;
  --k7: #6f7d1e; --up: #16915f; --down: #d1571b; --tie: #1f6fd612; }
@media (prefers-color-scheme: dark) { :root { --k0: #6ea8ff; --k1: #ff9057; --k2: #4fd19b; --k3: #c092ff; --k4: #e9ba3d;
  --k5: #4fc9dd; --k6: #ff86b4; --k7: #b7c95a; --up: #4fd19b; --down: #ff9057; --tie: #6ea8ff26; } }
.base { --k: var(--ink); } .k0 { --k: var(--k0); } .k1 { --k: var(--k1); } .k2 { --k: var(--k2); }
.k3 { --k: var(--k3); } .k4 { --k: var(--k4); } .k5 { --k: var(--k5); } .k6 { --k: var(--k6); } .k7 { --k: var(--k7); }
.rest { --k: color-mix(in srgb, var(--soft) 55%, var(--paper)); }
body { font-size: 15px; } h1 { font-size: clamp(26px, 4vw, 34px); } h2 { font-size: 19px; margin-top: 44px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; } main { max-width: 1220px; }
main > p, h2 + p { max-width: 86ch; } p.facts { margin-bottom: 6px; } ul.facts { margin: 0 0 16px; padding-left: 18px;
  max-width: 86ch; } .warning { color: #b4470f; }
@media (prefers-color-scheme: dark) { .warning { color: var(--down); } }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th { font-weight: 400; text-align: left; } thead th { color: var(--soft); font-size: 12px; vertical-align: bottom; }
td, th { padding: 4px 10px 4px 0; border-top: 1px solid var(--line); } thead td, thead th { border-top: 0; }
.num { text-align: right; white-space: nowrap; } td small, th small { font-size: 12px; color: var(--soft); }
.key { display: inline-block; width: 9px; height: 9px; border-radius: 50%; background: var(--k); flex: none; }
.who { display: flex; align-items: baseline; gap: 8px; } .who > span { overflow-wrap: anywhere; }
.ranking tbody th + td { white-space: nowrap; } .narrow { display: none; }
.one { border: 1px solid; border-radius: 99px; padding: 0 6px; font-size: 11px; }
.soft td, .soft { color: var(--soft); }
.ranking { width: 100%; } .ranking tr { display: grid; column-gap: 14px; align-items: center;
  grid-template-columns: minmax(180px, 1.5fr) 126px 84px minmax(140px, 1.25fr) 88px minmax(140px, 1.25fr); }
.ranking td, .ranking th { padding: 4px 0; border: 0; } .ranking tbody tr { border-top: 1px solid var(--line); }
.ranking td:has(.strip) { align-self: stretch; padding: 0; }
.strip { position: relative; height: 100%; min-height: 27px; } .strip > * { position: absolute; }
.strip s { top: 0; bottom: 0; width: 1px; background: var(--line); }
.strip i { width: 8px; height: 8px; margin: -4px 0 0 -4px; top: 50%; border-radius: 50%; background: var(--k);
  opacity: .8; } .strip b { width: 2px; height: 16px; margin: -8px 0 0 -1px; top: 50%; background: var(--k); }
.strip u { width: 1px; top: 0; bottom: 0; background: var(--ink); opacity: .55; }
.strip em { top: calc(50% - 1px); height: 2px; background: var(--k); opacity: .6; }
.strip i.hollow { background: var(--card); box-shadow: inset 0 0 0 1.5px var(--k); opacity: 1; }
.ticks { position: relative; height: 16px; color: var(--soft); font-size: 11px; }
.ticks span { position: absolute; transform: translateX(-50%); }
.wide td, .wide th { text-align: right; padding: 3px 5px; white-space: nowrap; } .wide { width: 100%; }
.wide th:first-child, .cost th:first-child, .flags th:first-child { text-align: left; position: sticky; left: 0;
  background: var(--card); z-index: 1; padding-left: 0; max-width: 300px; }
.wide .who > span, .cost .who > span, .flags .who > span { white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
.wide thead th + th { white-space: normal; max-width: 80px; overflow: hidden; text-overflow: ellipsis; }
.wide .first { border-right: 1px solid var(--line); } td.best { font-weight: 700; } td.best, td.tie {
  background: var(--tie); } .change { display: none; } tfoot td, tfoot th { color: var(--soft); font-size: 12px; }
main:has(#change:checked) .change { display: inline; } main:has(#change:checked) .score { display: none; }
main:has(#change:checked) td[style] { background: color-mix(in srgb, var(--tint) var(--amount), transparent); }
main:has(#change:checked) td.best, main:has(#change:checked) td.tie { font-weight: 400; }
main:has(#change:checked) td.best:not([style]), main:has(#change:checked) td.tie:not([style]) { background: none; }
label { font-size: 13px; display: inline-flex; gap: 7px; align-items: center; margin: 0 0 10px; }
.flags td, .cost td, .cost th, .flags th { white-space: nowrap; padding-right: 18px; }
.flags .same { color: var(--soft); } .flags td:not(.same) { font-weight: 600; }
.chart { padding: 8px 190px 26px 34px; } .plot { position: relative; height: 340px; } .plot > * { position: absolute; }
.plot svg { inset: 0; width: 100%; height: 100%; overflow: hidden; }
.plot s { left: 0; right: 0; height: 1px; background: var(--line); }
.plot path { fill: none; stroke: var(--k); stroke-width: 1.8; vector-effect: non-scaling-stroke;
  stroke-linejoin: round; } .plot .rest path { stroke-width: 1.2; } .plot path.thin { stroke-width: 1; opacity: .3; }
/* Colours that colour-blind readers confuse differ by form: 3 and 0, 4 and 1, 6 and 2, 7 and 1. */
.k3 path:not(.thin, .dot), .k4 path:not(.thin, .dot), .k6 path:not(.thin, .dot), .k7 path:not(.thin, .dot) {
  stroke-dasharray: 7 4; } :is(.k3, .k4, .k6, .k7) > .key {
  background: linear-gradient(90deg, var(--k) 37%, transparent 37% 63%, var(--k) 63%); }
.plot path.dot { stroke-width: 7 !important; stroke-linecap: round; }
.plot .base path:not(.thin) { stroke-width: 2.4; }
.plot .y { right: 100%; transform: translateY(50%); padding-right: 7px; } .plot .x { top: 100%;
  transform: translateX(-50%); padding-top: 4px; } .plot .x, .plot .y { color: var(--soft); font-size: 11px; }
.plot .end { left: 100%; transform: translateY(50%); padding-left: 8px; font-size: 12px; line-height: 15px;
  color: var(--k); width: 190px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.points { inset: 0; } .points > span > * { position: absolute; } .points i { width: 9px; height: 9px; margin: 0 0 -4.5px
  -4.5px; border-radius: 50%; background: var(--k); } .points em { width: 1.5px; margin-left: -.75px;
  background: var(--k); opacity: .5; } .at { font-size: 12px; color: var(--k); transform: translate(9px, 50%);
  white-space: nowrap; line-height: 15px; max-width: 45%; overflow: hidden;
  text-overflow: ellipsis; } .at.left { transform: translate(calc(-100% - 9px), 50%); }
.plot .rest.end, .rest .at { color: var(--soft); }
.operations .chart { padding-right: 12px; } .costs { display: flex; flex-wrap: wrap; gap: 20px 40px; }
.costs > .scroll { flex: 0 1 auto; max-width: 100%; } .costs > .operations { flex: 1 1 360px; min-width: 0; }
.cost .who { max-width: 240px; } .cost thead th { white-space: normal !important; max-width: 84px; }
.keys { display: none; flex-wrap: wrap; gap: 4px 14px; font-size: 12.5px; margin: 4px 0 0; }
.keys.always { display: flex; } .keys span { display: inline-flex; gap: 6px; align-items: center; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 0 24px; }
.two .chart { padding-right: 12px; } .two .plot { height: 220px; } .two .end { display: none; }
.axis-name { font-size: 12px; color: var(--soft); text-align: center; margin: 0; }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30%, 200px), 1fr)); gap: 10px;
  margin: 0 0 22px; } .photos figcaption { font-size: 12px; line-height: 1.35; padding-top: 3px; }
.photos figcaption small { font-size: 12px; color: var(--soft); } .stack { position: relative; display: block; }
.stack img { display: block; width: 100%; height: auto; border-radius: 3px; image-rendering: pixelated; }
.stack img.photo { image-rendering: auto; } .stack img + img { position: absolute; inset: 0; height: 100%;
  opacity: 0; } main:has(#errors:checked) .stack img + img { opacity: .94; }
.legend { font-size: 12.5px; gap: 3px 14px; margin-bottom: 12px; } details { margin-top: 10px; }
summary { cursor: pointer; font-size: 14px; } .out { font-size: 13px; padding-left: 18px; }
.out code { font-size: 12.5px; } [data-g] { transition: opacity .12s; }
body[data-on] [data-g]:not(.on) { opacity: .22; } body[data-on] .photos [data-g]:not(.on) { opacity: .45; }
body[data-on] path.thin { opacity: .6; }
@media (max-width: 920px) { .chart { padding: 8px 6px 26px 30px; } .plot { height: 260px; }
  .plot .end { display: none; }
  .keys, .narrow { display: flex; } .strip s { display: none; } .two { gap: 22px 0; margin-top: 22px; }
  .ranking thead { display: none; }
  .ranking tr { grid-template-columns: 88px 1fr auto; column-gap: 10px; padding: 5px 0; }
  .ranking th:first-child { grid-column: 1 / 3; } .ranking tr > :nth-child(4), .ranking tr > :nth-child(6) {
  grid-column: 2 / 4; } .ranking tr > :nth-child(3), .ranking tr > :nth-child(5) { grid-column: 1; }
  .wide th:first-child, .cost th:first-child, .flags th:first-child { max-width: 132px; overflow: hidden;
  text-overflow: ellipsis; } }
"""
SCRIPT = """
const all = [...document.querySelectorAll('[data-g]')]; let pinned = null;
const show = group => { group === null ? delete document.body.dataset.on : document.body.dataset.on = group;
  all.forEach(e => e.classList.toggle('on', e.dataset.g === group)); };
all.forEach(e => { e.addEventListener('mouseenter', () => pinned ?? show(e.dataset.g));
  e.addEventListener('mouseleave', () => pinned ?? show(null));
  e.addEventListener('click', () => { pinned = pinned === e.dataset.g ? null : e.dataset.g; show(pinned); }); });
document.addEventListener('keydown', e => { if (e.key === 'Escape') show(pinned = null); });
"""
