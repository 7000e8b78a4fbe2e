# SPDX-License-Identifier: MIT
"""Runs a command in a terminal of its own and does to it what a person would.

Usage: terminal.py COLUMNS ROWS STEPS COMMAND...

STEPS is a JSON list: ["expect", TEXT] waits until it has written TEXT since
the step before, ["send", KEYS], ["resize", COLUMNS, ROWS], ["kill", SIGNAL],
["touch", FILE], ["stopped"] waits until it has stopped, as a job of a shell,
["end"] waits for its end. What comes out is a JSON object:
"out", all that it wrote; "status", its exit status or minus the signal that
ended it; "same", whether the terminal's modes are what they were; "failed", a
step that was not.
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

PATIENCE = 60


def resize(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def become_job():
    """In the command: a group of its own in the foreground. Its parent is of
    the same session, without which the kernel stops nobody."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)


class Session:
    def __init__(self, columns, rows, command):
        self.master, self.slave = pty.openpty()
        resize(self.slave, columns, rows)
        self.modes = termios.tcgetattr(self.slave)
        self.out, self.seen = b"", 0
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave,
            preexec_fn=become_job)

    def read(self):
        if select.select([self.master], [], [], 0.02)[0]:
            self.out += os.read(self.master, 65536)

    def until(self, done):
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                return False
            self.read()
        return True

    def expect(self, text):
        text = text.encode()
        if not self.until(lambda: text in self.out[self.seen:]):
            return False
        self.seen = self.out.index(text, self.seen) + len(text)
        return True

    def send(self, keys):
        self.seen = len(self.out)
        os.write(self.master, keys.encode())
        return True

    def resize(self, columns, rows):
        self.seen = len(self.out)
        resize(self.master, columns, rows)
        return True

    def kill(self, number):
        self.process.send_signal(number)
        return True

    def touch(self, path):
        open(path, "w").close()
        return True

    def stopped(self):
        how = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        return self.until(
            lambda: os.waitid(os.P_PID, self.process.pid, how) is not None)

    def end(self):
        return self.until(lambda: self.process.poll() is not None)

    # What it wrote last is on its way yet; the end of it is an error.
    def drain(self):
        os.close(self.slave)
        end = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < end:
                self.read()
        except OSError:
            pass

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        self.drain()
        return status


def main():
    columns, rows, steps, *command = sys.argv[1:]
    session = Session(int(columns), int(rows), command)
    result = {}
    for step in json.loads(steps):
        if not getattr(session, step[0])(*step[1:]):
            result["failed"] = step
            break
    result["same"] = termios.tcgetattr(session.slave) == session.modes
    result["status"] = session.close()
    result["out"] = session.out.decode("utf-8", "replace")
    print(json.dumps(result))


main()
