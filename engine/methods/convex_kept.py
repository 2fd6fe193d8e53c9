"""`descent-to-delete` (Neel et al. 2021) and `rewind` (Mu and Klabjan 2025) of linear classifiers on fixed features.

    descent-to-delete    I full gradient steps for each record that left, from un-noised heads       section 10
    rewind               the last full gradient steps of the training again, from its checkpoint     section 12

Both publish with noise, once, under the key of the job. The heads or the checkpoint without it are the state, and
secret. Neither reads the forget set: who left is who is in the state and does not stay (docs/guarantees.md).
"""

import numpy as np

from engine.errors import EngineError
from engine.guarantees.convex import kept
from engine.heads import rewound
from engine.heads.stacked import Stack
from engine.heads.steps import onward
from engine.heads.weights import Internal
from engine.methods import Setting
from engine.methods.convex_begun import Begun, begin, keep_heads, noised_once, told_of
from engine.options import DescentToDeleteOptions, RewindOptions
from engine.training import Fitted

DESCENT, REWIND = "descent-to-delete", "rewind"
TOO_FEW = "fewer than half of the records stay, and the noise is made for that many"
TOO_FAR = "the state may lie farther from the minimum than the noise is made for"
TOO_MANY = "more of the records have left than the noise is made for"
_ROUNDING = 1 + 1e-12


def descent_to_delete(setting: Setting[DescentToDeleteOptions]) -> Fitted:
    """I steps for each record that left, from the un-noised heads; anew where too few stay."""
    problem, begun = begin(setting, DESCENT, "penalty", "head_steps", "classes", "features")
    told, stay = kept(setting.options), len(problem.x)
    if begun.found is not None:
        begun = _bounded(setting, begun, stay)
    if begun.found is not None:
        state, gone = begun.found.state, len(begun.found.gone)
        start, steps = state.numbers["heads"], gone * told.steps
        about = {"error": told.after(state.about["error"], gone=gone, stay=stay), "learned": state.about["learned"]}
    else:
        start, steps = np.zeros(problem.shape), told.learning_steps()
        about = {"error": told.reach * told.contraction**steps, "learned": stay}
    ended = onward(problem, Internal(start), told, steps=steps)
    made = noised_once(setting, ended, begun)
    keep_heads(setting, DESCENT, begun, made, {"heads": ended.unnoised}, about)
    return told_of(setting, problem, made, begun, steps=steps)


def rewind(setting: Setting[RewindOptions]) -> Fitted:
    """The last steps of the training again, without whoever has left since; all of them where too many have."""
    options = setting.options
    _refuse_steps(options)
    problem, begun = begin(setting, REWIND, "penalty", "head_steps", "rewound", "rate", "classes", "features")
    learned = stay = len(problem.x)
    if begun.found is not None:
        learned = begun.found.state.about["learned"]
        begun = begun if learned - stay <= options.share * learned else begun.anew(setting, TOO_MANY)
    if begun.found is not None:
        checkpoint, steps = Internal(begun.found.state.numbers["checkpoint"]), options.rewound
    else:
        learned, steps, start = stay, options.head_steps, Internal(np.zeros(problem.shape))
        checkpoint = rewound.stepped(problem, start, rate=options.rate, steps=steps - options.rewound)
    ended = rewound.stepped(problem, checkpoint, rate=options.rate, steps=options.rewound)
    _refuse_estimates(setting, problem, checkpoint, ended)
    made = noised_once(setting, ended, begun)
    keep_heads(setting, REWIND, begun, made, {"checkpoint": checkpoint.unnoised}, {"learned": learned})
    return told_of(setting, problem, made, begun, steps=steps)


def _bounded(setting: Setting[DescentToDeleteOptions], begun: Begun, stay: int) -> Begun:
    """The same if the theorem still speaks of the state: half of its points stay, and it lies close enough."""
    told, found = kept(setting.options), begun.found
    if found is None or 2 * stay < max(told.points, found.state.about["learned"]):
        return begun.anew(setting, TOO_FEW)
    error = told.after(found.state.about["error"], gone=len(found.gone), stay=stay)
    return begun if error <= told.allowed * _ROUNDING else begun.anew(setting, TOO_FAR)


def _refuse_steps(options: RewindOptions) -> None:
    if options.rewound >= options.head_steps:
        raise EngineError("bad_options", "the theorem needs a step before the checkpoint: rewind fewer than all steps")
    largest = min(1.0, 1 / (2 * (1 - options.share))) / options.smoothness
    if not options.rate <= largest:
        raise EngineError("bad_options", f"the theorem needs a rate of at most {largest:.3g} at this smoothness")


def _refuse_estimates(setting: Setting[RewindOptions], problem: Stack, checkpoint: Internal, ended: Internal) -> None:
    """L and G as they are seen may not exceed those that the noise was computed for."""
    options = setting.options
    smoothness, slope = rewound.estimated(problem, checkpoint, ended, seed=setting.seed, samples=options.samples)
    if not (smoothness <= options.smoothness and slope <= options.slope):
        message = (
            f"the noise was computed for a smoothness of {options.smoothness:.3g} and gradients of at most "
            f"{options.slope:.3g}, and larger ones were seen on these records; give larger ones"
        )
        raise EngineError("bad_options", message)
