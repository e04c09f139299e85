//! docs/from-python.md shows the examples as they are, they run, and consumers receive equal
//! messages.

use std::fs;
use std::path::Path;
use std::process::Command;

use rig::Consumer;
use rig::python::Python;
use serde_json::{Value, json};

use e2e::cli::Cli;
use e2e::{Operator, SOON, TestNamespace, project, read, run, shared, wait_soon, yaml_blocks};

const PREFIX: &str = "from.python";

fn example(name: &str) -> String {
    read(&format!("docs/examples/{name}"))
}

/// Returns a message as a consumer reads it, without id and time. A missing priority is 0, as the
/// page says.
fn comparable(message: &Value) -> Value {
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

/// Writes the folder that a Pod mounts under the service account alice.
fn service_account(cli: &Cli, namespace: &TestNamespace) {
    let kubeconfig = shared().kube.kubeconfig_for("alice").expect("a user");
    let kubeconfig: Value =
        serde_saphyr::from_str(&fs::read_to_string(kubeconfig).expect("a kubeconfig")).expect("YAML");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let ca = text(&kubeconfig["clusters"][0]["cluster"]["certificate-authority"]);
    cli.file("ca.crt", &fs::read_to_string(ca).expect("a CA"));
    cli.file("token", &text(&kubeconfig["users"][0]["user"]["token"]));
    cli.file("namespace", &namespace.name);
}

#[test]
fn page_shows_examples() {
    let page = read("docs/from-python.md");
    for (language, name) in [
        ("python", "package-built.py"),
        ("toml", "package-built.toml"),
        ("yaml", "package-built.yaml"),
        ("yaml", "publisher-rbac.yaml"),
        ("python", "create-message.py"),
        ("yaml", "generated-name.yaml"),
    ] {
        assert!(page.contains(&format!("```{language}\n{}```", example(name))), "{name} differs");
    }
}

/// The senders are the library, kubectl and a Python client of Kubernetes.
#[test]
fn all_senders_publish_equal_messages() {
    let (namespace, cli, broker) = (TestNamespace::new("python"), Cli::new(), &shared().broker);
    let consumer = Consumer::start(broker, &format!("{PREFIX}.#")).expect("a consumer");
    let _operator = Operator::start(&namespace, &["--prod-topic-prefix", PREFIX]);
    let files = broker.client("publisher").and_then(|it| it.write(cli.folder(), "app")).expect("certificates");

    // With the library.
    let config = example("package-built.toml")
        .replace("amqps://rabbitmq.fedoraproject.org/%2Fpubsub", &broker.url())
        .replace("org.fedoraproject.prod", PREFIX)
        .replace("/etc/fedora-messaging/cacert.pem", &files.ca.display().to_string())
        .replace("/etc/fedora-messaging/app-cert.pem", &files.cert.display().to_string())
        .replace("/etc/fedora-messaging/app-key.pem", &files.key.display().to_string());
    let mut library = python(&project("docs/examples/package-built.py"));
    library.env("FEDORA_MESSAGING_CONF", cli.file("config.toml", &config));
    run(&mut library, "").expect("the library sends the message");

    // With kubectl, and the Secret and the Sender of the page.
    let argument = |name: &str, path: &Path| format!("--from-file={name}={}", path.display());
    let parts = [argument("ca", &files.ca), argument("cert", &files.cert), argument("key", &files.key)];
    let secret =
        [&["create", "secret", "generic", "fedora-messaging-certs"], &parts.each_ref().map(String::as_str)[..]];
    namespace.kubectl(&secret.concat());
    let page = read("docs/from-python.md");
    let sender = yaml_blocks(&page).find(|block| block.contains("kind: FedoraMessageSender"));
    namespace.apply(sender.expect("a Sender"));
    namespace.apply(&example("package-built.yaml"));
    let sent = ["wait", "--for=condition=FedoraMessageSent", "fmsg/package-built-4711", "--timeout=60s"];
    namespace.kubectl(&sent);

    // With Python, as a user who has only these permissions.
    namespace.kubectl(&["delete", "fmsg/package-built-4711"]);
    let user = "kind: User\n    apiGroup: rbac.authorization.k8s.io\n    name: alice";
    let rules = example("publisher-rbac.yaml").replace("kind: ServiceAccount\n    name: builder", user);
    namespace.apply(&rules);
    service_account(&cli, &namespace);
    let may_create = ["auth", "can-i", "create", "fedoramessages.apps.fedoraproject.org", "--as=alice"];
    wait_soon("alice may create messages", || namespace.try_kubectl(&may_create, "").is_ok());
    let url = shared().kube.url();
    let (host, number) = url.trim_start_matches("https://").split_once(':').expect("host and port");
    let call = |script: &Path| {
        let mut command = python(script);
        command.envs([("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", number)]);
        command.env("SERVICE_ACCOUNT", cli.folder());
        run(&mut command, "")
    };
    call(&project("docs/examples/create-message.py")).expect("the script creates the message");
    namespace.kubectl(&sent);
    let again = call(&project("docs/examples/create-message.py")).expect("the message exists already");
    assert!(again.contains("'reason': 'Sent'"), "{again}");
    let wrong = example("create-message.py").replace("-4711", "-4712").replace("\"Warning\"", "\"Severe\"");
    let error = call(&cli.file("wrong.py", &wrong)).expect_err("it is refused");
    assert!(error.contains("spec.message.severity: Unsupported value"), "{error}");

    let received: Vec<_> = consumer.wait_for(3, SOON).expect("all are received").iter().map(comparable).collect();
    assert_eq!(received.len(), 3, "{received:#?}");
    assert_eq!(received[0]["topic"], format!("{PREFIX}.builds.package.built"));
    assert_eq!(received[1], received[0], "kubectl and the library");
    assert_eq!(received[2], received[0], "Python and the library");
}
