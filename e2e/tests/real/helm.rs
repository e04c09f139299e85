//! The Helm chart gives the same objects as kustomize. A real API server accepts its installation,
//! upgrade and removal. `tests/pods/helm.rs` runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{Kube, helm};
use serde_json::{Value, json};

use crate::manifests::check;
use e2e::overlay::with_component;
use e2e::{TestNamespace, message, project, read, run, shared, wait_soon};

const CHART: &str = "charts/fedora-message-operator";
const NAME: &str = "fedora-message-operator";

/// Each overlay, with a component or without, its namespace, and the values for the same.
const SAME: [(&str, &str, &str, &[&str]); 9] = [
    ("cluster-wide", "", NAME, &[]),
    ("fedora", "", NAME, &["--values", "charts/values/fedora.yaml"]),
    ("local", "", NAME, &["--values", "charts/values/local.yaml"]),
    ("one-namespace", "", "apps", &["--values", "charts/values/one-namespace.yaml"]),
    ("cluster-wide", "monitoring", NAME, &["--set", "monitoring.enabled=true"]),
    ("cluster-wide", "team-alerts", NAME, &["--set", "monitoring.teamAlerts=true"]),
    ("cluster-wide", "pods", NAME, &["--set", "podDelivery.mode=fallback"]),
    ("cluster-wide", "require-sender", NAME, &["--set", "requireSender=true"]),
    ("fedora", "schemas", NAME, &["--values", "charts/values/fedora.yaml", "--set", SCHEMAS]),
];
const SCHEMAS: &str = "schemas.configMap=fedora-message-schemas";
/// As at the tag of a release: without a tag of its own.
const OTHER_IMAGE: &str = "image.repository=example.org/operator,image.tag=";

/// The objects of manifests, by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

fn helm(kube: &Kube, arguments: &[&str]) -> Result<String, String> {
    run(helm::command(kube).expect("Helm").current_dir(project(".")).args(arguments), "")
}

fn render(namespace: &str, values: &[&str]) -> Objects {
    let arguments = [&["template", NAME, CHART, "--namespace", namespace][..], values].concat();
    objects(&helm(&shared().kube, &arguments).unwrap_or_else(|error| panic!("{values:?}: {error}")))
}

fn objects(manifests: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifests).expect("YAML");
    let entry = |mut object: Value| {
        // Kustomize takes these for namespaced. They belong to the cluster.
        if object["kind"].as_str().is_some_and(|kind| kind.starts_with("ValidatingAdmissionPolicy"))
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("namespace");
        }
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        (format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name")), object)
    };
    documents.into_iter().filter(|object| !object.is_null()).map(entry).collect()
}

/// Removes everything in which the chart may differ from kustomize.
fn without_differences(mut objects: Objects) -> Objects {
    // Helm creates the namespace: --create-namespace.
    objects.retain(|name, _| !name.starts_with("Namespace "));
    for object in objects.values_mut() {
        // Helm must not delete CRDs.
        if object["metadata"]["annotations"] == json!({"helm.sh/resource-policy": "keep"})
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("annotations");
        }
        let namespace = object["metadata"]["namespace"].clone();
        if let Some(env) = object.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut) {
            // The order of the variables means nothing.
            env.sort_by_key(|variable| variable["name"].to_string());
            // The chart knows the namespace's name.
            for variable in env.iter_mut().filter(|variable| variable["name"] == "WATCH_NAMESPACES") {
                if variable["valueFrom"] == json!({"fieldRef": {"fieldPath": "metadata.namespace"}}) {
                    *variable = json!({"name": "WATCH_NAMESPACES", "value": namespace});
                }
            }
        }
    }
    objects
}

