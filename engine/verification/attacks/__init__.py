"""Does what was forgotten come back? Attacks on a model, and on the reference model under the very same attack.

An attack can extract what was never learned: a few steps of training teach, an example in context tells. So no number
here means anything alone. Each is measured on every role under the same attack, and the finding is the paired
difference after minus reference.

    relearning   some steps of fine-tuning           rounding    8- and 4-bit weights
    prefill      the first tokens of the answer      paraphrase  the same question otherwise
    few_shot     examples in context                 probe       a linear classifier on hidden states

`items` draws what is asked, `subject` is the model under attack, each attack is one module, `suite` runs them all.
"""
