"""The colours of pages and figures, and what each is called in a page so that it follows light and dark.

In: nothing. Out: ramps in order, their twins on a dark page, and THEME from a colour to the name of its variable.
"""

DEPTH_RAMP = (
    *("#361d85", "#2c2f91", "#193f9b", "#025096", "#015e91", "#066b90"),
    *("#067691", "#068293", "#028e94", "#099a93", "#08a690", "#0cb288"),
)
"""First to last in the network: cool colours, even steps in lightness (OKLCH 0.34–0.68)."""
DEPTH_DARK = (
    *("#6353c5", "#5765d2", "#4676dc", "#2c87e3", "#0898e2", "#04a7dd"),
    *("#03b6db", "#01c3d9", "#09d1d6", "#0adfd1", "#44ebc9", "#6ff5c0"),
)
"""The same ramp on a dark page (0.52–0.88)."""

STEP_RAMP = (
    *("#62155f", "#721b5e", "#81225b", "#8f2957", "#9d3253", "#aa3b4d"),
    *("#b64646", "#c0523d", "#c95f34", "#d16c29", "#d67b1d", "#da8a11"),
)
"""First to last in training: warm colours, so that the two kinds of chart are told apart at a glance."""
STEP_DARK = (
    *("#973787", "#a93f81", "#ba497b", "#c95475", "#d6606d", "#e26e66"),
    *("#ec7d60", "#f38c5b", "#f99d58", "#fcae5a", "#fec060", "#fed16b"),
)

HEAT_RAMP = (
    *("#f4efdf", "#ecdfc0", "#e5cda4", "#deba8d", "#d6a67d", "#cb9274"),
    *("#bb7f71", "#a66d72", "#8e5d74", "#734f74", "#58426f", "#3d3663"),
)
"""Small to large in a heat map: from the paper to ink, in lightness alone, so that it also reads in grey."""
HEAT_DARK = (
    *("#26282e", "#333140", "#443a52", "#584361", "#6d4c6b", "#835771"),
    *("#996474", "#ae7475", "#c18778", "#d19d80", "#deb58f", "#ead0a8"),
)

BALANCE_RAMP = (
    *("#1b4f8f", "#3f73ad", "#6c98c6", "#9dbcdb", "#cddceb"),
    "#f1efea",
    *("#f2dcc0", "#e6bd8b", "#d4975a", "#b8702f", "#8f4d12"),
)
"""The ramp of less than expected, as expected, more."""
BALANCE_DARK = (
    *("#7db8f5", "#5f9ddd", "#4682c0", "#35689d", "#2a4d72"),
    "#2a2d31",
    *("#57422a", "#7f5d33", "#a97a3d", "#d29a4c", "#f6bd66"),
)

SERIES = ("#0b6e99", "#b5541c", "#6a4c9c", "#2f7d3b", "#a3195b", "#7a6a00", "#4a4f55", "#00696b")
"""Colours of groups, and of a picture's classes: told apart without colour vision by lightness too, 3:1 on paper."""
SERIES_DARK = ("#56b8e6", "#f09a5e", "#b79be8", "#7ccf87", "#f07fb4", "#d8c24a", "#b5bac1", "#4fd0d0")

INK = "#222426"
"""The colour of text, ticks and grid; the page replaces it by its own text colour."""
BLANK = "#e9e6e0"
"""The colour where there is no value."""
BLANK_DARK = "#23272c"

RAMPS = {
    "depth": (DEPTH_RAMP, DEPTH_DARK),
    "step": (STEP_RAMP, STEP_DARK),
    "heat": (HEAT_RAMP, HEAT_DARK),
    "balance": (BALANCE_RAMP, BALANCE_DARK),
    "series": (SERIES, SERIES_DARK),
    "blank": ((BLANK,), (BLANK_DARK,)),
}
"""Each ramp and its dark twin by the name of its variables, `--depth0` and so on."""

SHADES = {name: len(light) for name, (light, _) in RAMPS.items()}
"""How many colours each ramp has; the page's script counts by these too."""

THEME = {INK: "currentColor"} | {
    colour: f"var(--{name}{i})" for name, (light, _) in RAMPS.items() for i, colour in enumerate(light)
}
"""The name of each colour of a chart in the page."""
