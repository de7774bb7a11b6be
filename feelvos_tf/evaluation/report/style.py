"""The look of the report."""

STYLE = """
body {
  font: 15px/1.45 system-ui, sans-serif; color: #1c1f24; background: #fff;
  margin: 2rem auto; max-width: 1120px; padding: 0 1.2rem;
}
h1 { font-size: 1.6rem; margin: 0 0 1rem; }
h2 {
  font-size: 1.2rem; margin: 2.4rem 0 .3rem; border-top: 1px solid #dde1e6; padding-top: 1rem;
}
a { color: #0b57d0; text-decoration: none; }

.cards { display: flex; flex-wrap: wrap; gap: 1rem; }
.card { border: 1px solid #dde1e6; border-radius: 8px; padding: .7rem 1.2rem; }
.card b { font-size: 1.7rem; font-variant-numeric: tabular-nums; }
.card span { display: block; color: #5b6470; }
.card em { margin-left: .5rem; }

em { font-style: normal; font-variant-numeric: tabular-nums; color: #5b6470; }
em.up { color: #0a7a33; }
em.down { color: #b3261e; }

.wide { overflow-x: auto; }
table { border-collapse: collapse; margin-top: 1.2rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .3rem; }
thead th { border-bottom: 1px solid #8a929c; font-weight: 600; }
tfoot td { border-top: 1px solid #8a929c; font-weight: 600; }
tr.best { background: #e8f6ec; }
tr.worst { background: #fdecea; }

.pair {
  display: grid; gap: .6rem 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr));
}
figure { margin: .3rem 0; }
figure img, figure svg { width: 100%; display: block; }
figcaption { color: #5b6470; font-size: .87rem; }
.legend {
  margin: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.3rem;
  font-variant-numeric: tabular-nums;
}
.legend i {
  display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px;
}

svg text { font-size: 11px; fill: #5b6470; }
svg .grid { stroke: #dde1e6; }
svg .curve, svg .compared {
  fill: none; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round;
}
svg .compared { stroke-width: 1.2; stroke-dasharray: 2 4; opacity: .75; }
svg .hover { fill: transparent; }
svg .hover:hover { fill: rgb(0 0 0 / .08); }
"""
