# Runs a node: containerd and the kubelet. It is the first process of its own pid namespace and mount
# namespace. Their end also ends all processes and mounts of both.
#
# Needs: SCRATCH, CGROUP, KUBELET, KUBECONFIG, IMAGES (archives, separated by colons).
set -e
cd "$SCRATCH"

# Mount /sys again, so it shows the devices of this network, and move the control groups into it.
mkdir -p groups sysctl
mount --rbind /sys/fs/cgroup groups
umount -l /sys
mount -t sysfs sysfs /sys
mount --move groups /sys/fs/cgroup

# The kubelet requires some settings of the machine. It reads them from files here, so it changes none.
setting() {
    echo "$2" > "sysctl/$1"
    mount --bind "sysctl/$1" "/proc/sys/${1//.//}"
}
setting vm.overcommit_memory 1
setting vm.panic_on_oom 0
setting kernel.panic 10
setting kernel.panic_on_oops 1
setting kernel.keys.root_maxkeys 1000000
setting kernel.keys.root_maxbytes 25000000

# Hide the fixed paths that they write to with empty folders.
for folder in /run/containerd /run/netns /var/log/containers /var/lib/cni /var/lib/containerd; do
    mkdir -p "$folder"
    mount -t tmpfs -o mode=755 node "$folder"
done

containerd --config containerd.toml > containerd.log 2>&1 &
socket=$SCRATCH/containerd/containerd.sock
for _ in $(seq 300); do
    ctr --address "$socket" version > /dev/null 2>&1 && break
    sleep 0.1
done
IFS=:
for image in $IMAGES; do
    ctr --address "$socket" --namespace k8s.io images import "$image"
done
unset IFS

"$KUBELET" --config kubelet.yaml --kubeconfig "$KUBECONFIG" --root-dir "$SCRATCH/kubelet" --cert-dir "$SCRATCH/kubelet-certs" \
    --hostname-override node --node-ip 10.90.0.1 > kubelet.log 2>&1 &
wait -n
echo "containerd or the kubelet has ended, exit code $?"
exit 1
