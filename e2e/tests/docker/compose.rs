//! The broker of docker-compose.yml, with the lines of docs/try.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use rig::network::Network;
use rig::pki::CertFiles;
use rig::python::Python;
use rig::{Consumer, Engine, base_images, debian};
use serde_json::Value;

use crate::without_digests;
use e2e::{SOON, program, project, read, run};

const URL: &str = "amqps://localhost:5671/%2Fpubsub";

/// Copies what the lines use, because docker-compose.yml writes certificates beside itself.
fn copy_project(to: &Path) {
    fs::create_dir_all(to.join("docs")).expect("a folder");
    for (from, to) in [("testdata", to), ("docs/examples", &to.join("docs"))] {
        run(Command::new("cp").arg("-r").arg(project(from)).arg(to), "").expect("a copy");
    }
}

/// Returns the lines of docs/try.md that begin with this one, up to the end of their block.
fn block(first: &str) -> String {
    let page = read("docs/try.md");
    let start = page.find(&format!("```sh\n{first}\n")).expect("a block that begins with this line");
    page[start..].split("```").nth(1).and_then(|block| block.split_once(first)).expect("a block").1.to_owned()
}

/// The lines of docs/try.md start the broker, check it and publish a message to a consumer of
/// fedora-messaging. `docker compose down` removes all containers, networks and volumes.
#[test]
fn documented_lines_work() {
    // Download first, because the network has no connection to the internet.
    let base_image = base_images::rabbitmq().expect("a base image");
    debian::docker().expect("the programs of an engine");
    Python::get().expect("fedora-messaging");
    let network = Network::new().expect("a network");
    network.enter().expect("this thread is in the network");
    let engine = Engine::start().expect("an engine");
    let folder = engine.scratch().join("project");
    copy_project(&folder);
    let image = without_digests("docker-compose.yml", &folder.join("docker-compose.yml"));
    engine.import(&base_image, &image).expect("an image");
    let programs = program().parent().expect("a folder");
    let shell = |lines: &str| {
        let mut command = engine.command("bash", &[programs]).expect("a command");
        run(command.args(["-euo", "pipefail", "-c", lines]).current_dir(&folder), "")
            .unwrap_or_else(|error| panic!("{lines}: {error}"))
    };

    let up = "docker compose up --wait";
    shell(up);
    let certificate = |name: &str| folder.join(".certs").join(name);
    let files = CertFiles {
        ca: certificate("ca.pem"),
        cert: certificate("consumer-cert.pem"),
        key: certificate("consumer-key.pem"),
    };
    let consumer = Consumer::start_at(URL, &files, "#").expect("a consumer");
    let printed = shell(&block(up));
    assert!(printed.contains("amq.topic exists"), "{printed}");
    let received = consumer.wait_for(1, SOON).expect("a message");
    assert_eq!(received[0]["topic"], "nice.message");
    let overview = shell("curl --fail --silent --show-error --user viewer:viewer http://localhost:15672/api/overview");
    let overview: Value = serde_json::from_str(&overview).expect("JSON");
    assert_eq!(overview["rabbitmq_version"].as_str().expect("a version").split('.').next(), Some("4"));

    shell("docker compose down");
    assert_eq!(shell("docker ps --all --quiet; docker volume ls --quiet"), "");
    assert_eq!(shell("docker network ls --format '{{.Name}}' | sort"), "bridge\nhost\nnone\n");
}
