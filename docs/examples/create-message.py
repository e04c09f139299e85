import os
import pathlib

import requests

account = pathlib.Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
namespace = (account / "namespace").read_text()
messages = f"{server}/apis/apps.fedoraproject.org/v1alpha1/namespaces/{namespace}/fedoramessages"

session = requests.Session()
session.trust_env = False  # no proxy between a pod and its API server
session.verify = str(account / "ca.crt")


def create(name, topic, body, headers=None, severity="Info"):
    """Creates a message; one that is there already under this name is left as it is."""
    session.headers["Authorization"] = "Bearer " + (account / "token").read_text()  # it changes every hour
    answer = session.post(
        messages,
        json={
            "apiVersion": "apps.fedoraproject.org/v1alpha1",
            "kind": "FedoraMessage",
            "metadata": {"name": name},
            "spec": {"message": {"topic": topic, "body": body, "headers": headers or {}, "severity": severity}},
        },
        timeout=10,
    )
    if answer.status_code == 409:  # an earlier try got through
        return
    if not answer.ok:
        raise RuntimeError(answer.json()["message"])  # what is wrong with which field


def status(name):
    """What became of a message. Without a reason, the operator has not looked at it yet."""
    answer = session.get(f"{messages}/{name}", timeout=10)
    answer.raise_for_status()
    return answer.json().get("status", {})


if __name__ == "__main__":
    create(
        "package-built-4711",
        topic="builds.package.built",
        body={"package": "kernel", "build": 4711, "tests": {"passed": 1200, "failed": 2}},
        headers={"architecture": "aarch64", "scratch": False},
        severity="Warning",
    )
    print(status("package-built-4711"))
