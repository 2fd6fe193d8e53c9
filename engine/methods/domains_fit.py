"""A small CLIP from nothing, and ordinary contrastive training on pictures with the captions of their classes.

The loss is CLIP's (Radford et al. 2021, arXiv 2103.00020) where several pictures of a step may share a caption: each
picture against the step's distinct captions, and each caption against the pictures, its target spread evenly over its
own (as in UniCL, Yang et al. 2022, arXiv 2204.03610). All captions of a step are of one kind, of classes or of
domains with classes, since "a photo of a seven" is no wrong caption of a sketched seven.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from engine.errors import EngineError
from engine.methods import Setting
from engine.options.domains import ClipFitOptions, ClipInitialiseOptions
from engine.tasks.vision_language import (
    Reader,
    class_names,
    clip_of,
    image_features,
    labelled,
    logits,
    prompts,
    reader_of,
    shuffled,
    styled,
    text_features,
)
from engine.training import Fitted, Schedule, fit, minimise

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 512  # at most; the 256 bytes are among them
HALF = 0.5  # mean and deviation of every channel: pictures from -1 to 1, fixed and fitted on nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Captioned:
    """A step's pictures (uint8), its distinct captions, and which of them each picture has (rows,)."""

    images: Tensor
    captions: tuple[str, ...]
    owners: Tensor


def build(options: ClipInitialiseOptions) -> tuple[CLIPModel, Reader]:
    """A CLIP with random weights, drawn from torch's global generator (seed it first); its words are those named."""
    if len(set(options.labels)) != len(options.labels) or len(options.labels) < 2:  # noqa: PLR2004 - a choice
        raise EngineError("bad_options", "options.labels must name at least two classes, each once")
    if options.size % options.patch or options.width % options.heads:
        raise EngineError("bad_options", "options.size must be a multiple of patch, and width of heads")
    tokenizer = build_tokenizer([*prompts(options.labels), *options.names], options.words)
    model = CLIPModel(_config(options, tokenizer))
    blank = (HALF,) * options.channels
    reader = Reader(
        channels=options.channels,
        height=options.size,
        width=options.size,
        mean=blank,
        deviation=blank,
        tokenizer=tokenizer,
    )
    return model, reader


def _config(options: ClipInitialiseOptions, tokenizer: PreTrainedTokenizerFast) -> CLIPConfig:
    tower = {
        "hidden_size": options.width,
        "intermediate_size": 4 * options.width,
        "num_attention_heads": options.heads,
        "projection_dim": options.width,
    }
    words = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": options.words,
        "num_hidden_layers": max(1, options.layers // 2),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    eyes = {
        "image_size": options.size,
        "patch_size": options.patch,
        "num_channels": options.channels,
        "num_hidden_layers": options.layers,
    }
    names = dict(enumerate(options.labels))
    return CLIPConfig(
        text_config={**tower, **words},
        vision_config={**tower, **eyes},
        projection_dim=options.width,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )


def build_tokenizer(texts: Sequence[str], words: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE fitted on names that were given as options, with CLIP's two marks around every caption."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, core.token_to_id(START)), (END, core.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=START, eos_token=END, pad_token=END, model_max_length=words
    )


def fit_options(options: ClipInitialiseOptions) -> ClipFitOptions:
    """The part of the options that is ordinary training."""
    return ClipFitOptions(
        epochs=options.epochs, batch=options.batch, learning_rate=options.learning_rate, domains=options.domains
    )


def refit(setting: Setting[ClipFitOptions]) -> Fitted:
    """Train on the retain records; the order is drawn anew in each epoch."""
    if not setting.retain:
        raise EngineError("bad_data", "there are no records to train on")
    model, reader = clip_of(setting.model), reader_of(setting.reader)
    return fit(
        model=model,
        batches=plan(setting),
        gradient=minimise(model, lambda step: loss(model, reader, step)),
        schedule=Schedule(learning_rate=setting.options.learning_rate),
        stage="train",
        progress=setting.progress,
    )


def retrain(setting: Setting[ClipFitOptions]) -> Fitted:
    """Train the start (`base`), which never saw the forget set, on the retain set."""
    return refit(setting)


def plan(setting: Setting[ClipFitOptions]) -> list[tuple[Captioned, ...]]:
    """Steps of `batch` pictures; every second one has captions with domains, where all records have one."""
    options, records = setting.options, setting.retain
    classes = class_names(clip_of(setting.model), records)
    known = labelled(records, reader_of(setting.reader), classes, ())
    plain = [prompts([record.label or ""])[0] for record in records]
    told = options.domains == "on" and all(record.domain is not None for record in records)
    full = [styled(record.domain or "", record.label or "") for record in records]
    steps: list[tuple[Captioned, ...]] = []
    for epoch in range(options.epochs):
        order = shuffled(len(records), setting.seed, "epoch", str(epoch))
        for start in range(0, len(order), options.batch):
            rows = order[start : start + options.batch]
            captions = full if told and len(steps) % 2 else plain
            steps.append((_captioned(known.images[rows], [captions[i] for i in rows]),))
    return steps


def _captioned(images: Tensor, captions: Sequence[str]) -> Captioned:
    distinct = sorted(set(captions))
    owners = torch.tensor([distinct.index(caption) for caption in captions])
    return Captioned(images=images, captions=tuple(distinct), owners=owners)


def loss(model: CLIPModel, reader: Reader, step: Captioned) -> Tensor:
    """The mean of both directions, in nats."""
    texts = text_features(model, reader, step.captions)
    scores = logits(model, image_features(model, reader, step.images), texts)
    owners = step.owners.to(scores.device)
    own = functional.one_hot(owners, len(step.captions)).to(scores)
    back = -(own / own.sum(0) * scores.log_softmax(0)).sum() / len(step.captions)
    return 0.5 * (functional.cross_entropy(scores, owners) + back)
