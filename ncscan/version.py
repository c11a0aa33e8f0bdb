"""The version, which the build, `--version`, dumps and reports name."""

__version__ = "0.1.0"
