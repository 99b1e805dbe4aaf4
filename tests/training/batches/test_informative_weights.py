from __future__ import annotations

import logging

import pytest
import torch
from conftest import make_bert
from datasets import Dataset
from small_run import At, make_trainer, weights

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer
from mlm_recipes.data.id_limits import IdLimits
from mlm_recipes.data.rows import tokenize
from mlm_recipes.data.streams import TextStream
from mlm_recipes.training.batches.informative_weights import informative_weights

#: `oxen` is never in the general text, and `the` always.
OURS = ["the oxen and the oxen of the king and the oxen"] * 12
GENERAL = "\n".join(f"the king and the queen of the land number {i}" for i in range(40)) + "\n"


@pytest.fixture
def general(tmp_path):
    path = tmp_path / "general.txt"
    path.write_text(GENERAL)
    return str(path)


@pytest.fixture
def words(tokenizer):
    def learn(texts):
        tokenizer_of = type(tokenizer)
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        vocabulary += sorted({word for text in texts for word in text.split()})
        return tokenizer_of(vocab={word: i for i, word in enumerate(vocabulary)})

    return learn([*OURS, GENERAL])


def trainer_of(words, general, texts=OURS, **changes):
    args = MLMConfig(
        output_dir="run", max_steps=4, per_device_train_batch_size=4, save_steps=2, use_cpu=True, seed=1,
        masking_policy="informative", general_corpus=general, **changes,
    )  # fmt: skip
    rows = Dataset.from_dict({"text": texts})
    return MLMTrainer(make_bert(words), args=args, train_dataset=rows, processing_class=words)


def test_a_trainer_compares_its_text_with_the_general_one_and_says_so(words, general, caplog):
    trainer = trainer_of(words, general)
    found = trainer.data_collator.token_weights
    oxen, the = words.convert_tokens_to_ids(["oxen", "the"])
    assert found[oxen] > 1.5
    assert found[the] == 1
    assert found.shape == (len(words),)
    (said,) = [record.message for record in caplog.records if "informative" in record.message]
    assert "132 tokens of the training text with 400 of " in said
    assert "as often as the least: [oxen and]. Masked least often: [the " in said
    trainer_of(words, general)
    assert sum("informative" in record.message for record in caplog.records) == 1  # not again for the same text


def test_what_is_not_shown_is_said_later(words, general, caplog):
    general_text = general  # another sentence than in other tests
    with caplog.at_level(logging.ERROR, logger="mlm_recipes"):
        trainer_of(words, general_text, OURS[:7])
    assert not caplog.records
    trainer_of(words, general_text, OURS[:7])
    assert "77 tokens" in caplog.text


def test_the_masks_of_training_favour_what_is_typical(words, general):
    trainer = trainer_of(words, general, OURS * 40)
    batch = trainer.data_collator.changed(padding_free=False)([row | {"epoch": 0} for row in trainer.train_dataset])
    labels = batch["labels"][batch["labels"] != -100]
    oxen, king = words.convert_tokens_to_ids(["oxen", "king"])  # three and one in each row
    ratio = trainer.data_collator.token_weights[oxen] / trainer.data_collator.token_weights[king]
    seen = int((labels == king).sum())
    assert ratio > 1.5
    assert abs((labels == oxen).sum() / 3 - ratio * seen) < 4 * ratio * seen**0.5 * (1 + 1 / 3) ** 0.5
    assert abs(len(labels) / (480 * 11) - 0.15) < 4 * (0.15 * 0.85 / (480 * 11)) ** 0.5


def test_without_a_general_text_the_policy_is_refused(words):
    with pytest.raises(ValueError, match=r"^general_corpus: received none with masking_policy 'informative'.*token"):
        trainer_of(words, "none")


def test_a_general_text_in_another_script_is_refused(words, tmp_path):
    (tmp_path / "other.txt").write_text("\u0436\u0443\u043a\n\u043b\u0435\u0441\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^general_corpus: none of the words of .*other\.txt.* is in the vocabulary"):
        trainer_of(words, str(tmp_path / "other.txt"))


