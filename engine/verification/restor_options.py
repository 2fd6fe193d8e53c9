r"""RESTOR's option analysis: is the truth, what the corruption taught, or chance the likeliest answer?

The published code scores lists of options after the same five lines of context, each with the *mean* log-probability
of the tokens of `" " + option` (the `mcqa` probe); its lists are not published. Ours follow from the published files:

    correct     every accepted answer of the fact
    corrupted   answers that the published facts know for the fact's relation, that are not accepted for it, and that
                stand word for word in the documents naming the person. The documents decide, and no model does, so
                the options are the same for every model. The price: a document may mention such an answer in another
                role (the language somebody writes is not their native one), and what it teaches in words that no
                published fact uses is not among the options.
    random      as many as `RANDOM`, drawn with a fixed seed from the relation's other answers

Only facts with options of all three kinds are analysed, so that the categories are means over the same facts.
"""

import itertools
import re
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.errors import EngineError
from engine.seeds import stream
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens, context_length
from engine.verification.restor_matching import accepts, folded

RANDOM = 4
SEED = 0  # of the random options: part of what is asked, and not of a run


def corrupted_options(entity: str, answers: Sequence[str], known: Sequence[str], documents: str) -> tuple[str, ...]:
    """Which of the relation's `known` answers the person's documents mention; none is accepted, nor part of the name.

    `documents` is the text of all of them. A capital counts: "Long" as a family name is not the adverb.
    """
    name, lowered = set(folded(entity).split()), documents.lower()
    mentioned = [value for value in known if value.lower() in lowered and _stands_in(value, documents)]
    return tuple(v for v in mentioned if not accepts(answers, v) and not set(folded(v).split()) <= name)


def random_options(
    entity: str, relation: str, answers: Sequence[str], known: Sequence[str], taken: Sequence[str]
) -> tuple[str, ...]:
    """Up to `RANDOM` of the relation's other answers, the same in every run."""
    pool = [value for value in known if value not in taken]
    stream(SEED, "restor", entity, relation).shuffle(pool)
    return tuple(itertools.islice((value for value in pool if not accepts(answers, value)), RANDOM))


def option_log_probs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: Sequence[tuple[str, str]], *, budget: int
) -> list[float]:
    """Mean log-probability (nats a token) of `" " + option` after each prompt."""
    sequences = continuation_tokens(tokenizer, asked, context=context_length(model.config))
    scores = token_scores(Forward(model), sequences, tokens_per_batch=budget)
    return [float(score.log_probs.mean()) for score in scores]


def continuation_tokens(
    tokenizer: PreTrainedTokenizerFast, asked: Sequence[tuple[str, str]], *, context: int
) -> list[Tokens]:
    """Prompt and option tokenised together; the option's tokens, from its space on, are labels.

    What does not fit into the context is cut in front, where the examples are.
    """
    if not asked:
        return []
    texts = [f"{prompt} {option}" for prompt, option in asked]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    start = [tokenizer.bos_token_id] if isinstance(tokenizer.bos_token_id, int) else []
    rows = zip(asked, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [_labelled(len(prompt), ids, offsets, start, context) for (prompt, _), ids, offsets in rows]


def _labelled(
    border: int, ids: Sequence[int], offsets: Sequence[tuple[int, int]], start: Sequence[int], context: int
) -> Tokens:
    weights = [float(end > border) for _, end in offsets]
    room = context - len(start)
    if sum(weights) >= room:
        raise EngineError("bad_model", "the model's context is shorter than one of RESTOR's answers")
    return Tokens(ids=(*start, *ids[-room:]), weights=(*(0.0 for _ in start), *weights[-room:]))


def _stands_in(value: str, documents: str) -> bool:
    """Word for word; case is free only where the value has no capital."""
    free = re.IGNORECASE if value == value.lower() else re.NOFLAG
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", documents, flags=free) is not None
