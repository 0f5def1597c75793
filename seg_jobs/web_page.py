"""A web page in one file, which needs no network and no library. The pages about data and about runs are made of it."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --paper: #faf9f7; --card: #fff; --ink: #1c1b1a; --soft: #6b6763; --line: #e5e2dd; }
@media (prefers-color-scheme: dark) { :root { --paper: #131416; --card: #1c1e21; --ink: #ecebe9; --soft: #9c9a96;
  --line: #303338; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: clamp(28px, 5vw, 42px); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 6px; }
h2 { font-size: 22px; letter-spacing: -.01em; margin: 52px 0 6px; }
h1, h2, p, li, figcaption { overflow-wrap: anywhere; }
p { margin: 4px 0 16px; } .soft { color: var(--soft); } small, .small { font-size: 13px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
figure { margin: 0; min-width: 0; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 3px; flex: none;
  box-shadow: inset 0 0 0 1px rgb(128 128 128 / .45); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; font-size: 14px; margin: 0 0 14px; align-items: center; }
.legend span { display: inline-flex; gap: 6px; align-items: center; }
.scroll { overflow-x: auto; padding-bottom: 6px; }
.plain { border-collapse: collapse; width: 100%; font-size: 14px; } .plain th, .plain td { text-align: left;
  padding: 6px 10px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
.plain thead th { border: 0; color: var(--soft); font-weight: 400; font-size: 13px; }
.plain td { font-variant-numeric: tabular-nums; }
footer { margin-top: 56px; color: var(--soft); font-size: 13px; }
@media (max-width: 480px) { main { padding: 22px 14px 48px; } .card { padding: 14px; } }
@media print { .card, figure { break-inside: avoid; } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def document(title: str, generator: str, style: str, script: str, sections: Iterable[str]) -> str:
    """Return a page as HTML. Its policy forbids the browser to load anything from elsewhere.

    generator  name of the program, by which `is_page_of` knows the page again
    style      rules after `STYLE`
    script     JavaScript that runs when the page is complete
    sections   HTML; empty ones are left out
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{_mark(generator)}\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _mark(generator: str) -> str:
    return f'<meta name="generator" content="{generator}">'


def is_page_of(generator: str, path: Path) -> bool:
    """Whether the file `path` is a page that the program `generator` wrote."""
    try:
        with path.open(encoding="utf-8") as file:
            return _mark(generator) in file.read(2000)
    except (OSError, UnicodeDecodeError):
        return False
