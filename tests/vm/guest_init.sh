#!/bin/bash
# Pid 1 of the machine: turns the read-only copy of the host's root into a place where tests can run, then
# starts the agent and powers off. What is where:
#   /            the host's root, read-only over 9p, shared propagation as systemd makes it
#   /run/vm      9p, read-write: jobs come in here, their output and status go out
#   /tmp /root /home /var/tmp /var/lib/pyminicon     fresh directories on an ext4 disk that is thrown away
#   /etc /var/lib     overlays, so that users can be added and state kept
#   TREE and the interpreter     at their own paths again, also below what was covered; TREE is an overlay
#   /sys/fs/cgroup               cgroup v2, unified, with the options systemd uses
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
fail() { echo "vm: $*" >/dev/console; poweroff_now; }
poweroff_now() { sync; echo o >/proc/sysrq-trigger; sleep 60; }

mount -t proc -o nosuid,nodev,noexec proc /proc || poweroff_now
exec </dev/null >/dev/console 2>&1
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mkdir -p /run/vm /run/host /run/scratch /run/lock /run/user /dev/pts /dev/shm /dev/mqueue
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none,access=any vm /run/vm || fail "no job directory"
# shellcheck source=/dev/null
. /run/vm/settings

mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs /dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue
ln -sf /proc/self/fd /dev/fd; ln -sf fd/0 /dev/stdin; ln -sf fd/1 /dev/stdout; ln -sf fd/2 /dev/stderr

mount --bind / /run/host
# The modules lie in the cache, not in /lib/modules: say so to the kernel, which loads the rest on demand.
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/kernel "$@"\n' >/run/modprobe
chmod 755 /run/modprobe
mkdir /run/kernel && mount --bind "/run/host$KERNEL_BASE" /run/kernel
echo /run/modprobe >/proc/sys/kernel/modprobe
for module in virtio_blk ext4 overlay fuse tun; do /run/modprobe -q "$module"; done
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; sleep 0.2; done
mount -t ext4 -o noatime /dev/vda /run/scratch || fail "no scratch disk"

mkdir -p /run/scratch/{tmp,root,home,vartmp,pyminicon,etc,etc.work,lib,lib.work,tree,tree.work}
chmod 1777 /run/scratch/tmp /run/scratch/vartmp; chmod 755 /run/scratch/root
mount --bind /run/scratch/tmp /tmp
mount --bind /run/scratch/root /root
mount --bind /run/scratch/home /home
mount --bind /run/scratch/vartmp /var/tmp
mount -t overlay -o lowerdir=/etc,upperdir=/run/scratch/etc,workdir=/run/scratch/etc.work overlay /etc
mount -t overlay -o lowerdir=/var/lib,upperdir=/run/scratch/lib,workdir=/run/scratch/lib.work overlay /var/lib
# Not part of that overlay, which couldn't carry another overlay's upper layer.
mkdir -p /var/lib/pyminicon && mount --bind /run/scratch/pyminicon /var/lib/pyminicon
for path in "${SHOWN[@]}"; do
    mkdir -p "$path" 2>/dev/null
    mountpoint -q "$path" || mount --bind "/run/host$path" "$path" || fail "can't show $path"
done
mkdir -p "$TREE" 2>/dev/null
mount -t overlay -o "lowerdir=/run/host$TREE,upperdir=/run/scratch/tree,workdir=/run/scratch/tree.work" \
    overlay "$TREE" || fail "can't show $TREE"
umount /run/host
mount --make-rshared /

mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
for controller in cpu cpuset io memory pids; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
echo pyminicon-vm >/proc/sys/kernel/hostname
for setting in "${SYSCTLS[@]}"; do
    name=${setting%%=*}
    printf '%s' "${setting#*=}" >"/proc/sys/${name//.//}" || fail "sysctl $setting was refused"
done
# The host's /etc may have somebody of that name, and of another uid, already.
for file in passwd shadow group gshadow subuid subgid; do
    [ ! -e "/etc/$file" ] || sed -i '/^tester:/d' "/etc/$file"
done
useradd --uid "$TESTER" --create-home --shell /bin/bash tester || fail "can't add the user tester"
# useradd doesn't give ranges to uids outside its own choice on every release: newuidmap wants one.
grep -q '^tester:' /etc/subuid || echo "tester:$((TESTER * 65536)):65536" | tee -a /etc/subuid >>/etc/subgid
install -d -o "$TESTER" -m 700 "/run/user/$TESTER"
cd / && "$PYTHON" -B "$TREE/tests/vm/guest.py" || echo "vm: the agent ended with status $?"
poweroff_now
