"""SASL over TLS: every process reaches the broker, and the password shows nowhere."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edo_stream.local.kafka import LocalKafka
from edo_stream.local.ports import free_port
from tests.broker.bench import Bench, event, log_of, wait_for

PASSWORD = "s3cret-of-the-test"
USER = "edo"
HOLD = "ordering: {policy: sequence, start: 1, on_timeout: hold}"

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="certificates are made with openssl"
)


def certificates(directory: Path) -> tuple[Path, Path]:
    """A certificate for the loopback address with its key, and the authority that signed it."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test-ca")
    openssl("req", *key, "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=broker")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "broker.csr", "-out", "broker.crt", *signed)
    store = directory / "broker.pem"
    store.write_text(
        (directory / "broker.key").read_text() + (directory / "broker.crt").read_text()
    )
    return store, directory / "ca.pem"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A broker with a second listener, for SASL over TLS; the settings to reach it."""
    directory = tmp_path_factory.mktemp("secured")
    store, authority = certificates(directory)
    plain, secure, controller = free_port(), free_port(), free_port()
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    settings = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL"
        ),
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": (
            f'{login} required user_{USER}="{PASSWORD}";'
        ),
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(store),
    }
    with LocalKafka(
        directory / "kafka", plain, controller_port=controller, settings=settings
    ) as kafka:
        yield {
            "plain": kafka.bootstrap,
            "EDO_BROKER": f"127.0.0.1:{secure}",
            "EDO_SECURITY_PROTOCOL": "SASL_SSL",
            "EDO_SASL_MECHANISM": "PLAIN",
            "EDO_SASL_USERNAME": USER,
            "EDO_SASL_PASSWORD": PASSWORD,
            "EDO_TLS_CA_FILE": str(authority),
        }


@pytest.fixture
def bench(tmp_path: Path, secured: dict[str, str]) -> Iterator[Bench]:
    """As on the shared broker; the test itself comes through the plain listener."""
    access = dict(secured)
    bench = Bench(tmp_path, "secured", {"EDO_BROKER": access.pop("plain")})
    bench.environment |= access
    yield bench
    bench.close()


def test_worker_commands_and_audit_work_over_sasl_and_tls(bench: Bench) -> None:
    topic = bench.declare("things", HOLD)
    applied = bench.edo("topics", "apply")
    assert applied.returncode == 0, applied.stderr
    bench.send(topic, [event(f"e{n}", number=n) for n in (1, 2, 4)])
    worker = bench.worker(log_level="debug")
    worker.start()
    assert bench.result_ids(topic, 2) == ["e1", "e2"]

    wait_for(lambda: "4..4" in bench.edo("gap", "list").stdout, "the gap in the list")
    skipped = bench.edo("gap", "skip", topic, "k", "--to", "3")
    assert skipped.returncode == 0, skipped.stderr
    assert bench.result_ids(topic, 3) == ["e1", "e2", "e4"]
    audited = bench.edo("audit")
    assert audited.returncode == 0, audited.stdout + audited.stderr

    told = [applied.stdout, skipped.stdout, skipped.stderr, audited.stdout, audited.stderr]
    assert PASSWORD not in "".join([*told, log_of(worker)])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"EDO_SASL_PASSWORD": f"{PASSWORD}-not"}, "uthentication"),
        ({"EDO_TLS_CA_FILE": ""}, "CERTIFICATE_VERIFY_FAILED"),
    ],
    ids=["wrong password", "unknown authority"],
)
def test_wrong_credentials_are_said_without_the_password(
    bench: Bench, changed: dict[str, str], message: str
) -> None:
    bench.declare("refused")

    told = bench.edo("gap", "list", **changed)
    own = {"EDO_DATA": str(bench.root / "own"), "EDO_WEB_PORT": str(free_port())}
    started = bench.run("faust", "-A", "edo_stream.app", "worker", "-l", "info", **own, **changed)

    assert told.returncode == 3
    assert told.stderr.count("\n") == 1
    assert message in told.stderr
    assert started.returncode == 75
    worker_said = started.stdout + started.stderr
    assert message in worker_said
    assert "no broker at" in worker_said
    assert "Traceback" not in worker_said
    assert PASSWORD not in told.stdout + told.stderr + worker_said
