"""The servers on Kubernetes: who reaches them, when they are taken for well, and that they can write nothing."""

from tests.deploy import commands, manifests
from tests.deploy.manifests import Container
from tests.deploy.test_manifests import STRANGER, labels, lets_in, selects
from transforms.serving import hosts, listen

DEPLOYMENT = manifests.one("Deployment", "pixdex-serve")
PORT = 8080
HEALTH = "/healthz"


def the_server() -> Container:
    (server,) = manifests.containers(DEPLOYMENT)
    return server


def test_its_command_is_one_that_pixdex_accepts_and_serves_the_root_of_every_night() -> None:
    options = commands.parsed(the_server().command).options
    (nightly,) = manifests.containers(manifests.one("CronJob"))
    assert options.root == commands.parsed(nightly.command).options.root
    assert (options.host, options.port) == ("0.0.0.0", PORT)
    assert options.threads == int(the_server().content["resources"]["limits"]["cpu"])


def test_the_service_leads_to_the_port_that_it_listens_at() -> None:
    service = manifests.one("Service", DEPLOYMENT.name).content["spec"]
    assert service["selector"] == DEPLOYMENT.content["spec"]["template"]["metadata"]["labels"]
    (door,) = the_server().content["ports"]
    assert (door["name"], door["containerPort"]) == ("http", PORT)
    assert [each["targetPort"] for each in service["ports"]] == [door["name"]]
    assert DEPLOYMENT.content["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(PORT)


def test_only_what_stands_before_it_reaches_it() -> None:
    policies = [each.content["spec"] for each in manifests.read() if each.kind == "NetworkPolicy"]
    mine = [each for each in policies if selects(each["podSelector"], labels(DEPLOYMENT.name))]
    rules = [rule for each in mine for rule in each.get("ingress", [])]
    assert len(mine) == 2 and len(rules) == 1  # the one that closes the namespace, and its own
    (rule,) = rules
    (namespace,) = [each["namespaceSelector"]["matchLabels"] for each in rule["from"]]
    assert namespace == {"kubernetes.io/metadata.name": "ingress-nginx"}
    assert [each["port"] for each in rule["ports"]] == [PORT]
    assert lets_in({**rule, "from": [{"podSelector": {}, **rule["from"][0]}]}, STRANGER, "ingress-nginx", PORT)


def test_it_answers_to_the_name_of_the_service_and_to_one_that_an_ingress_passes_on() -> None:
    service = manifests.one("Service", DEPLOYMENT.name).content["metadata"]
    allowed = commands.parsed(the_server().command).options.allow_host
    assert f"{service['name']}.{service['namespace']}.svc" in allowed
    assert len(allowed) == 2 and all(hosts.is_name(name) for name in allowed)


def test_probes_ask_whether_it_answers() -> None:
    server = the_server().content
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"] == {"path": HEALTH, "port": "http"}


def test_what_was_begun_is_answered_before_a_pod_ends() -> None:
    (pause,) = the_server().content["lifecycle"]["preStop"]["exec"]["command"][1:]
    assert the_server().pod["terminationGracePeriodSeconds"] > int(pause) + listen.GRACE_SECONDS
    assert commands.parsed(the_server().command).options.timeout <= listen.GRACE_SECONDS


def test_it_can_write_nowhere_but_into_its_own_scratch() -> None:
    server = the_server()
    assert server.security["readOnlyRootFilesystem"] is True
    empty = {each["name"] for each in server.pod["volumes"] if "emptyDir" in each}
    for mount in server.content["volumeMounts"]:
        assert mount.get("readOnly") is True or mount["name"] in empty
    (claim,) = [each["persistentVolumeClaim"] for each in server.pod["volumes"] if "emptyDir" not in each]
    assert claim["readOnly"] is True
