"""`add_tokens` and `train_new_tokens_first`: rows that are means, and a phase in which nothing else moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_bert, make_model

from mlm_recipes import MLMConfig, MLMTrainer, load_tokenizer
from mlm_recipes.data.added_words import add_words, ids_alone
from mlm_recipes.model.embeddings import embedding_rows
from mlm_recipes.model.fit import require_fit
from mlm_recipes.model.token_rows import add_token_rows, token_rows
from mlm_recipes.training.optimization.new_tokens import announcement, extend

WORDS = ["hegemonikon", "oikeiosis"]
TEXTS = ["the hegemonikon of the soul and oikeiosis is a hegemonikon", "to be or not to be the oikeiosis"] * 4


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert", "mpnet"])
def test_a_new_words_logit_is_the_mean_of_its_pieces(architecture, tokenizer):
    model = make_model(architecture, tokenizer).eval()
    for weight in token_rows(model):
        torch.nn.init.normal_(weight)
    inputs = {"input_ids": torch.tensor([[101, 500, 501, 102]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    before = model(**inputs).logits.detach()
    added = extend(model, tokenizer, WORDS)
    require_fit(model, added.tokenizer)
    assert embedding_rows(model) == len(added.tokenizer) == len(tokenizer) + 2 == model.config.vocab_size
    after = model(**inputs).logits
    torch.testing.assert_close(after[..., : len(tokenizer)], before)
    for index, pieces in added.pieces.items():
        torch.testing.assert_close(after[..., index], before[..., pieces].mean(dim=-1))
    assert extend(model, added.tokenizer, WORDS).pieces == {}


def trainer(tokenizer, folder="run", **values):
    args = MLMConfig(
        output_dir=folder, add_tokens=WORDS, max_steps=5, per_device_train_batch_size=2, use_cpu=True, save_steps=1,
        learning_rate=1e-2, weight_decay=0.5, mlm_probability=0.5, disable_tqdm=True, decay_bias_and_norm=True,
        **values,
    )  # fmt: skip
    return MLMTrainer(make_model("bert", tokenizer), args, train_dataset=TEXTS, processing_class=tokenizer)


def snapshot(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    "values",
    [{}]
    + [
        pytest.param(values, marks=pytest.mark.slow)
        for values in ({"muon": True}, {"gradient_accumulation_steps": 2}, {"max_grad_norm": 0.0})
    ],
)
def test_nothing_but_the_new_rows_moves_until_the_phase_ends(values, tokenizer):
    run = trainer(tokenizer, train_new_tokens_first=3, **values)
    start = snapshot(run.model)
    run.train()
    rows = {id(weight) for weight in token_rows(run.model)}
    first = len(tokenizer)
    for step in (1, 2, 3):
        saved = torch.load(f"run/checkpoint-{step}/optimizer.pt", weights_only=True)["state"]
        assert len(saved) <= len(rows), "the optimizer keeps a state of weights that do not move"
        found = type(run.model).from_pretrained(f"run/checkpoint-{step}")
        for name, weight in found.named_parameters():
            kept = start[name]
            if weight.shape[0] == len(tokenizer) + 2:
                assert not torch.equal(weight[first:], kept[first:])
                weight, kept = weight[:first], kept[:first]
            assert torch.equal(weight, kept), f"{name} moved in step {step}"
    begun = torch.load("run/checkpoint-4/optimizer.pt", weights_only=True)["state"].values()
    assert {float(state["step"]) for state in begun if "step" in state} == {1.0}, (
        "old rows would begin with a warm state"
    )
    moved = [name for name, weight in run.model.named_parameters() if not torch.equal(weight, start[name])]
    assert len(moved) == len(start)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_resumed_run_is_the_same(step, tokenizer):
    whole = trainer(tokenizer, train_new_tokens_first=3)
    whole.train()
    again = trainer(tokenizer, train_new_tokens_first=3)
    again.train(resume_from_checkpoint=f"run/checkpoint-{step}")
    for name, weight in snapshot(again.model).items():
        assert torch.equal(weight, snapshot(whole.model)[name]), name


def test_a_resumed_run_has_the_same_words_and_phase(tokenizer):
    trainer(tokenizer, train_new_tokens_first=3).train()
    with pytest.raises(ValueError, match="train_new_tokens_first was 3 and is now 2"):
        trainer(tokenizer, train_new_tokens_first=2).train(resume_from_checkpoint="run/checkpoint-1")
    other = trainer(tokenizer, train_new_tokens_first=3)
    other.processing_class.add_tokens(["zzword"])
    with pytest.raises(ValueError, match="vocabulary was"):
        other.check_resume(Path("run/checkpoint-1"))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"train_new_tokens_first": 2}, "train_new_tokens_first: received 2 without add_tokens"),
        ({"train_new_tokens_first": 0, "add_tokens": ["logoi"]}, "train_new_tokens_first: received 0"),
        ({"add_tokens": ["two words"]}, "without spaces"),
        (
            {"train_new_tokens_first": 2, "add_tokens": ["logoi"], "freeze": "embeddings"},
            "train_new_tokens_first: received 2 with freeze 'embeddings', which freezes these rows",
        ),
        (
            {"train_new_tokens_first": 2, "add_tokens": ["logoi"], "head_warmup_steps": 3},
            "train_new_tokens_first: received 2 with head_warmup_steps 3.0, which freezes these rows in the first",
        ),
    ],
)
def test_what_cannot_be_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**values)


def test_a_model_of_model_init_would_lack_the_rows(tokenizer):
    args = MLMConfig(add_tokens=WORDS, use_cpu=True)
    with pytest.raises(ValueError, match="add_tokens: received words together with model_init"):
        MLMTrainer(args=args, model_init=lambda: make_model("bert", tokenizer), processing_class=tokenizer)


def test_unused_rows_of_a_larger_model_are_taken(tokenizer):
    model = make_model("bert", tokenizer)
    model.resize_token_embeddings(len(tokenizer) + 10, mean_resizing=False)
    add_token_rows(model, {len(tokenizer): [200, 201]})
    assert embedding_rows(model) == len(tokenizer) + 10
    weight = model.get_input_embeddings().weight
    torch.testing.assert_close(weight[len(tokenizer)], (weight[200] + weight[201]) / 2)


def test_a_word_of_unknown_characters_starts_as_the_mean_of_all_rows(tokenizer):
    model = make_model("bert", tokenizer)
    added = extend(model, tokenizer, ["\u4eba"])
    assert added.pieces == {1000: [100]}
    weight = model.get_input_embeddings().weight
    torch.testing.assert_close(weight[1000], weight[:1000].mean(dim=0))


def test_rows_that_a_run_has_trained_stay_though_the_tokenizer_is_the_base_ones(tokenizer, caplog):
    """Also if the words come in another order; a word that the run did not have starts as the mean of its pieces."""
    first = trainer(tokenizer, train_new_tokens_first=3)
    first.train()
    first.save_model("run")
    tokenizer.save_pretrained("base")
    start = extend(make_model("bert", tokenizer), tokenizer, WORDS)
    begun = MLMConfig(add_tokens=[*WORDS[::-1], "eudaimonia"], tokenizer="base", use_cpu=True)
    run = MLMTrainer("run", begun, train_dataset=TEXTS)
    words = [*WORDS, "eudaimonia"]
    ids = run.processing_class.convert_tokens_to_ids(words)
    assert ids == [1001, 1000, 1002]
    assert [*start.pieces] == [1000, 1001]
    own = load_tokenizer("base")
    for mine, theirs in zip(token_rows(run.model), token_rows(first.model), strict=True):
        assert torch.equal(mine[ids[:2]], theirs[[1000, 1001]])
        torch.testing.assert_close(mine[1002], theirs[ids_alone(own, ["eudaimonia"])[0]].mean(dim=0))
        assert torch.equal(mine[:1000], theirs[:1000])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (WORDS[:1], "1 word is a new token; its rows stay as they are, since the model's own tokenizer has it."),
        (WORDS, "2 words are new tokens; their rows stay as they are, since the model's own tokenizer has them."),
        (
            [*WORDS, "eudaimonia"],
            "3 words are new tokens; the rows of 2 of them stay as they are, since the model's own tokenizer has them. "
            "Other new rows start as the mean of their pieces' rows.",
        ),
    ],
)
def test_what_is_said_of_rows_that_stay(words, said, tokenizer):
    own = add_words(tokenizer, WORDS).tokenizer
    kept = extend(make_bert(tokenizer, vocab_size=len(own)), tokenizer, words, own=own)
    assert len(kept.kept) == len({*words} & {*WORDS})
    assert announcement(kept) == said


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (2, "Only the rows of 2 new tokens are trained in the first 2 steps."),
        (5, "received 5, and the run has 5 steps. Only the rows of 2 new tokens are trained in all of them."),
    ],
)
def test_a_run_says_when_only_the_new_rows_are_trained(steps, says, tokenizer, caplog):
    with caplog.at_level("INFO", "mlm_recipes"):
        trainer(tokenizer, train_new_tokens_first=steps).train()
    assert says in caplog.text


@pytest.mark.parametrize(("freeze", "says"), [("none", False), ("body", True), ("lower-1", True)])
def test_new_rows_that_are_frozen_are_named(freeze, says, tokenizer):
    added = extend(make_model("bert", tokenizer), tokenizer, WORDS)
    assert (f"rows stay so, since freeze {freeze!r} freezes them" in announcement(added, freeze)) is says


@pytest.mark.parametrize(
    "later", [{"train_new_tokens_first": 1}, {"add_tokens": ["zzword"]}, {"extend_positions": 4096}]
)
def test_what_is_set_later_and_would_change_nothing_is_refused(later, tokenizer):
    run = trainer(tokenizer)
    for name, value in later.items():
        setattr(run.args, name, value)
        with pytest.raises(ValueError, match=rf"^{name}: received .* in trainer\.args"):
            run.train()


def test_an_object_keeps_its_trained_rows_with_the_tokenizer_of_before(tokenizer):
    model = make_model("bert", tokenizer)
    args = MLMConfig(output_dir="run", add_tokens=WORDS, max_steps=1, use_cpu=True, save_strategy="no")
    MLMTrainer(model, args, train_dataset=TEXTS, processing_class=tokenizer).train()
    trained = snapshot(model)
    MLMTrainer(model, args, train_dataset=TEXTS, processing_class=tokenizer)
    for name, weight in snapshot(model).items():
        assert torch.equal(weight, trained[name]), name
    with pytest.raises(ValueError, match=r"whose row \d+ is that of 'hegemonikon', .* would get 'apatheia' there"):
        extend(model, tokenizer, ["apatheia"])
    third = extend(model, extend(model, tokenizer, WORDS).tokenizer, ["apatheia"])
    assert len(third.pieces) == 1


def test_words_that_were_tokens_are_not_trained_first(tokenizer):
    args = MLMConfig(
        output_dir="run", add_tokens=["man", *WORDS], train_new_tokens_first=2, max_steps=2, learning_rate=1e-2,
        use_cpu=True, save_strategy="no", per_device_train_batch_size=2, disable_tqdm=True, mlm_probability=0.5,
    )  # fmt: skip
    assert len(tokenizer.tokenize("man")) == 1
    run = MLMTrainer(make_model("bert", tokenizer), args, train_dataset=TEXTS, processing_class=tokenizer)
    start = snapshot(run.model)
    run.train()
    rows = {name: weight for name, weight in run.model.named_parameters() if weight.shape[0] == len(tokenizer) + 2}
    assert rows
    for name, weight in rows.items():
        moved = (weight != start[name]).reshape(len(weight), -1).any(1).nonzero().flatten().tolist()
        assert moved == [len(tokenizer), len(tokenizer) + 1], name


def test_without_a_new_word_there_is_nothing_to_train_first(tokenizer):
    args = MLMConfig(add_tokens=["man"], train_new_tokens_first=2, use_cpu=True)
    with pytest.raises(ValueError, match="train_new_tokens_first: received 2, and no word of add_tokens is new"):
        MLMTrainer(make_model("bert", tokenizer), args, train_dataset=TEXTS, processing_class=tokenizer)
    said = announcement(extend(make_model("bert", tokenizer), tokenizer, ["man"]), "embeddings")
    assert said == "No word is a new token: the vocabulary has all words of add_tokens (man)."
