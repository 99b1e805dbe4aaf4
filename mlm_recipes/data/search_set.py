"""Reads queries, documents, and which documents are relevant to which query: a folder as BEIR has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .placed_rows import Placed, fingerprint, placed_rows, refuse_url

#: With fewer queries, an interval cannot be trusted.
FEWEST = 10

#: As many documents are ranked for a query; with no more than these, each would find all.
DEPTH = 10


@dataclass(frozen=True)
class SearchSet:
    """Queries and documents, and for each query how relevant which documents are.

    `relevant` has the index and the relevance, above 0, of a query's documents. `skipped` is for each query the index
    of the document that is the query itself, with the same id and the same text, if there is one.
    """

    name: str
    queries: list[str]
    documents: list[str]
    relevant: list[dict[int, float]]
    skipped: list[int | None]

    def fingerprint(self) -> str:
        """Return a hash of the queries, the documents, and which of these are relevant, in their order."""
        relevant = [sorted(judged.items()) for judged in self.relevant]
        return fingerprint([*zip(self.queries, relevant, self.skipped, strict=True), *self.documents])


def read_search_set(folder: str | Path, encoding: str = "utf-8", encoding_errors: str = "strict") -> SearchSet:
    """Read a search set in BEIR's layout (Thakur et al. 2021, https://arxiv.org/abs/2104.08663).

    The folder holds `corpus.jsonl` with `_id`, `text` and perhaps `title` of each document, `queries.jsonl` with `_id`
    and `text`, and `qrels.tsv` (or `qrels/test.tsv`) with the columns `query-id`, `corpus-id` and `score`, of which a
    score above 0 means relevant. Queries without a relevant document are not used.

    Raises: ValueError for a missing or damaged file, an id that is missing, unknown or there twice, fewer than ten
    queries with a relevant document, or no more than ten documents.
    """
    folder = Path(folder).expanduser()
    refuse_url(folder, "probe_search")
    files = {name: _find(folder, *places) for name, places in _PLACES.items()}
    read = {
        name: placed_rows(path, "probe_search", _COLUMNS[name], encoding, encoding_errors)
        for name, path in files.items()
    }
    documents, queries = _texts(read["documents"]), _texts(read["queries"])
    judged = _judgements(read["relevant"], queries, documents)
    if len(documents) <= DEPTH:
        raise ValueError(
            f"probe_search: {str(files['documents'])!r} has {len(documents)} documents, and {DEPTH} are ranked for "
            f"each query. Accepted: more than {DEPTH} documents. Add documents that are not relevant."
        )
    if len(judged) < FEWEST:
        raise ValueError(
            f"probe_search: {str(files['relevant'])!r} has a relevant document for {len(judged)} queries. Accepted: "
            f"{FEWEST} queries or more; a hundred show a difference. Add queries."
        )
    number = {identifier: index for index, identifier in enumerate(documents)}
    return SearchSet(
        name=folder.resolve().name,
        queries=[queries[query] for query in judged],
        documents=[*documents.values()],
        relevant=[{number[document]: score for document, score in found.items()} for found in judged.values()],
        skipped=[number[query] if documents.get(query) == queries[query] else None for query in judged],
    )


_PLACES = {
    "documents": ("corpus.jsonl", "corpus.jsonl.gz"),
    "queries": ("queries.jsonl", "queries.jsonl.gz"),
    "relevant": ("qrels.tsv", "qrels/test.tsv"),
}
_COLUMNS = {"documents": ("_id",), "queries": ("_id",), "relevant": ("query-id", "corpus-id", "score")}


def _find(folder: Path, *places: str) -> Path:
    found = next((folder / place for place in places if (folder / place).is_file()), None)
    if found is None:
        raise ValueError(
            f"probe_search: {str(folder)!r} has no {' and no '.join(places)}. Accepted: a folder with corpus.jsonl, "
            "queries.jsonl and qrels.tsv. Check the path, or add the file."
        )
    return found


def _value(row: Mapping[str, Any], column: str, place: str) -> str:
    value = row.get(column)
    if value is None or isinstance(value, bool | list | dict) or not str(value).strip():
        raise ValueError(
            f"probe_search: {place}: {column} is {value!r}. Accepted: an object or a row with {column}. Correct or "
            "remove it."
        )
    return str(value)


def _texts(rows: list[Placed]) -> dict[str, str]:
    """Return the texts by their ids; a title is put before the text, as BEIR does."""
    found: dict[str, str] = {}
    for place, row in rows:
        identifier = _value(row, "_id", place)
        if identifier in found:
            raise ValueError(
                f"probe_search: {place}: the _id {identifier!r} is there twice. Accepted: each id once. Correct it."
            )
        title = row.get("title")
        found[identifier] = f"{title} {_value(row, 'text', place)}" if title else _value(row, "text", place)
    return found


def _judgements(
    rows: list[Placed], queries: Mapping[str, str], documents: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Return the relevant documents of each query that has any, in the order of the file."""
    found: dict[str, dict[str, float]] = {}
    for place, row in rows:
        query, document = _value(row, "query-id", place), _value(row, "corpus-id", place)
        for kind, identifier, known in (("query", query, queries), ("document", document, documents)):
            if identifier not in known:
                raise ValueError(
                    f"probe_search: {place}: there is no {kind} with the _id {identifier!r}. Accepted: ids of "
                    "queries.jsonl and corpus.jsonl. Correct or remove that row."
                )
        value = _value(row, "score", place)
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ValueError(
                f"probe_search: {place}: score is {value!r}. Accepted: a number, above 0 for relevant documents. "
                "Correct that row."
            )
        if score > 0:
            found.setdefault(query, {})[document] = score
    return found
