"""k8s/ as it would be applied: rendered by the real kustomize, checked against Kubernetes' schemas and our own rules."""

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_conductor.settings.load import OTHER_VARIABLES, PREFIX
from claude_conductor.settings.schema import keys

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
IMAGE = "claudeconductor/claude-conductor:latest"
TOOLS = ROOT / ".cache/kubernetes/bin"


def tool(name: str) -> str:
    """Return the path of a tool, or skip the test, visibly."""
    built = TOOLS / name
    found = str(built) if built.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: `tools/build_kubernetes_tools.sh {name}` builds it")
    return found


def render(folder: Path) -> str:
    done = subprocess.run([tool("kustomize"), "build", str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(render(K8S)))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in objects() if each["kind"] == kind]


def pods() -> list[dict[str, Any]]:
    found = [each["spec"]["template"]["spec"] for each in objects() if "template" in each.get("spec", {})]
    assert found
    return found


def containers() -> list[dict[str, Any]]:
    return [each for pod in pods() for each in (*pod["containers"], *pod.get("initContainers", ()))]


def test_no_file_is_forgotten():
    """Every manifest is named by a kustomization, and every name is a file."""
    named: set[Path] = set()
    for path in K8S.rglob("kustomization.yaml"):
        listed = yaml.safe_load(path.read_text())["resources"]
        named |= {(path.parent / entry).resolve() for entry in listed}
    assert all(path.exists() for path in named)
    manifests = {path for path in K8S.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert manifests - named == set()


def test_the_image_is_written_once_directly_under_k8s():
    holders = [path for path in K8S.rglob("*") if path.is_file() and IMAGE in path.read_text()]
    assert [path.parent for path in holders if path.suffix == ".yaml"] == [K8S]


def test_the_image_is_replaced_by_the_sed_of_the_description(tmp_path: Path):
    copy = shutil.copytree(K8S, tmp_path / "k8s")
    before = render(copy)
    assert before.count(IMAGE) == len(containers())
    subprocess.run(
        ["/bin/sh", "-ec", "sed -i 's|claudeconductor/claude-conductor:latest|myregistry/claude-conductor:v1.0|g' k8s/*.yaml"],
        cwd=tmp_path,
        check=True,
    )
    assert render(copy) == before.replace(IMAGE, "myregistry/claude-conductor:v1.0")


@pytest.mark.parametrize("version", ["1.27", "1.30"])
def test_the_schemas_of_kubernetes_accept_it(version: str, tmp_path: Path):
    validate = tool("kubectl-validate")
    (tmp_path / "rendered.yaml").write_text(render(K8S))
    done = subprocess.run(
        [validate, "--version", version, str(tmp_path / "rendered.yaml")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schemas_refuse_what_is_wrong(tmp_path: Path):
    """The control for the test above: a misspelt key is found."""
    validate = tool("kubectl-validate")
    (tmp_path / "rendered.yaml").write_text(render(K8S).replace("runAsNonRoot", "runAsNoneRoot"))
    done = subprocess.run(
        [validate, "--version", "1.30", str(tmp_path / "rendered.yaml")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "runAsNoneRoot" in done.stdout + done.stderr


def test_pods_are_what_the_description_and_restricted_pod_security_ask_for():
    for pod in pods():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000, 1000, 1000)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {next(iter(set(volume) - {"name"})) for volume in pod.get("volumes", ())} <= {"emptyDir", "configMap", "secret"}
    for container in containers():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    (namespace,) = of_kind("Namespace")
    assert namespace["metadata"]["name"] == "claude-conductor"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_container_has_limits_and_probes_on_the_probe_port():
    for container in containers():
        for sort in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][sort])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"]["port"] == ports["probe"]


def test_variables_are_settings():
    for container in containers():
        for variable in container["env"]:
            name = variable["name"]
            assert name in OTHER_VARIABLES or name.removeprefix(PREFIX).lower().replace("__", ".") in keys(), name


def test_ports_are_those_of_the_image():
    image = (ROOT / "Dockerfile").read_text()
    listened = {name.lower(): int(port) for name, port in re.findall(r"CONDUCTOR_LISTEN__(\w+)=0\.0\.0\.0:(\d+)", image)}
    (container,) = containers()
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == listened
    for service in of_kind("Service"):
        assert all(listened[port["targetPort"]] == port["port"] for port in service["spec"]["ports"])
        assert all(port["appProtocol"] == "https" for port in service["spec"]["ports"])


def test_nothing_flows_but_what_is_listed():
    """Everything is denied first; what is allowed is one port each, from namespaces that say so, and nothing goes out."""
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    assert policies.pop("nothing") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert not any("egress" in each for each in policies.values())
    flows = {
        (rule["ports"][0]["port"], next(iter(rule["from"][0]["namespaceSelector"]["matchLabels"])))
        for each in policies.values()
        for rule in each["ingress"]
        if len(rule["ports"]) == len(rule["from"]) == 1
    }
    assert flows == {(7443, "conductor.local/agents"), (7444, "conductor.local/clients")}
    assert len(flows) == sum(len(each["ingress"]) for each in policies.values())


def test_rights_are_few_and_nobody_has_them_by_default():
    kinds = {each["kind"] for each in objects()}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding", "RoleBinding", "Secret"}
    for role in of_kind("Role"):
        for rule in role["rules"]:
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            assert "secrets" not in rule["resources"]
            assert "resourceNames" in rule or set(rule["verbs"]) <= {"get", "list", "watch"}


def test_one_replica_and_a_budget_that_lets_its_node_be_drained():
    (workload,) = of_kind("StatefulSet")
    assert workload["spec"]["replicas"] == 1
    (budget,) = of_kind("PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


def test_selectors_find_the_pods():
    (workload,) = of_kind("StatefulSet")
    labels = workload["spec"]["template"]["metadata"]["labels"].items()
    wanted = [workload["spec"]["selector"]["matchLabels"]]
    wanted += [each["spec"]["selector"] for each in of_kind("Service")]
    wanted += [each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget")]
    wanted += [each["spec"]["podSelector"].get("matchLabels", {}) for each in of_kind("NetworkPolicy")]
    assert all(selector.items() <= labels for selector in wanted)
    assert workload["spec"]["serviceName"] in {each["metadata"]["name"] for each in of_kind("Service")}
    assert workload["spec"]["template"]["spec"]["priorityClassName"] in {
        each["metadata"]["name"] for each in of_kind("PriorityClass")
    }
