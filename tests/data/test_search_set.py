from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlm_recipes.data.search_set import read_search_set

DOCUMENTS = [{"_id": f"d{n}", "text": f"document {n}"} for n in range(12)]
QUERIES = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(11)]
JUDGED = [(f"q{n}", f"d{n}", 1) for n in range(10)]


def write(documents=DOCUMENTS, queries=QUERIES, judged=JUDGED, qrels="qrels.tsv"):
    folder = Path("faq")
    (folder / qrels).parent.mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus.jsonl", documents), ("queries.jsonl", queries)):
        (folder / name).write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judged)]
    (folder / qrels).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("qrels", ["qrels.tsv", "qrels/test.tsv"])
def test_a_folder_as_beir_has_it(qrels):
    documents = [{"_id": "d0", "title": "About zero", "text": "document 0"}, *DOCUMENTS[1:]]
    found = read_search_set(write(documents, judged=[*JUDGED, ("q0", "d5", 2), ("q10", "d1", 0)], qrels=qrels))
    assert found.name == "faq"
    assert found.documents[:2] == ["About zero document 0", "document 1"]
    assert found.queries == [query["text"] for query in QUERIES[:10]]  # the last one has nothing that is relevant
    assert found.relevant[:2] == [{0: 1.0, 5: 2.0}, {1: 1.0}]


def test_ids_may_be_numbers():
    documents = [{"_id": n, "text": f"document {n}"} for n in range(12)]
    queries = [{"_id": n, "text": f"question {n}"} for n in range(10)]
    found = read_search_set(write(documents, queries, [(n, n, 1) for n in range(10)]))
    assert found.relevant[3] == {3: 1.0}


def test_only_a_document_that_is_the_query_itself_is_skipped():
    """BEIR skips documents with the query's id, which may be another text where both are numbered."""
    queries = [{"_id": "d0", "text": "document 0"}, {"_id": "d1", "text": "question 1"}, *QUERIES[2:]]
    judged = [("d0", "d3", 1), ("d1", "d1", 1), *JUDGED[2:]]
    assert read_search_set(write(queries=queries, judged=judged)).skipped[:3] == [0, None, None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"documents": DOCUMENTS[:10]}, "has 10 documents, and 10 are ranked"),
        ({"documents": [*DOCUMENTS, DOCUMENTS[0]]}, "corpus.jsonl, line 13: the _id 'd0' is there twice"),
        ({"documents": [*DOCUMENTS, {"_id": "x"}]}, "corpus.jsonl, line 13: text is None"),
        ({"judged": JUDGED[:9]}, "a relevant document for 9 queries"),
        ({"judged": [*JUDGED, ("q0", "d99", 1)]}, "line 12: there is no document with the _id 'd99'"),
        ({"judged": [*JUDGED, ("q99", "d1", 1)]}, "line 12: there is no query with the _id 'q99'"),
        ({"judged": [*JUDGED, ("q0", "d1", "much")]}, "line 12: score is 'much'"),
    ],
)
def test_what_is_wrong_is_said(change, said):
    with pytest.raises(ValueError, match=r"^probe_search: ") as error:
        read_search_set(write(**change))
    assert said in str(error.value)


def test_a_folder_without_a_file():
    write()
    Path("faq/qrels.tsv").unlink()
    with pytest.raises(ValueError, match=r"'faq' has no qrels.tsv and no qrels/test.tsv. Accepted: a folder with"):
        read_search_set("faq")


@pytest.mark.parametrize(
    "other",
    [
        {"documents": [*DOCUMENTS[:11], {"_id": "d11", "text": "another"}]},
        {"queries": [{"_id": "q0", "text": "another"}, *QUERIES[1:]]},
        {"judged": [("q0", "d1", 1), *JUDGED[1:]]},
        {"judged": [("q0", "d0", 2), *JUDGED[1:]]},
    ],
)
def test_another_set_has_another_fingerprint(other):
    found = read_search_set(write())
    assert found.fingerprint() == read_search_set(write()).fingerprint()
    assert found.fingerprint() != read_search_set(write(**other)).fingerprint()
