"""Running the daemon as a process: event loop, log, exit status."""

from __future__ import annotations

import asyncio
import ctypes
import signal

import uvloop

from mailmapd.app.daemon import Daemon
from mailmapd.app.defects import STOP_GRACE, end_within, watch_loop
from mailmapd.app.descriptors import raise_descriptor_limit
from mailmapd.app.heap import return_large_blocks
from mailmapd.app.logs import Logs
from mailmapd.app.service_manager import ServiceManager
from mailmapd.config.loader import load_config
from mailmapd.sockets.activation import take_sockets
from mailmapd.sockets.opening import SocketSet

_PR_SET_DUMPABLE = 4  # prctl(2)


def serve(file: str, make: type[Daemon] = Daemon) -> None:
    """Serve the configuration file with a daemon of the given kind until told to stop.

    Raises ConfigError when it cannot be used.
    """
    # A reload that comes before the daemon is up has nothing to read again
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config = load_config(file)
    logs = Logs(config.log)
    raise_descriptor_limit(config)
    return_large_blocks()
    leave_no_dump()
    sockets = SocketSet(take_sockets())

    async def run() -> None:
        daemon = make(config, sockets, ServiceManager(), logs=logs)
        loop = asyncio.get_running_loop()
        watch_loop(loop)

        def stop(*_: object) -> None:
            if not daemon.stopping:  # told twice to stop, it is still an orderly end
                end_within(daemon.config.limits.drain_timeout + STOP_GRACE)
                loop.call_soon_threadsafe(daemon.stop)

        # Python's own handlers, not the loop's: they are called even when the loop does not turn
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        try:
            await daemon.run()
        finally:
            end_within(STOP_GRACE)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)

    uvloop.run(run())
    logs.write_repeats(all_of_them=True)


def leave_no_dump() -> None:
    """Keep memory, which holds password hashes, out of core files and from other processes of the daemon's user.

    Nobody but root may attach to it or read its memory.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
