//! Tests that a node runs real Pods and cleans up.

use std::{fs, process::Command, time::Duration};

use rig::{Cluster, wait_until};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: hello
      image: localhost/fedora-messaging:3.9.1
      imagePullPolicy: Never
      args: [--help]
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
";

/// Returns the state of the machine that a node must not change.
fn machine() -> [String; 4] {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mounts = fs::read_to_string("/proc/self/mounts").expect("there are mounts");
    let groups = run("find", &["/sys/fs/cgroup", "-type", "d", "-name", "node-*"]);
    let settings = ["vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops", "net.ipv4.ip_forward"];
    let settings = settings.map(|name| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap());
    [mounts, groups, settings.concat(), run("ip", &["-o", "-br", "address"])]
}

#[test]
fn runs_pod_and_cleans_up() {
    let before = machine();
    // Use another thread, so this one does not enter the cluster's network.
    let run = || {
        let cluster = Cluster::start().expect("the node is ready");
        cluster.kube.run(&["label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
        cluster.kube.apply_text(POD).expect("the pod is accepted");
        let phase = || cluster.kube.run(&["get", "pod", "hello", "-o", "jsonpath={.status.phase}"]).unwrap();
        wait_until(Duration::from_mins(1), "the pod has ended", || phase() == "Succeeded")
            .unwrap_or_else(|error| panic!("{error}\n{}", cluster.kube.run(&["describe", "pod", "hello"]).unwrap()));
        let log = cluster.kube.run(&["logs", "hello"]).expect("the kubelet shows the log");
        assert!(log.contains("publish"), "{log}");
        cluster.node().scratch().to_owned()
    };
    let scratch = std::thread::scope(|scope| scope.spawn(run).join().expect("the cluster's thread ends well"));
    assert!(!scratch.exists(), "{}", scratch.display());
    assert_eq!(before, machine());
}
