from __future__ import annotations

import re

import pytest
import yaml
from example_metrics import HOSTILE, full, metrics
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from mlm_recipes.report import model_card

#: What may stand under these keys (https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def values(source="hub", model="google-bert/bert-base-uncased", corpus="hub:owner/notes", **train):
    found = full(model_source=source, model=model, **train)
    found["corpus"] |= {"source": corpus, "name": "owner/notes"}
    return found


def data(found):
    _, front, _ = model_card.card(found).split("---\n", 2)
    return yaml.safe_load(front)


def test_the_metadata_has_what_the_hub_requires():
    front = data(values())
    assert front["pipeline_tag"] == "fill-mask"
    assert front["library_name"] == "transformers"
    assert front["base_model"] == "google-bert/bert-base-uncased"
    assert front["base_model_relation"] == "finetune"
    assert front["datasets"] == ["owner/notes"]
    assert front["license"] == "unknown"
    (model,) = front["model-index"]
    assert model["name"]
    for result in model["results"]:
        assert result["task"]["type"] == "fill-mask"
        assert HUB_ID.fullmatch(result["dataset"]["type"])
        assert result["dataset"]["name"]
        for metric in result["metrics"]:
            assert re.fullmatch(r"[a-z0-9-]+", metric["type"])
            assert isinstance(metric["value"], float)
    scores = {metric["type"]: metric["value"] for metric in model["results"][0]["metrics"]}
    assert scores["loss"] == 6.5
    assert scores["accuracy"] == 0.05


def test_a_masked_share_that_changed_is_told():
    history = [{"step": n, "loss": 3.0, "learning_rate": 1e-3, "mlm_probability": 0.3 / n} for n in (1, 2)]
    said = "\nTraining masked 30.0% of the tokens at step 1 and 15.0% at step 2.\n\n"
    assert said in model_card.card(values(history=history))
    assert "Training masked" not in model_card.card(values())


def test_the_hubs_own_classes_read_it_back():
    card = ModelCard(model_card.card(values()))
    assert card.data.base_model == "google-bert/bert-base-uncased"
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "google-bert/bert-base-uncased on owner/notes"
    assert {result.metric_type for result in results} >= {"loss", "perplexity", "accuracy"}


@pytest.mark.parametrize(
    ("source", "model", "random"),
    [
        ("built in", "mini", False),
        ("folder", "runs/meditations", False),
        ("hub", "google-bert/bert", True),
        ("hub", HOSTILE, False),
        (None, "owner/name", False),
    ],
)
def test_a_base_model_is_named_only_if_the_hub_has_it_and_its_weights_were_used(source, model, random):
    assert "base_model" not in data(values(source, model, random_weights=random))


@pytest.mark.parametrize("corpus", ["/somewhere/notes.txt", "bundled", "https://example.org/notes.txt", "hub:../x y"])
def test_a_data_set_is_named_only_if_it_is_on_the_hub(corpus):
    found = values(corpus=corpus)
    assert "datasets" not in data(found)
    assert "/somewhere" not in model_card.card(found)  # nor where on whose disk it lies


@pytest.mark.parametrize(
    ("stated", "random", "licence"),
    [
        ("apache-2.0", False, "apache-2.0"),
        ("apache-2.0", True, "unknown"),
        (None, False, "unknown"),
        ("x: y\nevil: true", False, "unknown"),
    ],
)
def test_the_licence_is_that_of_the_weights_or_unknown(stated, random, licence):
    found = values("folder", "mine", model_licence=stated, random_weights=random)
    assert data(found)["license"] == licence
    assert "evil" not in data(found)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense: [mit, other]\n---\n", None),
        ("no metadata", None),
        ("---\nlicense: other\n---\n", None),
        ("---\nlicense: {a\n---\n", None),
        ("---\n- a\n---\n", None),
    ],
)
def test_a_licence_is_read_from_a_card_or_unknown(tmp_path, card, licence):
    (tmp_path / "README.md").write_text(card)
    assert model_card.licence_in(tmp_path / "README.md") == licence
    assert model_card.licence_in(tmp_path / "nothing.md") is None


def test_the_card_names_reasons_for_doubt():
    found = values()
    found["gain"] |= {"loss": 0.02, "low": -0.01, "high": 0.05}
    body = model_card.card(found).split("---\n", 2)[2]
    assert "No measurable change: " in body.split("## Before and after")[0]
    found = values(head_initialised=["cls.bias"])
    assert "came without a trained masked-language-modelling head" in model_card.card(found).split("##")[0]
    found["change"]["held_out"]["distinct_tokens"] = 150
    assert "only 150 masked tokens: a hint, not a result" in model_card.card(found)
    assert data(found)["model-index"][0]["results"][0]["metrics"][0]["name"] == (
        "loss (nats), only a hint: 150 masked tokens"
    )


def test_a_non_finite_number_is_left_out():
    found = metrics()
    found["after"]["perplexity"] = float("inf")
    types = {metric["type"] for metric in data(found)["model-index"][0]["results"][0]["metrics"]}
    assert "perplexity" not in types
    assert "loss" in types