#[test]
fn lint_finds_nothing() {
    let kube = &shared().kube;
    let mut sets: Vec<_> = SAME.iter().map(|(.., values)| *values).collect();
    sets.dedup();
    for values in sets {
        helm(kube, &[&["lint", "--strict", CHART][..], values].concat()).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The chart gives what an overlay gives, object by object.
#[test]
fn equals_kustomize() {
    let kube = &shared().kube;
    for (overlay, component, namespace, values) in SAME {
        let folder = if component.is_empty() {
            project("manifests/overlays").join(overlay)
        } else {
            with_component(kube, overlay, component)
        };
        let kustomized = kube.run(&["kustomize".as_ref(), folder.as_os_str()]).expect("it builds");
        let kustomized = without_differences(objects(&kustomized));
        let rendered = without_differences(render(namespace, values));
        assert!(kustomized.len() > 5, "{overlay}: {kustomized:?}");
        assert_eq!(
            kustomized.keys().collect::<Vec<_>>(),
            rendered.keys().collect::<Vec<_>>(),
            "{overlay} {component}: kustomize, and the chart"
        );
        for (name, object) in kustomized {
            assert_eq!(object, rendered[&name], "{overlay} {component}: {name} of kustomize, and of the chart");
        }
    }
}

/// The chart's copies of manifests are current.
#[test]
fn copies_are_current() {
    let folder = shared().kube.guard().scratch().join("chart-files");
    run(Command::new(project("charts/generate")).arg(&folder), "").expect("it copies");
    let mut diff = Command::new("diff");
    diff.arg("--recursive").arg(project(CHART).join("files")).arg(&folder);
    run(&mut diff, "").unwrap_or_else(|error| panic!("run `just chart`: {error}"));
}

/// The image comes from another registry, by the chart's version or by a digest.
#[test]
fn values_name_the_image() {
    let image = |values: &[&str]| {
        let objects = render("apps", values);
        let pod = &objects[&format!("Deployment apps/{NAME}")]["spec"]["template"]["spec"];
        (pod["containers"][0]["image"].clone(), pod["imagePullSecrets"].clone())
    };
    let version = fedora_message_operator::VERSION;
    assert_eq!(image(&["--set", OTHER_IMAGE]), (json!(format!("example.org/operator:{version}")), Value::Null));
    let digest = format!("sha256:{:064}", 7);
    let values = [
        "--set",
        &format!("image.repository=example.org/operator,image.digest={digest}"),
        "--set",
        "image.pullSecrets={registry}",
    ];
    assert_eq!(image(&values), (json!(format!("example.org/operator@{digest}")), json!([{"name": "registry"}])));
}

/// With named namespaces, nothing is granted elsewhere, also not to create Pods.
#[test]
fn namespaces_have_roles() {
    let values = ["--set", "watchNamespaces={blue,green},podDelivery.mode=pod"];
    let objects = render("apps", &values);
    for namespace in ["blue", "green"] {
        for role in [NAME, "fedora-message-operator-pods"] {
            assert!(objects.contains_key(&format!("Role {namespace}/{role}")), "{:?}", objects.keys());
            let binding = &objects[&format!("RoleBinding {namespace}/{role}")];
            assert_eq!(binding["roleRef"]["kind"], "Role");
            assert_eq!(binding["subjects"][0]["namespace"], "apps");
        }
    }
    assert!(!objects.keys().any(|name| name.starts_with("ClusterRoleBinding ")), "{:?}", objects.keys());
    assert!(!objects.contains_key(&format!("ClusterRole /{NAME}")), "{:?}", objects.keys());

    let only = ["--set", "podDelivery.mode=fallback,podDelivery.namespaces={blue}"];
    let objects = render("apps", &only);
    assert!(objects.contains_key("RoleBinding blue/fedora-message-operator-pods"), "{:?}", objects.keys());
    assert!(!objects.contains_key("ClusterRoleBinding /fedora-message-operator-pods"), "{:?}", objects.keys());

    // The operator reads the Secrets that its Pods mount, also where it watches no messages.
    let bindings = |mode: &str| {
        let lists = "watchNamespaces={blue},podDelivery.namespaces={blue,green}";
        let objects = render("apps", &["--set", &format!("{lists},podDelivery.mode={mode}")]);
        let names = objects.into_keys().filter_map(|name| name.strip_prefix("RoleBinding ").map(str::to_owned));
        names.filter(|name| !name.starts_with("apps/")).collect::<Vec<_>>()
    };
    let of = |namespace: &str| [format!("{namespace}/{NAME}"), format!("{namespace}/{NAME}-pods")];
    assert_eq!(bindings("pod"), [of("blue"), of("green")].concat());
    assert_eq!(bindings("direct"), [format!("blue/{NAME}")]);
}

/// The API server accepts what values add, among them the volumes of the chart's README.
#[test]
fn server_accepts_more_values() {
    let kube = &shared().kube;
    let namespace = TestNamespace::new("values");
    let readme = read(&format!("{CHART}/README.md"));
    let volumes = readme.split("# values\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let more = "
image: {pullPolicy: Always, pullSecrets: [registry]}
requireSender: true
defaultTtlSecondsAfterFinished: 31536000
schemas: {configMap: catalog}
podDelivery: {mode: pod, image: 'example.org/cli:1'}
networkPolicy: {egressPorts: [5672]}
serviceAccount: {annotations: {owner: somebody}}
nodeSelector: {disk: fast}
tolerations: [{key: own, operator: Exists}]
affinity: {nodeAffinity: {}}
";
    let file = kube.guard().scratch().join("values.yaml");
    fs::write(&file, format!("{more}watchNamespaces: [{}]\n{volumes}", namespace.name)).expect("it is written");
    let arguments = ["template", NAME, CHART, "--namespace", &namespace.name, "--values", path(&file)];
    let manifests = helm(kube, &arguments).unwrap_or_else(|error| panic!("{error}"));
    check(kube, "values", &manifests);
    let objects = objects(&manifests);
    let pod = &objects[&format!("Deployment {}/{NAME}", namespace.name)]["spec"]["template"]["spec"];
    let variable = |name: &str| {
        let env = pod["containers"][0]["env"].as_array().expect("a list");
        env.iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].clone())
    };
    assert_eq!(variable("DEFAULT_TTL_SECONDS_AFTER_FINISHED"), Some(json!("31536000")));
    assert_eq!(variable("PROD_CA_FILE"), Some(json!("/etc/broker-ca/prod.pem")));
    let volumes: Vec<_> = pod["volumes"].as_array().expect("a list").iter().map(|volume| &volume["name"]).collect();
    assert_eq!(volumes, ["broker-ca", "schemas"]);
    let ports = &objects[&format!("NetworkPolicy {}/{NAME}", namespace.name)]["spec"]["egress"][0]["ports"];
    assert_eq!(ports.as_array().and_then(|ports| ports.last()), Some(&json!({"port": 5672, "protocol": "TCP"})));
}

/// A wrong value is refused with its name.
#[test]
fn schema_refuses_wrong_values() {
    for (value, field) in [
        ("replica=3", "replica"),
        ("brokers.prodUrl=amqps://a", "prodUrl"),
        ("podDelivery.mode=sometimes", "/podDelivery/mode"),
        ("replicas=two", "/replicas"),
        ("watchNamespaces={Apps}", "/watchNamespaces/0"),
        ("image.digest=latest", "/image/digest"),
        ("defaultTtlSecondsAfterFinished=-1", "/defaultTtlSecondsAfterFinished"),
        ("networkPolicy.egressPorts={70000}", "/networkPolicy/egressPorts/0"),
        ("extraEnv[0].value=nameless", "/extraEnv/0"),
    ] {
        let arguments = ["template", NAME, CHART, "--set", value];
        let error = helm(&shared().kube, &arguments).expect_err(value);
        assert!(error.contains("schema") && error.contains(field), "{value}: {error}");
    }
}

/// The schema knows all values, and no others.
#[test]
fn schema_has_all_values() {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("JSON");
    let values: Value = serde_saphyr::from_str(&read(&format!("{CHART}/values.yaml"))).expect("YAML");
    assert_same_keys(&schema, &schema, &values, "");
}

/// Compares the keys of values with the properties of their part of the schema.
fn assert_same_keys(schema: &Value, part: &Value, values: &Value, path: &str) {
    let reference = part["$ref"].as_str().and_then(|reference| schema.pointer(reference.strip_prefix('#')?));
    let part = reference.unwrap_or(part);
    let Some(properties) = part["properties"].as_object() else { return };
    let values = values.as_object().unwrap_or_else(|| panic!("{path} is no object"));
    // Helm itself sets this one.
    let known: BTreeSet<_> = properties.keys().filter(|name| *name != "global").collect();
    assert_eq!(known, values.keys().collect::<BTreeSet<_>>(), "{path}: the schema, and values.yaml");
    assert_eq!(part["additionalProperties"], false, "{path}: a typo would be accepted");
    for (name, value) in values {
        assert_same_keys(schema, &properties[name], value, &format!("{path}/{name}"));
    }
}

/// Copies the chart as an earlier version, whose CRD lacks a column.
fn earlier_chart(kube: &Kube) -> PathBuf {
    let folder = kube.guard().scratch().join("earlier");
    run(Command::new("cp").arg("-r").arg(project(CHART)).arg(&folder), "").expect("it is copied");
    let edit = |file: &str, from: &str, to: &str| {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.contains(from), "{file}: no {from}");
        fs::write(path, text.replace(from, to)).expect("it is written");
    };
    let version = fedora_message_operator::VERSION;
    edit("Chart.yaml", &format!("ersion: {version}"), "ersion: 0.0.1");
    edit("files/crds/fedoramessages.yaml", "name: Sent-Time\n", "name: Earlier\n");
    folder
}

