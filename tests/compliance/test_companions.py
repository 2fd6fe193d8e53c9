"""What lies beside a published report: all of it of this report, and read by tools that are not ours."""

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from model_signing import verifying
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext
from pypdf import PdfReader

from audits import companion, dsse, log, oms, statement, verify
from compliance import timestamps
from compliance.certification.companions import companions
from compliance.errors import UnavailableError
from compliance.execution.run import run
from compliance.keyring import rotation
from compliance.wiring import Services, system_clock
from tests.compliance.pretence import engines, furnish, kinds, planned
from tests.compliance.test_stamps import authority, reply, served

__all__ = ["authority"]  # a fixture
pytestmark = pytest.mark.timeout(120)
AMPLE = 60.0
ROOT = Path(__file__).resolve().parents[2]


def stamped(desk: Services, url: str, chain: Path) -> Services:
    """The desk with a timestamping authority in its settings, and with the authority's clock: the machine's."""
    settings = desk.settings.model_copy(update={"tsa_url": url, "tsa_certificate": chain})
    return dataclasses.replace(desk, settings=settings, clock=system_clock)


def published(desk: Services, people: int = 4) -> Path:
    """The bundle of a batch that was just published."""
    furnish(desk, people, limit=AMPLE)
    assert run(desk, planned(desk, 0), engines=engines())
    (bundle,) = (desk.settings.workdir / "bundles").iterdir()
    return bundle


def test_a_bundle_has_its_companions(services: Services, authority: Path, tmp_path: Path) -> None:
    """Model Signing's tool, PyHanko, RFC 3161's client and our verifier each find their file, and find it good."""
    with served(lambda request: (200, "application/timestamp-reply", reply(authority, request))) as url:
        bundle = published(stamped(services, url, authority / "chain.pem"))
    envelope = (bundle / companion.REPORT).read_bytes()
    predicate = statement.parse(dsse.parse(envelope)[1])
    weights = services.store.model_path(predicate["model"]["after"]["digest"])
    verdict = verify.verify(bundle, services.policy_text(), model=weights)
    (tmp_path / "model.pem").write_bytes(oms.pem(oms.public_key(services.signers["model"].public_key)))
    printed = (bundle / companion.PRINT).read_bytes()
    signature = PdfFileReader(io.BytesIO(printed)).embedded_signatures[0]

    assert verdict.ok, [one for one in verdict.steps if not one.ok]
    assert "companions" in [one.name for one in verdict.steps]
    verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "model.pem").verify(
        weights, bundle / companion.MODEL
    )
    trusted = ValidationContext(trust_roots=[signature.signer_cert], moment=system_clock())
    assert validate_pdf_signature(signature, trusted).bottom_line
    assert dict(PdfReader(io.BytesIO(printed)).attachments) == {companion.REPORT: [envelope]}
    chain = timestamps.load_chain(authority / "chain.pem")
    timestamps.verify((bundle / companion.STAMP).read_bytes(), envelope, chain)
    summary = json.loads(dsse.parse((bundle / companion.SUMMARY).read_bytes())[1])
    assert summary["predicate"]["verificationResult"] == "PASSED"


def test_a_companion_of_another_report_is_noticed(services: Services) -> None:
    """A model's signature that was exchanged in a bundle fails the verifier's step of that name."""
    bundle = published(services)
    stranger = json.loads((bundle / companion.MODEL).read_text())
    stranger["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    (bundle / companion.MODEL).write_text(json.dumps(stranger))
    verdict = verify.verify(bundle, services.policy_text())

    assert [one.name for one in verdict.steps if not one.ok] == ["companions"]


def test_a_report_without_a_stamp_goes_out(services: Services, tmp_path: Path) -> None:
    """An authority that is not there, or whose certificates can't be read, costs the stamp and nothing else."""
    bundle = published(services)
    envelope = (bundle / companion.REPORT).read_bytes()
    told = {"payload": dsse.parse(envelope)[1], "envelope": envelope}
    signer = services.signers["model"]
    (tmp_path / "chain.pem").write_text("nothing")
    unreadable = stamped(services, "http://127.0.0.1:9/", tmp_path / "chain.pem")

    assert not (bundle / companion.STAMP).exists()
    assert set(companions(unreadable, **told, signer=signer)) == {companion.MODEL, companion.PRINT}


def test_a_revoked_model_key_logs_no_report(services: Services) -> None:
    """Nothing is logged in vain while what lies beside a report would be signed by a key that nobody believes."""
    furnish(services, 3, limit=AMPLE, ladder='"retrain"')
    run_id = planned(services, 0)
    with services.transaction() as ledger:
        ledger.revoke_key(key_id=services.signers["model"].key_id, reason="compromised", now=services.clock())

    with pytest.raises(UnavailableError, match=r"the model key was revoked .* 'expunge keys rotate'"):
        run(services, run_id, engines=engines())
    assert kinds(services, log.REPORT_LOGGED) == 0

    rotation.rotate(services, "model")
    assert run(services, run_id, engines=engines())


def test_a_report_without_a_typesetter_goes_out(services: Services) -> None:
    """Where the extra is not installed, a bundle has no PDF, and the program's log names what is missing."""
    furnish(services, 3, limit=AMPLE, ladder='"retrain"')
    run_id, workdir = planned(services, 0), str(services.settings.workdir)
    script = f"import sys; sys.modules['typst'] = None; sys.argv[1:] = {[workdir, '--execute', run_id]!r}"
    program = f"{script}\nfrom tests.system import crooked\ncrooked.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stderr
    bundle = services.settings.workdir / "bundles" / "m-v2"
    assert not (bundle / companion.PRINT).exists()
    assert verify.verify(bundle, services.policy_text()).ok
    assert [line for line in done.stdout.splitlines() if "without a PDF" in line and "typst" in line]


def test_the_pages_and_the_worker_start_without_the_extra() -> None:
    """No process of the desk needs the libraries of the extra `render` to begin."""
    blocked = "import sys; sys.modules |= dict.fromkeys(('asn1crypto', 'pyhanko', 'pyhanko_certvalidator', 'typst'))"
    loaded = "import compliance.execution.run, compliance.scheduler, compliance.web.app"
    started = subprocess.run(
        [sys.executable, "-c", f"{blocked}\n{loaded}"], capture_output=True, text=True, check=False
    )

    assert (started.returncode, started.stderr) == (0, "")


def test_a_later_report_tells_of_the_versions_before_it(services: Services) -> None:
    """The second report has the first one's figures, by its digest, and draws both in a row."""
    published(services, people=6)
    assert run(services, planned(services, 1), engines=engines())
    first, second = (services.settings.workdir / "bundles" / f"m-v{number}" for number in (2, 3))
    payloads = [dsse.parse((one / companion.REPORT).read_bytes())[1] for one in (first, second)]
    earlier, later = map(statement.parse, payloads)

    assert "history" not in earlier
    (told,) = later["history"]
    assert (told["version"], told["reportDigest"]) == (2, hashlib.sha256(payloads[0]).hexdigest())
    assert told["metrics"] == {one["metric"]: one["after"] for one in earlier["evidence"]["findings"]}
    assert b"From version to version" in (second / "report.html").read_bytes()
