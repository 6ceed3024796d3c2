"""Targets of fuzzing: each loads bytes of unknown origin.

A target returns normally, or raises the error that its loader documents. Any other exception is a
fault, and so are an end of the process, a hang, and growth without bound.
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.answers.extraction import extract_answer
from autotts_gym.collection.collection_journal import JournalContents
from autotts_gym.collection.question_files import read_questions
from autotts_gym.evaluation.results import Results
from autotts_gym.imports.rollout_import import import_rollouts
from autotts_gym.inference import http_responses
from autotts_gym.inference.engine import EngineError
from autotts_gym.inference.protocol import Protocol
from autotts_gym.inference.text_responses import read_generation
from autotts_gym.mdp.trace_dataset import TraceDataset
from autotts_gym.traces.published_import import read_published
from autotts_gym.traces.splits import split_of
from autotts_gym.traces.store import Branch, Question, TraceError, TraceStore
from autotts_gym.utils import bounded_yaml, redaction, terminal_text
from autotts_gym.utils.journal import JournalError, JsonlJournal

URL: Final = "http://127.0.0.1/v1"


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="autotts-fuzz-"))


def _file(name: str, content: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    return path


@functools.cache
def _store() -> TraceStore:
    branches = [Branch(["7", "No"], 1300, "7", [0.5, 1], [7, 8]), Branch([], 30, "8", [], [])]
    return TraceStore.from_branches([Question("1?", "7", branches)] * 3, 500)


@contextlib.contextmanager
def _store_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_folder()) as folder:
        yield _store().save(Path(folder) / "store").path or Path()


def answers(content: bytes) -> None:
    """Two answers, and a text with answers, on three lines."""
    gold, answer, text = (content.decode("utf-8", "replace") + "\n\n").split("\n", 2)
    equal = answers_equal(gold, answer)
    assert equal == answers_equal(answer, gold), (gold, answer)
    assert answers_equal(gold, gold), gold
    for extractor in ("boxed", "answer", "number", "choice"):
        extract_answer(text, [extractor])
        extract_answer(text, [extractor], first=True)


def yaml_text(content: bytes) -> None:
    """Any YAML."""
    with contextlib.suppress(ValueError):
        bounded_yaml.load(content.decode("utf-8", "replace"))


def card(content: bytes) -> None:
    """The card of a store."""
    with _store_folder() as folder, contextlib.suppress(TraceError):
        (folder / "card.yaml").write_bytes(content)
        _ = TraceStore.open(folder).tables


def table(content: bytes) -> None:
    """A table of a store: the first byte selects which."""
    names = ("questions", "branches", "probes", "texts")
    with _store_folder() as folder, contextlib.suppress(TraceError):
        name = names[(content or b"\0")[0] % len(names)]
        (folder / f"{name}.parquet").write_bytes(content[1:])
        store = TraceStore.open(folder)
        _ = store.tables
        store.branch_texts()
        store.branch_flags()


def values(content: bytes) -> None:
    """Values of a store whose card and fingerprint fit them: what is valid can be laid out."""
    numbers = np.frombuffer(content[: len(content) // 2 * 2], np.int16)
    part = len(numbers) // 4
    if not part:
        return
    tables = _store().tables
    count = len(tables.lengths)

    def column(k: int, size: int, kind: Any) -> Any:
        return np.resize(numbers[k * part : (k + 1) * part], size).astype(kind)

    changed = type(tables)(
        **{
            **vars(tables),
            "lengths": column(0, count, np.int64),
            "tokens": column(1, count, np.int64),
            "finals": column(2, count, np.int16),
            "probes": column(3, len(tables.probes), np.int16),
        }
    )
    with tempfile.TemporaryDirectory(dir=_folder()) as folder, contextlib.suppress(TraceError):
        store = TraceStore.from_tables(changed, 500).save(Path(folder) / "store")
        TraceDataset({"fuzz": store})


def published(content: bytes) -> None:
    """A published file."""
    with contextlib.suppress(TraceError):
        read_published(_file("bench.json", content))


def questions(content: bytes) -> None:
    """A file of questions: the first byte selects the type."""
    suffixes = (".jsonl", ".json", ".csv", ".parquet")
    suffix = suffixes[(content or b"\0")[0] % len(suffixes)]
    with contextlib.suppress(TraceError):
        read_questions(_file(f"questions{suffix}", content[1:]))


def rollouts(content: bytes) -> None:
    """Completions of another program: the first byte selects the format."""
    names = {
        "lm-eval": ".jsonl",
        "batch": ".jsonl",
        "verifiers": ".jsonl",
        "inspect": ".json",
        "completions": ".jsonl",
        "mars": ".parquet",
    }
    name = list(names)[(content or b"\0")[0] % len(names)]
    path = _file(f"rollouts{names[name]}", content[1:])
    with tempfile.TemporaryDirectory(dir=_folder()) as folder, contextlib.suppress(TraceError):
        store = import_rollouts(path, "made", format=name, extractors=["number"], to=folder)
        TraceDataset({"fuzz": store})


def protocol(content: bytes) -> None:
    """A protocol."""
    with contextlib.suppress(TraceError):
        Protocol.load(_file("protocol.yaml", content))


def splits(content: bytes) -> None:
    """A ``set.yaml``."""
    (_folder() / "set").mkdir(exist_ok=True)
    _file("set/set.yaml", content)
    with contextlib.suppress(TraceError):
        split_of(_folder() / "set/env")


def policy(content: bytes) -> None:
    """The card and the weights of a policy: a null character separates them."""
    from autotts_gym.controllers.errors import AgentError
    from autotts_gym.controllers.policy_agent import load

    text, _, weights = content.partition(b"\0")
    (_folder() / "policy").mkdir(exist_ok=True)
    _file("policy/card.yaml", text)
    _file("policy/policy.safetensors", weights)
    with contextlib.suppress(AgentError):
        load(_folder() / "policy")


def results(content: bytes) -> None:
    """A ``benchmark.json``, or the episodes: the first byte selects which."""
    (_folder() / "results").mkdir(exist_ok=True)
    is_table = (content or b"\0")[0] % 2
    _file(f"results/{'episodes.parquet' if is_table else 'benchmark.json'}", content[1:])
    with contextlib.suppress(ValueError):
        Results.load(_folder() / "results")


def journal(content: bytes) -> None:
    """The journal of a collection."""
    with contextlib.suppress(JournalError):
        JsonlJournal(_file("journal.jsonl", content), JournalContents().add)


def responses(content: bytes) -> None:
    """A response of a server, read in every way."""
    text = content.decode("utf-8", "replace")
    readers: list[Callable[[dict[str, Any], str], object]] = [
        http_responses.read_tokens,
        http_responses.read_text,
        http_responses.read_chat,
        http_responses.read_version,
        http_responses.read_models,
        lambda value, url: http_responses.read_choices(value, url, 1),
        lambda value, url: http_responses.read_choices(value, url, 1, partial=True),
        lambda value, url: http_responses.read_chunk(value, url, 20),
        lambda value, url: read_generation(value, url, 20),
    ]
    for read in readers:
        with contextlib.suppress(EngineError):
            read(http_responses.parse_object(text, URL), URL)


def printing(content: bytes) -> None:
    """Text of strangers, shown and recorded."""
    text = content.decode("utf-8", "surrogateescape")
    shown = terminal_text.one_line(text)
    if "\x1b" in shown or terminal_text.one_line(shown) != shown:
        raise AssertionError(f"{shown!r} is not safe to print")
    redaction.redact(text, text)
    json.dumps(redaction.redact_values({"a": [text]}))


#: Targets by name; the folder ``fuzz/corpus/NAME`` holds inputs of each.
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (
        answers,
        yaml_text,
        card,
        table,
        values,
        published,
        questions,
        rollouts,
        protocol,
        splits,
        policy,
        results,
        journal,
        responses,
        printing,
    )
}
