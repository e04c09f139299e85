//! docs/from-python.md: its examples are what it shows, they run, and consumers see the same message both ways.

use std::fs;
use std::path::Path;
use std::process::Command;

use rig::Consumer;
use rig::python::Python;
use serde_json::{Value, json};

use e2e::program::Shell;
use e2e::world::{Operator, SOON, Space, project, run, world};

const PREFIX: &str = "from.python";

fn example(name: &str) -> String {
    fs::read_to_string(project("docs/examples").join(name)).expect("an example")
}

/// What consumers see of a message, but for what differs with each. A priority that is not set is 0, as the
/// page says.
fn seen(message: &Value) -> Value {
    let mut message = message.clone();
    if message["priority"].is_null() {
        message["priority"] = json!(0);
    }
    let object = message.as_object_mut().expect("an object");
    object.remove("id");
    object["headers"].as_object_mut().expect("headers").remove("sent-at");
    message
}

fn python(script: &Path) -> Command {
    let mut command = Command::new(Python::get().expect("the library").interpreter());
    command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    command
}

/// The folder that a Pod of alice's would have mounted.
fn service_account(shell: &Shell, space: &Space) {
    let kubeconfig = world().kube.kubeconfig_for("alice").expect("a user");
    let kubeconfig: Value =
        serde_saphyr::from_str(&fs::read_to_string(kubeconfig).expect("a kubeconfig")).expect("YAML");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let ca = text(&kubeconfig["clusters"][0]["cluster"]["certificate-authority"]);
    shell.file("ca.crt", &fs::read_to_string(ca).expect("a CA"));
    shell.file("token", &text(&kubeconfig["users"][0]["user"]["token"]));
    shell.file("namespace", &space.name);
}

#[test]
fn the_page_shows_the_examples_as_they_are() {
    let page = fs::read_to_string(project("docs/from-python.md")).expect("a page");
    for (language, name) in [
        ("python", "package-built.py"),
        ("toml", "package-built.toml"),
        ("yaml", "package-built.yaml"),
        ("yaml", "publisher-rights.yaml"),
        ("python", "create-message.py"),
        ("yaml", "generated-name.yaml"),
    ] {
        assert!(page.contains(&format!("```{language}\n{}```", example(name))), "{name} differs");
    }
}

#[test]
fn consumers_see_the_same_message_from_the_library_from_kubectl_and_from_python() {
    let (space, shell, broker) = (Space::new("python"), Shell::new(), &world().broker);
    let consumer = Consumer::start(broker, &format!("{PREFIX}.#")).expect("a consumer");
    let _operator = Operator::start(&space, &["--prod-topic-prefix", PREFIX]);
    let files = broker.client("publisher").and_then(|it| it.write(shell.folder(), "app")).expect("certificates");

    // By the library.
    let config = example("package-built.toml")
        .replace("amqps://rabbitmq.fedoraproject.org/%2Fpubsub", &broker.url())
        .replace("org.fedoraproject.prod", PREFIX)
        .replace("/etc/fedora-messaging/cacert.pem", &files.ca.display().to_string())
        .replace("/etc/fedora-messaging/app-cert.pem", &files.cert.display().to_string())
        .replace("/etc/fedora-messaging/app-key.pem", &files.key.display().to_string());
    let mut library = python(&project("docs/examples/package-built.py"));
    library.env("FEDORA_MESSAGING_CONF", shell.file("config.toml", &config));
    run(library, "").expect("the library sends it");

    // By kubectl, with the Secret that the page makes.
    let argument = |name: &str, path: &Path| format!("--from-file={name}={}", path.display());
    let parts = [argument("ca", &files.ca), argument("cert", &files.cert), argument("key", &files.key)];
    let secret =
        [&["create", "secret", "generic", "fedora-messaging-certs"], &parts.each_ref().map(String::as_str)[..]];
    space.kubectl(&secret.concat(), "").expect("the Secret is stored");
    space.apply(&example("package-built.yaml")).expect("it is accepted");
    let sent = ["wait", "--for=condition=FedoraMessageSent", "fmsg/package-built-4711", "--timeout=60s"];
    space.kubectl(&sent, "").expect("it is sent");

    // By Python, as somebody who has only these rights.
    space.kubectl(&["delete", "fmsg/package-built-4711"], "").expect("it is deleted");
    let user = "kind: User\n    apiGroup: rbac.authorization.k8s.io\n    name: alice";
    let rights = example("publisher-rights.yaml").replace("kind: ServiceAccount\n    name: builder", user);
    space.apply(&rights).expect("the rights are given");
    service_account(&shell, &space);
    let url = world().kube.url();
    let (host, number) = url.trim_start_matches("https://").split_once(':').expect("host and port");
    let call = |script: &Path| {
        let mut command = python(script);
        command.envs([("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", number)]);
        command.env("SERVICE_ACCOUNT", shell.folder());
        run(command, "")
    };
    call(&project("docs/examples/create-message.py")).expect("it is created");
    space.kubectl(&sent, "").expect("it is sent");
    let again = call(&project("docs/examples/create-message.py")).expect("it is there already");
    assert!(again.contains("'reason': 'Sent'"), "{again}");
    let wrong = example("create-message.py").replace("-4711", "-4712").replace("\"Warning\"", "\"Severe\"");
    let words = call(&shell.file("wrong.py", &wrong)).expect_err("it is refused");
    assert!(words.contains("spec.message.severity: Unsupported value"), "{words}");

    let received: Vec<_> = consumer.wait_for(3, SOON).expect("all are received").iter().map(seen).collect();
    assert_eq!(received.len(), 3, "{received:#?}");
    assert_eq!(received[0]["topic"], format!("{PREFIX}.builds.package.built"));
    assert_eq!(received[1], received[0], "by kubectl and by the library");
    assert_eq!(received[2], received[0], "by Python and by the library");
}
