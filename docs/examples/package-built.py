from fedora_messaging import api, message

api.publish(
    message.Message(
        topic="builds.package.built",
        body={"package": "kernel", "build": 4711, "tests": {"passed": 1200, "failed": 2}},
        headers={"architecture": "aarch64", "scratch": False},
        severity=message.WARNING,
    )
)
