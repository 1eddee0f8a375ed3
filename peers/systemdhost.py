"""
A host with a systemd of its own as process 1, in namespaces that end with it.

It has this machine's F{/usr}, a network of its own, and what else its users put there.  Programs
are in F{/opt/cms/bin}, as docs/operate.md has them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from pathlib import Path

from peers.contract import ROOT
from peers.network import wait_until
from peers.processes import Processes
from peers.tools import require

_SYSTEMD = "/lib/systemd/systemd"
# A cgroup of its own first, for a namespace's root is the cgroup in which it is made.
_OUTSIDE = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs $root
mkdir $root/groups
mount -t cgroup2 cgroup2 $root/groups
group=$root/groups/cms-test-$$
mkdir $group
echo 0 >$group/cgroup.procs
setpriv --pdeathsig KILL unshare --cgroup --pid --fork --kill-child --mount sh -e -c "$inside" &
echo 0 >$root/groups/cgroup.procs
trap "kill -KILL $!" TERM
wait $! || status=$?
trap '' TERM
for try in $(seq 100); do  # until the last process is gone
    find $group -depth -type d -exec rmdir {} ';' 2>/dev/null
    [ -e $group ] || exit ${status:-0}
    sleep 0.1
done
exit 1
"""
_INSIDE = """
mount --make-rprivate /
cd $root
mkdir -p dev etc/systemd/system proc root run sys tmp usr var/lib old \
    opt/cms/bin opt/cms/source opt/cms/packages opt/python
ln -s usr/bin usr/sbin usr/lib .
[ ! -e /usr/lib64 ] || ln -s usr/lib64 .
mount --bind /usr usr
mount -o remount,ro,bind usr
mount --bind $source opt/cms/source
mount --bind $packages opt/cms/packages
mount --bind $python opt/python
cp -r /etc/ld.so.cache /etc/alternatives /etc/ssl /etc/nsswitch.conf etc
cp $host/passwd $host/group $host/hosts etc
cp $host/twistd $host/cms opt/cms/bin
mount -t proc proc proc
mount --bind proc/sys proc/sys  # the kernel's settings are everybody's, but those of the network
mount -o remount,ro,bind proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,rw,bind proc/sys/net
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ip link set lo up
# Without an ID all that is installed is enabled.
echo 0123456789abcdef0123456789abcdef >etc/machine-id
pivot_root . old
umount -l old
exec env -i container=test PATH=/opt/cms/bin:/usr/sbin:/usr/bin /lib/systemd/systemd \
    --unit=multi-user.target
"""
_PROGRAM = """#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/cms/source:/opt/cms/packages
exec /opt/python/bin/{python} -c 'from {module} import {main}; {main}()' "$@"
"""
_PROGRAMS = {"twistd": ("twisted.scripts.twistd", "run"), "cms": ("cms.cli", "main")}
_FILES = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "group": "root:x:0:\n",
    "hosts": "127.0.0.1 localhost\n",
}


class SystemdHost:
    """The host.  Who runs the tests is root, or may become root by C{sudo}."""

    def __init__(self, processes: Processes) -> None:
        require(_SYSTEMD, "systemd")
        require("unshare", "util-linux")
        require("ip", "iproute2")
        self._sudo = [] if os.geteuid() == 0 else [require("sudo", "sudo"), "-n"]
        self._processes = processes
        self._root = processes.make_directory("root")
        files = processes.make_directory("files")
        python = f"python{sysconfig.get_python_version()}"
        for name, (module, main) in _PROGRAMS.items():
            text = _PROGRAM.format(python=python, module=module, main=main)
            (files / name).write_text(text)
            (files / name).chmod(0o755)
        for name, text in _FILES.items():
            (files / name).write_text(text)
        names = {
            "root": self._root,
            "host": files,
            "source": ROOT,
            "packages": sysconfig.get_path("purelib"),
            "python": sys.base_prefix,
        }
        given = [f"{name}={value}" for name, value in names.items()]
        self._process = processes.start(
            "systemd",
            [
                *(*self._sudo, "env", *given, f"inside={_INSIDE}"),
                *("unshare", "--mount", "--net", "--ipc", "--uts", "sh", "-e", "-c", _OUTSIDE),
            ],
        )
        self._init = 0
        wait_until(self._has_init, 10.0, "systemd to be process 1")
        is_up = "test -S /run/systemd/private"
        wait_until(lambda: self._run(is_up)[0] == 0, 20.0, "systemd to listen")
        self.types("systemctl is-system-running --wait", status=None)

    def _has_init(self) -> bool:
        """Look for process 1, which has another number here."""
        below = [self._process.pid]
        for pid in below:
            with contextlib.suppress(OSError):  # it may have ended
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"{_SYSTEMD}\0".encode()):
                    self._init = pid
                    return True
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                below += map(int, children.split())
        return False

    def types(self, text: str, *, status: int | None = 0, answer: str = "") -> str:
        """Run lines there as root; what they print."""
        ended, output = self._run(text, answer)
        assert status in (None, ended), output
        return output

    def _run(self, text: str, answer: str = "") -> tuple[int, str]:
        command = [
            *(*self._sudo, "nsenter", f"--target={self._init}", "--root", "--wd"),
            *("--mount", "--net", "--pid", "--cgroup", "--ipc", "--uts"),
            *("env", "-i", "PATH=/opt/cms/bin:/usr/sbin:/usr/bin", "sh", "-e", "-c"),
            f"cd /root\n{text}",
        ]
        return self._processes.run("typed", command, text=answer)
