"""Run ncscan's command line and stop it from within: python stopping.py SIGNAL CALLS SECONDS ARGUMENT...

The signal comes once layers were called CALLS times and the process has worked SECONDS more. What is done by then
depends neither on the load nor on the speed of the machine, as it would if another process looked and waited.
"""

import os
import signal
import sys
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook


def stop_after(calls: int, seconds: float, how: signal.Signals) -> None:
    """Arrange for the signal. With SIGPROF the kernel sends it, wherever the process then is: also amid a write."""
    left = calls

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and how is signal.SIGPROF:
            signal.setitimer(signal.ITIMER_PROF, seconds)
        elif left == 0:
            os.kill(os.getpid(), how)

    # A shell without job control starts background jobs with SIGINT ignored, and every child inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    register_module_forward_pre_hook(count)


if __name__ == "__main__":
    how, calls, seconds, *arguments = sys.argv[1:]
    stop_after(int(calls), float(seconds), signal.Signals[how])
    sys.argv[1:] = arguments
    from ncscan.cli import main

    main()