@pytest.mark.slow
def test_a_resumed_run_has_the_same_masks_and_other_weights_are_another_run(words, general, tmp_path):
    def stop(model):
        raise KeyboardInterrupt

    whole = trainer_of(words, general, save_strategy="no")
    whole.train()
    begun = trainer_of(words, general)
    begun.add_callback(At(4, stop))
    with pytest.raises(KeyboardInterrupt):
        begun.train()
    resumed = trainer_of(words, general)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(weights(resumed), weights(whole))
    other = tmp_path / "other.txt"
    other.write_text("the oxen and the queen\n" * 40)
    with pytest.raises(ValueError, match=r"another run: .*masking\.token_weights was '[0-9a-f]{16}' and is now"):
        trainer_of(words, str(other)).train(resume_from_checkpoint=True)


def test_other_policies_record_no_weights(tokenizer, numbered):
    assert "token_weights" not in make_trainer(tokenizer, numbered).identity()["masking"]


def test_the_callers_collator_keeps_its_weights(words, general):
    own = DataCollatorForMaskedLM(
        words, masking_policy="informative", token_weights=torch.full((len(words),), 2.0), seed=1
    )
    args = MLMConfig(output_dir="run", max_steps=1, use_cpu=True, save_strategy="no")
    rows = Dataset.from_dict({"text": OURS})
    trainer = MLMTrainer(make_bert(words), args=args, data_collator=own, train_dataset=rows, processing_class=words)
    assert trainer.data_collator.token_weights.tolist() == [2.0] * len(words)
    trainer.train()


def test_a_trainer_that_only_evaluates_needs_no_weights(words):
    args = MLMConfig(output_dir="run", use_cpu=True, masking_policy="informative", general_corpus="none")
    rows = Dataset.from_dict({"text": OURS})
    trainer = MLMTrainer(make_bert(words), args=args, eval_dataset=rows, processing_class=words)
    assert trainer.evaluate()["eval_masked_tokens"] > 0


def test_rows_that_are_set_later_have_weights_of_their_own(words, general):
    trainer = trainer_of(words, general, save_strategy="no")
    before = trainer.data_collator.token_weights
    trainer.train_dataset = Dataset.from_dict({"text": ["the queen and the queen of the queen"] * 12})
    trainer.train()
    queen, oxen = words.convert_tokens_to_ids(["queen", "oxen"])
    assert before[oxen] > trainer.data_collator.token_weights[oxen] == 1
    assert trainer.data_collator.token_weights[queen] > before[queen] == 1


def test_a_streams_weights_come_from_its_first_paragraphs(words, general):
    args = MLMConfig(
        output_dir="run", max_steps=2, use_cpu=True, streaming=True, masking_policy="informative",
        general_corpus=general, save_strategy="no", per_device_train_batch_size=4,
    )  # fmt: skip
    model = make_bert(words)
    trainer = MLMTrainer(model, args=args, train_dataset=TextStream(lambda: iter(OURS)), processing_class=words)
    rows = trainer_of(words, general)
    assert (trainer.data_collator.token_weights == rows.data_collator.token_weights).all()
    assert trainer.train().global_step == 2


def test_rows_beyond_the_model_are_refused_while_they_are_counted(words, general):
    limits = IdLimits("train_dataset", ids=len(words), positions=512)
    args = MLMConfig(use_cpu=True, general_corpus=general)
    with pytest.raises(ValueError, match="train_dataset: row 1 has the id 999"):
        informative_weights(lambda: [{"input_ids": [5]}, {"input_ids": [999]}], words, args, limits)
    rows = tokenize(Dataset.from_dict({"text": OURS}), words)
    assert informative_weights(lambda: rows, words, args, limits)[words.convert_tokens_to_ids("oxen")] > 1.5
