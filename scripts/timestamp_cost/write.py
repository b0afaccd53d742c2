# SPDX-License-Identifier: GPL-2.0-only
"""Write the study's page, figures and cover letter: to results/study, or to another folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from figures import figures
from page import page
from points import Study
from runs import FOLDER

from xdptstamp.report.image import draw_image

#: The runs that the cover letter is of.
_LETTER = ("free-10000us", "waiting-10000us")


def main(folder: Path) -> None:
    """Write all of it into ``folder``."""
    study = Study()
    (folder / "README.md").write_text(page(study), encoding="utf-8")
    for figure in figures(study):
        with (folder / f"{figure.key}.svg").open("wb") as out:
            draw_image(out, "svg", "", [("", [figure])])
    report = [sys.executable, "-m", "xdptstamp", "report", "--format", "md", "--force"]
    runs = [str(FOLDER / name) for name in _LETTER]
    subprocess.run([*report, "-o", folder / "letter.txt", *runs], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
