# SPDX-License-Identifier: Apache-2.0
"""Pictures of results, drawn with matplotlib by whatever Python here has it."""

import os
import subprocess
import sys

DEBIAN_PYTHON = "/usr/bin/python3"  # the interpreter that Debian's python3-matplotlib serves


def pyplot():
    """matplotlib's pyplot, for files; None when this Python has no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot as drawing
    return drawing


def draw_with_any_python(draw, script, results_path):
    """draw(results_path) here, or, where that is False, `script --plot results_path` by Debian's Python."""
    if draw(results_path):
        return True
    if not os.path.exists(DEBIAN_PYTHON) or os.path.realpath(sys.executable) == os.path.realpath(DEBIAN_PYTHON):
        return False
    again = subprocess.run([DEBIAN_PYTHON, script, "--plot", results_path], capture_output=True, check=False)
    return again.returncode == 0
