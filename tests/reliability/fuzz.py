"""The fuzzer: mutated files, each read in a forked child that has limits on time and memory.

`python -m reliability.fuzz --inputs 3000 --out figures.json`, with `src` and `tests` on the path, prints a line for
each reader and one for all.
"""

import argparse
import faulthandler
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from reliability.mutations import LENGTH_CHANGES, PIXELS, Mutation
from reliability.parts import GEOMETRY, VALUES, Parts, Subject
from reliability.subjects import SUBJECTS
from roireg.errors import InputError

CPU_SECONDS, WALL_SECONDS = 20, 60
MEMORY_BYTES = 10**9
# Equal; one line; differs where the format holds no checksum.
RIGHT, REFUSED, PIXELS_DIFFER, OTHER_FILE = "right", "refused", "other pixels", "another valid file"
WRONG, TRACEBACK, HANG, CRASH, MEMORY = "wrong", "traceback", "hang", "crash", "memory"
FAULTS = (WRONG, TRACEBACK, HANG, CRASH, MEMORY)
# How often a file is one of another kind, and how often the subject's own oddities are taken.
SWAPPED, ODD = 0.06, 0.3


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        subject, number: which input it was; `replay` makes it again.
        what: what was done to the file.
        result: RIGHT, REFUSED, PIXELS_DIFFER, OTHER_FILE, or one of FAULTS.
        told: the error's line, or what is wrong.
    """

    subject: str
    number: int
    what: str
    result: str
    told: str = ""


def generator(seed: int, subject: str, number: int) -> np.random.Generator:
    """Of one input."""
    return np.random.default_rng([seed, zlib.crc32(subject.encode()), number])


def mutate(subject: Subject, folder: Path, rng: np.random.Generator) -> tuple[str, list[Mutation], bool]:
    """Change the files of a subject.

    Returns:
        What was done, the mutations of bytes, and whether all of them lie behind the header.
    """
    target = folder / subject.target
    chance = rng.random()
    if chance < SWAPPED:
        return _swapped(subject, target, rng), [], False
    if subject.odd is not None and chance < SWAPPED + ODD:
        return subject.odd(folder, rng), [], False
    data = target.read_bytes()
    done: list[Mutation] = []
    behind = True
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if not data:
            break
        header = len(data) if subject.header is None else min(subject.header(data), len(data))
        in_header = header >= len(data) or (header > 0 and rng.random() < 0.6)
        low, high = (0, header) if in_header else (header, len(data))
        mutators = subject.header_mutators if in_header else PIXELS
        one = mutators[int(rng.integers(len(mutators)))](data, low, high, rng)
        done.append(one)
        behind = behind and one.first >= header
        data = one.data
    target.write_bytes(data)
    return ", ".join(f"{one.kind} at {one.first}" for one in done), done, behind


def _swapped(subject: Subject, target: Path, rng: np.random.Generator) -> str:
    """The file is one of another kind."""
    choices = [b"", b"\0" * 5000, rng.bytes(3000), b"x: 1\n", b"{}", b"hello\n" * 300]
    pick = int(rng.integers(len(choices) + 4))
    if pick < len(choices):
        target.write_bytes(choices[pick])
        return f"swapped {pick}"
    names = [name for name in SUBJECTS if name != subject.name]
    other = SUBJECTS[names[int(rng.integers(len(names)))]]
    with tempfile.TemporaryDirectory() as name:
        other.write(Path(name))
        target.write_bytes((Path(name) / other.target).read_bytes())
    return f"swapped for {other.name}"


def judged(
    subject: Subject, whole: Parts, found: Parts, what: str, done: Sequence[Mutation], behind: bool, size: int
) -> tuple[str, str]:
    """RIGHT, PIXELS_DIFFER, OTHER_FILE or WRONG, and why, of a file that was read; `size` is that of the whole file."""
    for name, part in found.items():
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            return WRONG, f"{name} are not finite"
    differ = [
        name for name, part in whole.items() if found[name].shape != part.shape or not np.array_equal(found[name], part)
    ]
    if not differ:
        return RIGHT, ""
    kept = [name for name in differ if name in subject.protected]
    if kept and not what.startswith("swapped for"):
        return WRONG, f"{kept[0]} differ, which a checksum protects"
    if not done or not behind:
        if any(word in what for word in ("a slice",)):
            return WRONG, f"{differ} differ: {what}"
        return OTHER_FILE, ""
    if GEOMETRY in differ:
        return WRONG, "the pixels were damaged, and the geometry differs"
    moved = any(one.kind in LENGTH_CHANGES for one in done)
    # As many bytes put in elsewhere as were taken out: the length fits again.
    fits = len(done[-1].data) == size
    if subject.spread or (moved and (fits or subject.loose)):
        return PIXELS_DIFFER, ""
    if moved:
        return WRONG, "its length was changed, and pixels differ"
    if found[VALUES].shape != whole[VALUES].shape:
        return WRONG, "the shape differs"
    count = int((found[VALUES] != whole[VALUES]).sum())
    if count > sum(one.count for one in done):
        return WRONG, f"{count} pixels differ"
    return PIXELS_DIFFER, ""


def tried(subject: Subject, number: int, seed: int, base: Path, whole: Parts) -> Outcome:
    """One input, in this process."""
    folder = base / "try"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base / "whole", folder)
    size = (folder / subject.target).stat().st_size
    what, done, behind = mutate(subject, folder, generator(seed, subject.name, number))
    try:
        found = subject.read(folder)
    except InputError as error:
        line = str(error)
        if "\n" in line or not line.isprintable():
            return Outcome(subject.name, number, what, TRACEBACK, f"more than one line: {line!r}")
        if "MemoryError" in line:
            return Outcome(subject.name, number, what, MEMORY, line)
        return Outcome(subject.name, number, what, REFUSED, line)
    except MemoryError:
        return Outcome(subject.name, number, what, MEMORY, traceback.format_exc())
    except BaseException:
        return Outcome(subject.name, number, what, TRACEBACK, traceback.format_exc())
    result, told = judged(subject, whole, found, what, done, behind, size)
    return Outcome(subject.name, number, what, result, told)


def _limits() -> None:
    """Of the child: memory beyond what it has now, and no core file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _child(subject: Subject, numbers: Sequence[int], seed: int, base: Path, whole: Parts, pipe: int) -> None:
    _limits()
    with os.fdopen(pipe, "wb") as out:
        for number in numbers:
            spent = resource.getrusage(resource.RUSAGE_SELF)
            resource.setrlimit(
                resource.RLIMIT_CPU,
                (int(spent.ru_utime + spent.ru_stime) + CPU_SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1]),
            )
            signal.alarm(WALL_SECONDS)
            content = pickle.dumps(tried(subject, number, seed, base, whole))
            out.write(struct.pack("<I", len(content)) + content)
            out.flush()


