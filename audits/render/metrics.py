"""What the metrics of a report are called for people, and how each is read."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric's name for people, how to read it, and its scale when that is known."""

    label: str
    reading: str
    scale: tuple[float, float] | None = None


_FRACTION = (0.0, 1.0)
METRICS: Mapping[str, Metric] = {
    "verbmem_f": Metric(
        label="Word-for-word recall of the removed records",
        reading="How much of a removed record the model completes word for word (ROUGE-L, 0 to 1).",
        scale=_FRACTION,
    ),
    "knowmem_f": Metric(
        label="Knowledge of the removed records",
        reading="How well the model answers questions about the removed records (ROUGE-L, 0 to 1).",
        scale=_FRACTION,
    ),
    "knowmem_r": Metric(
        label="Knowledge of the retained records",
        reading="How well the model still answers questions about what was to stay (ROUGE-L, 0 to 1).",
        scale=_FRACTION,
    ),
    "privleak_auc": Metric(
        label="Membership attack on the removed records",
        reading="How well an attack tells removed records from records never seen (AUC; 0.5 is guessing, 1 certainty).",
        scale=_FRACTION,
    ),
    "auc_loss": Metric(
        label="Membership attack by loss",
        reading="By the loss on a record alone (AUC; 0.5 is guessing, 1 certainty).",
        scale=_FRACTION,
    ),
    "auc_zlib": Metric(
        label="Membership attack by loss and compressibility",
        reading="By the loss on a record against how well zlib compresses it (AUC; 0.5 is guessing, 1 certainty).",
        scale=_FRACTION,
    ),
    "auc_min_k_plus_plus": Metric(
        label="Membership attack Min-K%++",
        reading="By the least expected words of a record, normalised (AUC; 0.5 is guessing, 1 certainty).",
        scale=_FRACTION,
    ),
    "privleak": Metric(
        label="PrivLeak, as published with MUSE",
        reading="The attack's AUC relative to the reference model's, in per cent; 0 is no difference.",
    ),
    "forget_loss": Metric(
        label="Surprise at the removed records",
        reading="The model's mean loss on the removed records, in nats; low means well known.",
    ),
    "ua": Metric(
        label="Removed pictures read wrongly",
        reading="The share of the removed pictures that the model puts into a wrong class (0 to 1).",
        scale=_FRACTION,
    ),
    "ra": Metric(
        label="Retained pictures read rightly",
        reading="The share of the pictures that stay which the model puts into the right class (0 to 1).",
        scale=_FRACTION,
    ),
    "ta": Metric(
        label="Unseen pictures read rightly",
        reading="The share of pictures never trained on which the model puts into the right class (0 to 1).",
        scale=_FRACTION,
    ),
    "mia_auc": Metric(
        label="Membership attack on the removed pictures",
        reading="How well the loss tells removed pictures from ones never seen (AUC; 0.5 is guessing, 1 certainty).",
        scale=_FRACTION,
    ),
    "mia_efficacy": Metric(
        label="Removed pictures that an attack takes for unseen",
        reading="The share of the removed pictures that a fitted attack takes for never trained on (0 to 1).",
        scale=_FRACTION,
    ),
    "ta_forgotten": Metric(
        label="Unseen pictures of the forgotten classes read rightly",
        reading="The share of pictures never trained on, of classes that were forgotten whole, that are read rightly.",
        scale=_FRACTION,
    ),
    "mia_correctness": Metric(
        label="Taken for unseen, by right and wrong",
        reading="The share of the removed pictures that an attack takes for unseen, by whether they are read rightly.",
        scale=_FRACTION,
    ),
    "mia_entropy": Metric(
        label="Taken for unseen, by entropy",
        reading="The share that an attack takes for unseen, by how undecided the model is.",
        scale=_FRACTION,
    ),
    "mia_m_entropy": Metric(
        label="Taken for unseen, by modified entropy",
        reading="The share that an attack takes for unseen, by how sure the model is of the right class and no other.",
        scale=_FRACTION,
    ),
    "mia_prob": Metric(
        label="Taken for unseen, by all probabilities",
        reading="The share that an attack takes for unseen, by the probabilities of all classes together.",
        scale=_FRACTION,
    ),
    "gap": Metric(
        label="Average gap to the reference",
        reading=(
            "The mean distance to the reference over removed, retained and unseen pictures and the fitted attack. "
            "Its interval lies above 0 even where two models differ by chance alone."
        ),
        scale=_FRACTION,
    ),
    "mem": Metric(
        label="Accuracy in the domains that stay",
        reading="The share of unseen pictures of domains that stay which are read rightly (0 to 1).",
        scale=_FRACTION,
    ),
    "for": Metric(
        label="Error in the domains to be forgotten",
        reading="The share of unseen pictures of domains to be forgotten which are read wrongly (0 to 1).",
        scale=_FRACTION,
    ),
    "h": Metric(
        label="Both together",
        reading="The harmonic mean of accuracy in the domains that stay and error in the others (0 to 1).",
        scale=_FRACTION,
    ),
    "domain_probe": Metric(
        label="Domains told apart by a probe",
        reading="How often a linear probe tells an unseen picture's domain by the model's features (0 to 1).",
        scale=_FRACTION,
    ),
    "recovery": Metric(
        label="Way back to a model that never saw the data",
        reading="0: nothing was restored; 1: as far as the model that never saw the records.",
    ),
    "accuracy_f": Metric(
        label="Correct answers about the removed records",
        reading="The share of questions about the removed records that the model answers correctly (0 to 1).",
        scale=_FRACTION,
    ),
}
