"""A model object must predict each token, from both sides."""

from __future__ import annotations

import pytest
import torch
from conftest import make_bert
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from mlm_recipes.model.masked_lm_head import require_encoder, require_masked_lm_head

SIZE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 50}
GPT = GPT2Config(n_embd=8, n_layer=2, n_head=1, vocab_size=50)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BertModel(BertConfig(**SIZE)), "BertModel returns last_hidden_state, pooler_output, and no logits"),
        (lambda: BertForPreTraining(BertConfig(**SIZE)), "BertForPreTraining returns prediction_logits"),
        (lambda: BertForQuestionAnswering(BertConfig(**SIZE)), "BertForQuestionAnswering returns start_logits"),
        (lambda: BertForSequenceClassification(BertConfig(**SIZE)), r"logits of the shape \(3, 2\)"),
        (
            lambda: BertForTokenClassification(BertConfig(**SIZE)),
            r"logits of the shape \(3, 5, 2\) for \(3, 5\) tokens",
        ),
        (lambda: BertForMaskedLM(BertConfig(**SIZE, is_decoder=True)), "the tokens before it only"),
        (lambda: BertLMHeadModel(BertConfig(**SIZE, is_decoder=True)), "the tokens before it only, as a decoder"),
        (lambda: GPT2LMHeadModel(GPT), "GPT2LMHeadModel predicts a token from the tokens before it only"),
        (
            lambda: T5ForConditionalGeneration(T5Config(d_model=8, d_ff=8, d_kv=8, num_heads=1, num_layers=1)),
            "cannot be called with rows of token ids",
        ),
    ],
)
def test_a_model_without_the_head_is_refused(make, says):
    model = make()
    with pytest.raises(ValueError, match=says) as found:
        require_masked_lm_head(model)
    assert "Accepted: a model with a masked-language-modelling head" in str(found.value)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("module", [torch.nn.Linear(2, 2), ["mini"], 5])
def test_what_is_no_model_of_transformers_is_refused(module):
    with pytest.raises(ValueError, match="which is not a model of transformers"):
        require_encoder(module)


class Wrapped(torch.nn.Module):
    """As peft and torch.compile wrap a model: everything else is passed on."""

    def __init__(self, model):
        super().__init__()
        self.inside = model

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inside"), name)

    def forward(self, **inputs):
        return self.inside(**inputs)


def test_a_model_with_the_head_is_taken_also_in_a_wrapper(tokenizer):
    for model in (make_bert(tokenizer), Wrapped(make_bert(tokenizer)), BertLMHeadModel(BertConfig(**SIZE))):
        model.train()
        require_encoder(model)
        require_masked_lm_head(model)
        assert model.training


def test_an_answer_that_cannot_be_had_refuses_nothing(tokenizer):
    class Spread(Wrapped):  # over processes, which DeepSpeed joins only while it trains
        def forward(self, **inputs):
            raise RuntimeError("weight is of the shape (0,)")

    require_masked_lm_head(Spread(make_bert(tokenizer)))
