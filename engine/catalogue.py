"""Every method that the engine has: what it is for, what it may claim, what it needs, and who described it.

Standard library only. The guarantee class stands here and nowhere else; reports copy it.
"""

from engine.contract import Guarantee, MethodSpec
from engine.errors import EngineError

EVERY_SCOPE = ("records", "work", "facts", "class", "domain")

METHODS: tuple[MethodSpec, ...] = (
    MethodSpec(
        name="retrain",
        tasks=("language",),
        scopes=EVERY_SCOPE,
        guarantee=Guarantee.EXACT,
        needs=("base", "retain"),
        source="Bourtoule et al. 2021, arXiv 1912.03817, section 3: the definition of unlearning",
        module="engine.methods.refit",
    ),
    MethodSpec(
        name="dp2",
        tasks=("language",),
        scopes=("records", "work"),
        guarantee=Guarantee.CERTIFIED,
        needs=("base", "retain"),
        source="Al Mahmud et al. 2025, arXiv 2504.13774, with the data subject as the unit",
        module="engine.methods.refit",
    ),
    MethodSpec(
        name="npo",
        tasks=("language",),
        scopes=("records", "work", "facts"),
        guarantee=Guarantee.EMPIRICAL,
        needs=("model", "forget", "retain"),
        source="Zhang et al. 2024, arXiv 2404.05868, equation 3",
        module="engine.methods.descent",
    ),
    MethodSpec(
        name="ga",
        tasks=("language",),
        scopes=("records", "work", "facts"),
        guarantee=Guarantee.EMPIRICAL,
        needs=("model", "forget", "retain"),
        source="Jang et al. 2023, arXiv 2210.01504; with a retain term Maini et al. 2024, arXiv 2401.06121",
        module="engine.methods.descent",
    ),
)


def method(name: str) -> MethodSpec:
    """The entry called `name`; `EngineError("bad_job")` if there is none."""
    for spec in METHODS:
        if spec.name == name:
            return spec
    raise EngineError(
        "bad_job", f"there is no method {name!r}; methods are: {', '.join(spec.name for spec in METHODS)}"
    )
