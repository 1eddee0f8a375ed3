"""Running a daemon: its start, log, clocks, threads, listeners and service manager."""
