"""Draws docs/demo.svg, the picture in the README, from the demo's real output:

    pip install rich
    cargo build --release
    CLICOLOR_FORCE=1 LANG=C.UTF-8 target/release/lastgood demo --fast | python3 docs/demo-picture.py
"""

import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

text = Text.from_ansi(sys.stdin.read().rstrip())
console = Console(record=True, width=118, file=open("/dev/null", "w"), force_terminal=True)
console.print("$ lastgood demo --fast", style="bold")
console.print(text)
picture = Path(__file__).with_name("demo.svg")
svg = console.export_svg(title="lastgood demo", unique_id="demo")
# A picture fetches nothing: fonts come from the reader's machine.
svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S).replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
picture.write_text(svg)
