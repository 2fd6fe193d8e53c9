"""What one model says about records, as the numbers that attacks start from: one pass, one number a record.

    log_probs   ln p of a picture's label; of a text the mean over its tokens, of a question over its answer's tokens
    margins     ln p - ln (1 - p): of a picture from logits, of text from the mean

A float32 softmax cannot tell a probability from 1 that is nearer than 2^-24; for text the margin is taken there.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.checkpoints import Reader
from engine.corpus import Record
from engine.errors import EngineError
from engine.tasks.image import classes_of, scores
from engine.tasks.pixels import Pixels, pictures
from engine.verification.items import Text
from engine.verification.membership import mean_log_prob
from engine.verification.passes import Pass, joined
from engine.verification.privacy.signals import log_odds

LOG_PROBS, MARGINS = "log_probs", "margins"
TOKENS_PER_BATCH, ROWS_PER_PASS = 4096, 512
NEAREST = -(2.0**-24)  # to the logarithm of 1


def ask(model: PreTrainedModel, reader: Reader, records: Sequence[Record]) -> Mapping[str, list[float]]:
    """`log_probs` and `margins` of the records, in their order."""
    if isinstance(reader, Pixels):
        said = scores(model, reader, pictures(records, reader, classes_of(model)), rows_per_pass=ROWS_PER_PASS)
        return {LOG_PROBS: said.log_probs.tolist(), MARGINS: said.logits.tolist()}
    means = np.array(_means(model, reader, records))
    return {LOG_PROBS: means.tolist(), MARGINS: log_odds(np.minimum(means, NEAREST)).tolist()}


def _means(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, records: Sequence[Record]) -> list[float]:
    planned = Pass(model, tokenizer)
    texts = [Text(unit=r.unit, text=r.text) for r in records if r.text is not None]
    pairs = [(r.question, r.answer) for r in records if r.question is not None and r.answer is not None]
    if len(texts) + len(pairs) != len(records):
        raise EngineError("bad_data", "a language model is asked about texts, and questions with answers")
    windows, answers = planned.texts(texts), planned.answers(pairs)
    found = planned.run(TOKENS_PER_BATCH)
    of_texts = iter([mean_log_prob(joined(found[part]).log_probs) for part in windows])
    of_pairs = iter([mean_log_prob(one.log_probs) for one in found[answers]])
    return [next(of_pairs) if record.text is None else next(of_texts) for record in records]