def outcomes(subject: Subject, numbers: Sequence[int], seed: int, base: Path) -> list[Outcome]:
    """What becomes of inputs; a child that dies is replaced by one that begins after the input that killed it."""
    (base / "whole").mkdir(parents=True)
    subject.write(base / "whole")
    whole = subject.read(base / "whole")
    found: list[Outcome] = []
    left = list(numbers)
    while left:
        read_end, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            faulthandler.disable()
            status = 1
            try:
                _child(subject, left, seed, base, whole, write_end)
                status = 0
            finally:
                os._exit(status)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            while size := pipe.read(4):
                found.append(pickle.loads(pipe.read(struct.unpack("<I", size)[0])))
                left = left[1:]
        _, status = os.waitpid(child, 0)
        if left:
            killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            result = HANG if killed in (signal.SIGALRM, signal.SIGXCPU) else CRASH
            found.append(Outcome(subject.name, left[0], "?", result, f"signal {killed}, status {status}"))
            left = left[1:]
    return found


def fuzz(inputs: int, seed: int, names: Sequence[str] = ()) -> list[Outcome]:
    """About so many inputs in all, shared between subjects by their weights."""
    chosen = [SUBJECTS[name] for name in names] or list(SUBJECTS.values())
    total = sum(one.weight for one in chosen)
    found = []
    for subject in chosen:
        count = max(1, round(inputs * subject.weight / total))
        with tempfile.TemporaryDirectory(prefix="roireg-fuzz-") as folder:
            found += outcomes(subject, range(count), seed, Path(folder))
    return found


def figures(found: Sequence[Outcome]) -> str:
    """A line for each subject, and one for all."""
    lines = []
    for name in [*dict.fromkeys(one.subject for one in found), ""]:
        counts = Counter(one.result for one in found if name in (one.subject, ""))
        told = ", ".join(f"{word} {counts[word]}" for word in (RIGHT, REFUSED, PIXELS_DIFFER, OTHER_FILE, *FAULTS))
        lines.append(f"{name or 'mutated inputs'}: {counts.total()}: {told}")
    return "\n".join(lines)


def main() -> int:
    """Fuzz, print the figures, and write all outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = fuzz(options.inputs, options.seed, options.only)
    for one in found:
        if one.result in FAULTS:
            print(f"FAULT {one.subject} {one.number} ({one.what}): {one.result}: {one.told}", file=sys.stderr)
    print(figures(found))
    if options.out is not None:
        options.out.write_text(json.dumps([asdict(one) for one in found]))
    return int(any(one.result in FAULTS for one in found))


if __name__ == "__main__":
    sys.exit(main())
