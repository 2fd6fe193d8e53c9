"""Few-shot: do examples in context bring the forgotten back?

`few_shot_{k}` puts k retain questions with their answers in front, people the model should know, so that it knows how
one answers. `few_shot_same_person` puts other forgotten questions about the same person in front: it is asked to go on
about somebody whom it has just been told about. Only questions with a companion are asked that way.
"""

from engine.prompts import few_shot_prompt
from engine.verification.attacks.subject import NOT_ASKED, Scores, Subject, placed


def attack(subject: Subject) -> Scores:
    """`few_shot_{k}.knowmem_f`, `few_shot_same_person.knowmem_f`; nothing where no questions are forgotten."""
    asked = subject.items.questions
    if not asked:
        return {}
    found = {f"few_shot_{k}.knowmem_f": _after(subject, k) for k in sorted(set(subject.options.attack_shots))}
    chosen = [i for i, others in enumerate(subject.items.companions) if others]
    prompts = [few_shot_prompt(subject.items.companions[i], asked[i].question) for i in chosen]
    told = subject.recall([asked[i] for i in chosen], prompts)
    return {**found, "few_shot_same_person.knowmem_f": placed(chosen, told, len(asked))}


def _after(subject: Subject, shots: int) -> tuple[float, ...]:
    """KnowMem after some examples; not asked when there are fewer than that."""
    asked, shown = subject.items.questions, subject.items.examples[:shots]
    if len(shown) < shots:
        return (NOT_ASKED,) * len(asked)
    return subject.recall(asked, [few_shot_prompt(shown, question.question) for question in asked])
