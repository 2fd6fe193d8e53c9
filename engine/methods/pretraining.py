"""A public starting point from nothing: a byte-level BPE tokenizer and a small Llama, both from public text alone.

The tokenizer is part of every model that is trained later, so it must never have seen a private record: what was
fitted on forgotten data outside the DP mechanism is outside every theorem.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.corpus import Record
from engine.options import FitOptions, InitialiseOptions
from engine.prompts import few_shot_prefix

START, END, PAD = "<|start|>", "<|end|>", "<|pad|>"


def build_tokenizer(records: Sequence[Record], *, vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE fitted on the records, questions in the published format. Padding is not the end token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator((_as_text(record) for record in records), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, options: InitialiseOptions) -> LlamaForCausalLM:
    """A small Llama with random weights, drawn from torch's global generator (seed it first)."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=options.context,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def fit_options(options: InitialiseOptions) -> FitOptions:
    """The part of the options that is ordinary training."""
    return FitOptions(
        epochs=options.epochs,
        tokens_per_batch=options.tokens_per_batch,
        learning_rate=options.learning_rate,
        matrix_learning_rate=options.matrix_learning_rate,
        answer_weight=options.answer_weight,
    )


def _as_text(record: Record) -> str:
    if record.text is not None:
        return record.text
    return few_shot_prefix([(record.question or "", record.answer or "")])