/// An upgrade also upgrades the CRDs. Neither it nor the removal deletes a message.
#[test]
fn upgrade_keeps_messages() {
    let kube = &Kube::start().expect("an API server of its own");
    let earlier = earlier_chart(kube);
    let helm = |arguments: &[&str]| {
        let arguments = [arguments, &["--namespace", NAME]].concat();
        helm(kube, &arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    };
    helm(&["install", NAME, path(&earlier), "--create-namespace"]);
    let columns = || {
        let crd = "crd/fedoramessages.apps.fedoraproject.org";
        kube.run(&["get", crd, "-o", "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"])
            .expect("the CRD is there")
    };
    assert!(columns().contains("Earlier"), "{}", columns());
    kube.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).expect("they are served");

    let namespace = TestNamespace::on(kube, "stored");
    wait_soon("a message is accepted", || {
        namespace.try_kubectl(&["create", "-f", "-"], &message("kept", "helm.kept", "")).is_ok()
    });
    let uid = || namespace.get("kept")["metadata"]["uid"].clone();
    let stored = uid();
    assert!(stored.is_string());

    helm(&["upgrade", NAME, CHART, "--values", "charts/values/fedora.yaml", "--set", "podDelivery.mode=fallback"]);
    assert!(columns().contains("Sent-Time") && !columns().contains("Earlier"), "{}", columns());
    let deployment = ["-n", NAME, "get", "deployment", NAME, "-o", "jsonpath={.spec.template.spec.containers[0].env}"];
    let env = kube.run(&deployment).expect("the Deployment is there");
    assert!(env.contains("org.fedoraproject.prod") && env.contains("604800") && env.contains("fallback"), "{env}");
    kube.run(&["get", "clusterrolebinding/fedora-message-operator-pods"]).expect("the permission is granted");
    assert_eq!(uid(), stored, "the upgrade keeps the message");

    // Without the value, its objects go.
    helm(&["upgrade", NAME, CHART, "--reset-values"]);
    kube.run(&["get", "clusterrolebinding/fedora-message-operator-pods"]).expect_err("the permission is revoked");

    helm(&["upgrade", NAME, CHART, "--set", "crds.install=false"]);
    assert_eq!(uid(), stored, "a release without CRDs keeps the message");
    helm(&["upgrade", NAME, CHART, "--reset-values"]);

    helm(&["uninstall", NAME]);
    let kinds = "deployment,serviceaccount,role,clusterrole,clusterrolebinding,validatingadmissionpolicy,networkpolicy";
    let left = kube.run(&["get", kinds, "-A", "-o", "name"]).expect("kubectl lists");
    let left: Vec<_> = left.lines().filter(|name| name.contains("fedora")).collect();
    assert_eq!(left, Vec::<&str>::new(), "everything else is removed");
    assert_eq!(uid(), stored, "the removal keeps the message");

    helm(&["install", NAME, CHART]);
    assert_eq!(uid(), stored, "the next installation keeps the message");
}

/// An installation by kustomize becomes a release of Helm.
#[test]
fn release_takes_over_from_kustomize() {
    let kube = &Kube::start().expect("an API server of its own");
    let overlay = project("manifests/overlays/cluster-wide");
    kube.run(&["apply", "--server-side", "-k", path(&overlay)]).expect("it is installed");
    let install = ["install", NAME, CHART, "--namespace", NAME, "--set", OTHER_IMAGE];
    let error = helm(kube, &install).expect_err("they are not Helm's");
    assert!(error.contains("invalid ownership metadata"), "{error}");
    helm(kube, &[&install[..], &["--take-ownership", "--force-conflicts"]].concat()).expect("it takes them over");
    let image = ["-n", NAME, "get", "deployment", NAME, "-o", "jsonpath={.spec.template.spec.containers[0].image}"];
    let image = kube.run(&image).expect("the Deployment is there");
    assert_eq!(image, format!("example.org/operator:{}", fedora_message_operator::VERSION));
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
