"""Draws what cuts.sh has found: pkg/doc/power-cut.svg.

usage: python3 tests/power/draw.py <tests/power/cuts.txt >pkg/doc/power-cut.svg

The same input gives the same bytes, and tests/it/documents.rs compares them.
"""
import sys

WAYS = {
    "redirection": "cmd &gt; f",
    "mv": "cmd &gt; new; mv new f",
    "sponge": "cmd | sponge f",
    "awrite": "cmd | awrite f",
}
KINDS = ["ext4", "xfs", "btrfs"]
# Letter: class, what it means. "l" is "o" after the command has returned.
FOUND = {
    "o": ("old", "the old content"),
    "n": ("new", "the new content"),
    "l": ("lost", "the old content, though the command had returned"),
    "e": ("empty", "an empty file"),
    "p": ("part", "a part of a file"),
    "a": ("absent", "no file"),
}

LEFT, TOP, WIDTH, GAP, ROW, BAR, EDGE = 190, 62, 212, 18, 44, 24, 16

STYLE = """
  .page { fill: #ffffff }
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .code { font-family: ui-monospace, monospace }
  .title { font-size: 16px; font-weight: 600 }
  .us { font-weight: 700 }
  .small { font-size: 12px; fill: #59636e }
  .old { fill: #8296ab } .new { fill: #2da44e } .lost { fill: url(#lost) } .empty { fill: url(#empty) }
  .part { fill: #a40e26 } .absent { fill: #57060f } .back { fill: #ffb224 } .line { stroke: #6b3f00 }
  .bad { fill: #cf222e } .hole { fill: #ffffff }
  .mark { stroke: #1f2328; stroke-width: 2 } .edge { stroke: #ffffff; stroke-width: 0.6 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .mark { stroke: #e6edf3 } .edge { stroke: #0d1117 }
    .old { fill: #64788d } .page { fill: #0d1117 }
  }
"""

PATTERNS = """
  <pattern id="lost" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
    <rect class="back" width="6" height="6"/><path class="line" d="M0 0V6" stroke-width="2.4"/>
  </pattern>
  <pattern id="empty" width="7" height="8" patternUnits="userSpaceOnUse">
    <rect class="bad" width="7" height="8"/><circle class="hole" cx="3.5" cy="4" r="1.6"/>
  </pattern>
"""


def number(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")


def rect(kind, x, y, width, height):
    x, y, width, height = map(number, (x, y, width, height))
    return f'<rect class="{kind} edge" x="{x}" y="{y}" width="{width}" height="{height}"/>'


def text(x, y, words, kind="", anchor=""):
    kind = f' class="{kind}"' if kind else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text{kind} x="{number(x)}" y="{number(y)}"{anchor}>{words}</text>'


def strip(x, y, returned, outcomes):
    """The cells of one way on one file system, and the mark where the command has returned."""
    cell = WIDTH / len(outcomes)
    seen = set()
    for step, found in enumerate(outcomes):
        found = sorted(found.replace("o", "l") if step >= returned else found)
        seen.update(found)
        for n, letter in enumerate(found):
            height = BAR / len(found)
            yield rect(FOUND[letter][0], x + step * cell, y + n * height, cell, height), letter
    at = number(x + returned * cell)
    yield f'<path class="mark" d="M{at} {y - 5}V{y + BAR + 5}"/>', None


def main():
    lines = [line.split() for line in sys.stdin if not line.startswith("#")]
    runs = {(kind, way): (int(returned), outcomes) for kind, way, returned, *outcomes in lines}
    parts, seen = [], set()
    parts.append(text(0, 18, "The power is cut at some write to the disk. What does f contain then?", "title"))
    for n, kind in enumerate(KINDS):
        parts.append(text(LEFT + n * (WIDTH + GAP), TOP - 14, kind, "code"))
    for row, (way, label) in enumerate(WAYS.items()):
        y = TOP + row * ROW
        parts.append(text(0, y + 17, label, "code us" if way == "awrite" else "code"))
        for n, kind in enumerate(KINDS):
            for part, letter in strip(LEFT + n * (WIDTH + GAP), y, *runs[kind, way]):
                parts.append(part)
                seen.add(letter)
    y = TOP + len(WAYS) * ROW + 14
    x = 0
    meanings = [(letter, meaning) for letter, (_, meaning) in FOUND.items() if letter in seen]
    for letter, meaning in meanings[:2] + [(None, "the command has returned")] + meanings[2:]:
        # Some fonts are wide.
        width = 54 + 8 * len(meaning)
        if x + width > LEFT + 3 * WIDTH + 2 * GAP:
            x, y = 0, y + 26
        if letter is None:
            parts.append(f'<path class="mark" d="M{x + 11} {y - 14}V{y + 6}"/>')
        else:
            parts.append(rect(FOUND[letter][0], x, y - 12, 22, 16))
        parts.append(text(x + 30, y + 1, meaning))
        x += width
    y += 32
    parts.append(text(0, y, "Each cell is one write or flush. What is not flushed, the disk may have written in any order, or "
                      "not: a divided cell shows that both were found.", "small"))
    y += 18
    parts.append(text(0, y, "3 MB, no mount options; right after, another program syncs a file of its own. sponge's "
                      "temporary file is beside f. By tests/power/cuts.sh.", "small"))
    width, height = LEFT + 3 * WIDTH + 2 * GAP + 2 * EDGE, y + 10 + 2 * EDGE
    box = f'x="{-EDGE}" y="{-EDGE}" width="{width}" height="{height}"'
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-EDGE} {-EDGE} {width} {height}" width="{width}"'
          f' height="{height}" role="img">')
    print("<title>What a file contains after a power cut at each write, for four ways to replace it</title>")
    print(f"<style>{STYLE}</style>")
    print(f"<defs>{PATTERNS}</defs>")
    # Where a page is dark and the viewer does not say so to the picture, it must be readable all the same.
    print(f'<rect class="page" {box} rx="8"/>')
    print("\n".join(parts))
    print("</svg>")


main()
