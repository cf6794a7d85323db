"""Java programs with Apache Kafka's classes: its own tools, Kafka Streams, MirrorMaker.

The environment variable KAFKA_CLASSES is the class path; `cargo xtask services kafka` downloads
what is in it to target/xtask/services/kafka/libs.
"""

import atexit
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading

from cases import until

HERE = pathlib.Path(__file__).resolve().parent
# Quick to start, and small.
JAVA = [
    "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx384m",
    "-XX:-UsePerfData", f"-Djava.io.tmpdir={tempfile.gettempdir()}",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
]
TOOLS = "org.apache.kafka.tools."


def classes():
    path = os.environ.get("KAFKA_CLASSES")
    if not path:
        raise SystemExit("KAFKA_CLASSES must be the class path: target/xtask/services/kafka/libs/*")
    return path


class Program:
    """A Java program that runs beside the case, line by line; ended when the block is left."""

    def __init__(self, main, *arguments, options=(), path=None):
        command = [*JAVA, *options, "-cp", path or classes(), main, *map(str, arguments)]
        self.errors = tempfile.NamedTemporaryFile("w")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
            text=True, start_new_session=True,
        )
        atexit.register(self.kill)
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def complaints(self):
        """The end of what it wrote to stderr."""
        return pathlib.Path(self.errors.name).read_text(errors="replace")[-1500:]

    def until(self, condition, what, seconds=45):
        """Waits until `condition(lines)` answers something true, and returns it."""
        def look():
            answer = condition(list(self.lines))
            if not answer and self.process.poll() is not None:
                self._reader.join(5)
                answer = condition(list(self.lines))
                if not answer:
                    raise AssertionError(
                        f"ended ({self.process.returncode}) before {what}: {self.complaints()}")
            return answer
        return until(look, what, seconds)

    def wait(self, seconds=45):
        """Waits until it ends by itself; fails unless that was in order. Returns its lines."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        if code != 0:
            raise AssertionError(f"exit {code}: {self.complaints()}")
        return self.lines

    def stop(self, seconds=30):
        """Asks it to end (SIGTERM) and waits; returns its lines."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._reader.join(5)
        return self.lines

    def kill(self):
        """Ends it at once (SIGKILL)."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.errors.close()


class _Tools:
    """The virtual machine that runs one tool after another."""

    def __init__(self):
        self.process = subprocess.Popen(
            [*JAVA, "-cp", classes(), str(HERE / "kafka-tools/Tools.java")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )
        atexit.register(self.process.kill)

    def call(self, main, arguments, given):
        call = {"main": main, "args": [str(one) for one in arguments], "stdin": given}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@functools.cache
def _tools():
    return _Tools()


def _call(*call):
    try:
        return _tools().call(*call)
    except BaseException:
        # Out of time: the late answer must not be taken for that of the next call.
        _tools().process.kill()
        _tools.cache_clear()
        raise


def tool(main, *arguments, given="", fails=False):
    """What a tool prints, or where it should fail all that it says. The name of its class is
    below `org.apache.kafka.tools` unless it is a whole one."""
    whole = main if main.startswith("kafka.") else TOOLS + main
    answer = _call(whole, arguments, given)
    if (answer["exit"] != 0) != fails:
        said = " | ".join(normal(answer["err"] + answer["out"])[:6])
        raise AssertionError(f"{main} {arguments}: exit {answer['exit']}: {said}")
    return answer["out"] + answer["err"] if fails else answer["out"]


def file_with(text):
    """The name of a temporary file with this text, removed at the end."""
    file = tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False)
    atexit.register(lambda: pathlib.Path(file.name).unlink(missing_ok=True))
    with file:
        file.write(text)
    return file.name


_SAME = [
    # An error's sentence is the broker's own.
    (re.compile(r"org\.apache\.kafka\.common\.errors\.(\w+): .*"), r"\1"),
    (re.compile(r"compat-([a-z0-9-]+?)-[0-9a-f]{12}"), r"<\1>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"(TopicId: )\S+"), r"\1<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,:]\d+"), "<time>"),
    (re.compile(r"/\S*/tmp\w+\.txt"), "<file>"),
    (re.compile(r'"log_dirs":\["/[^"]*"\]'), '"log_dirs":["<folder>"]'),
    (re.compile(r"[ \t]+"), " "),
]


def normal(text, drop=None):
    """The lines of a tool's output without what differs from run to run, and without the lines
    that have `drop` in them."""
    lines = []
    for line in text.splitlines():
        for pattern, same in _SAME:
            line = pattern.sub(same, line)
        line = line.strip()
        if line and not line.startswith("at ") and not (drop and drop in line):
            lines.append(line)
    return lines
