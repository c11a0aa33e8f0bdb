"""Write what people read: the page, the figures, the terminal."""

from ncscan.files import write_whole
from ncscan.report.diff_terminal import render_comparison
from ncscan.report.etf_animation.animation import FEWEST_CLASSES, MOST_CLASSES, animation
from ncscan.report.figures.charted import charted
from ncscan.report.figures.presets import figure, preset
from ncscan.report.figures.rendering import FORMATS, as_file
from ncscan.report.html.diff_page import diff_page
from ncscan.report.json_report import summary_text
from ncscan.report.output import Files, files_of, put
from ncscan.report.own_files import CHARTS, CONVENTION, FIGURES
from ncscan.report.stamp import stamped
from ncscan.report.terminal import WIDTH, render_verdict
from ncscan.report.verdict.evaluate import NOTHING, Verdicts, verdicts

__all__ = [
    "CHARTS",
    "CONVENTION",
    "FEWEST_CLASSES",
    "FIGURES",
    "FORMATS",
    "MOST_CLASSES",
    "NOTHING",
    "WIDTH",
    "Files",
    "Verdicts",
    "animation",
    "as_file",
    "charted",
    "diff_page",
    "figure",
    "files_of",
    "preset",
    "put",
    "render_comparison",
    "render_verdict",
    "stamped",
    "summary_text",
    "verdicts",
    "write_whole",
]
