"""The end of a process."""

import atexit
import os
import sys
import threading
from typing import NoReturn

TOOLS = 6  # that sys.monitoring has places for


def end_process(code: int) -> NoReturn:
    """Exit with this code, without the interpreter's own end: after torch was imported, it takes a quarter of
    a second to free every object, and more with a GPU. Whatever is registered to run at exit is run.

    It does not return, unless a thread still works or a profiler or debugger waits for the end: then
    SystemExit is raised as usual.
    """
    working = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    if working or is_watched():
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_watched() -> bool:
    """Whether a profiler or debugger is at work. From Python 3.12 on, cProfile uses sys.monitoring."""
    monitoring = getattr(sys, "monitoring", None)
    tools = [] if monitoring is None else [monitoring.get_tool(number) for number in range(TOOLS)]
    return any(tools) or sys.getprofile() is not None or sys.gettrace() is not None
