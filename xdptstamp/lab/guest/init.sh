#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The first process of the guest, run by busybox from the initramfs. /guest.conf has the settings
# (initramfs.py writes it). What goes wrong is said on the console, where the host looks for it.
#
# It stays where it is and only its child changes the root, so that the kernel's own calls of
# modprobe find busybox and the modules here, whatever the host's root has.

say() {
	echo "xdptstamp-guest: $*"
}

fail() {
	say "failed: $*"
	reboot -f
}

# take_port SLOT NAME...: name the interface of the NIC in that slot of PCI bus 0.
take_port() {
	found=
	# That of a virtio NIC is below its device of the virtio bus.
	for place in "/sys/bus/pci/devices/0000:00:0$1.0"/net/* \
		"/sys/bus/pci/devices/0000:00:0$1.0"/virtio*/net/*; do
		[ ! -d "$place" ] || found=${place##*/}
	done
	[ -n "$found" ] || fail "$DRIVER made no interface of the NIC in slot $1"
	ip link set "$found" name "$2" || fail "cannot rename $found to $2"
}

# start_port SLOT NAME IPV4 IPV6: silent as an end of `lab veth`, no duplicate address detection.
start_port() {
	echo 1 >"/proc/sys/net/ipv6/conf/$2/addr_gen_mode"
	echo 0 >"/proc/sys/net/ipv6/conf/$2/accept_dad"
	ip addr add "$3" dev "$2" && ip addr add "$4" dev "$2" && ip link set "$2" up
}

mount_9p() {
	mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,access=any,$2" "$1" "$3" ||
		fail "cannot mount $1 of the host at $3"
}

# Called below, inside of the namespace that port NAME is to come into.
start_partner() {
	nsenter -t 1 -n ip link set "$2" netns $$ && ip link set lo up && start_port "$@"
}

in_partner() {
	nsenter "--net=/run/netns/$NETNS" sh /init inside "$@"
}

# await_carrier SLOT NAME...
await_carrier() {
	until ip link show "$2" | grep -q LOWER_UP; do
		usleep 10000
	done
}

if [ "${1:-}" = inside ]; then
	shift
	"$@"
	exit
fi

/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
say alive
! grep -q xdptstamp.trial /proc/cmdline || reboot -f
mount -t sysfs sys /sys
. /guest.conf

# Those that maxcpus= held back, before igc counts them for its queues.
for place in /sys/devices/system/cpu/cpu[0-9]*/online; do
	[ ! -e "$place" ] || [ "$(cat "$place")" = 1 ] || echo 1 >"$place" || fail "cannot start $place"
done
for module in $MODULES; do
	insmod "/modules/$module" || fail "cannot load $module"
done
lacks=
{ grep -q 9p /proc/filesystems && [ -d /sys/bus/virtio/drivers/9pnet_virtio ]; } ||
	lacks="$lacks CONFIG_9P_FS CONFIG_NET_9P_VIRTIO"
[ -d /sys/class/virtio-ports ] || lacks="$lacks CONFIG_VIRTIO_CONSOLE"
for need in $NIC_NEEDS; do
	[ -d "${need#*:}" ] || lacks="$lacks ${need%%:*}"
done
[ -e /sys/kernel/btf/vmlinux ] || lacks="$lacks CONFIG_DEBUG_INFO_BTF"
grep -q "^XDP " /proc/net/protocols || lacks="$lacks CONFIG_XDP_SOCKETS"
if [ -n "$lacks" ]; then
	say "lacks:$lacks"
	reboot -f
fi

hostname guest
ip link set lo up
mount -t tmpfs run /run
if [ -n "$PORT_1" ]; then
	mkdir /run/netns
	: >"/run/netns/$NETNS"
	unshare "--net=/run/netns/$NETNS" true || fail "cannot make the link partner's namespace"
fi

start_ports() {
	# shellcheck disable=SC2086 # one word each
	if [ -n "$PORT_0" ]; then
		take_port $PORT_0
		start_port $PORT_0 || fail "cannot start the NIC"
	fi
	# shellcheck disable=SC2086
	if [ -n "$PORT_1" ]; then
		take_port $PORT_1
		in_partner start_partner $PORT_1 || fail "cannot start the link partner's NIC"
	fi
}

await_carriers() {
	# shellcheck disable=SC2086 # one word each
	{
		[ -z "$PORT_0" ] || await_carrier $PORT_0
		[ -z "$PORT_1" ] || in_partner await_carrier $PORT_1
	}
}

mount_all() {
	# The host's root; where programs write, there is a file system of the guest's own over it.
	mount_9p root ro,cache=loose /host
	mount --bind /host /new
	mount --rbind /run /new/run
	mount -t devtmpfs dev /new/dev
	mount -t proc proc /new/proc
	mount -t sysfs sys /new/sys
	# What udev makes elsewhere; a shell's <(command) takes it.
	ln -s /proc/self/fd /new/dev/fd
	ln -s fd/0 /new/dev/stdin
	ln -s fd/1 /new/dev/stdout
	ln -s fd/2 /new/dev/stderr
	mkdir -p /new/dev/pts /new/dev/shm
	mount -t devpts -o ptmxmode=0666 devpts /new/dev/pts
	for place in tmp var/tmp dev/shm; do
		[ ! -d "/new/$place" ] || mount -t tmpfs tmpfs "/new/$place"
	done
	mount -t bpf bpf /new/sys/fs/bpf
	mount -t tracefs tracefs /new/sys/kernel/tracing
	# What lies below one of those and is needed all the same.
	echo "$SHOWN" | while read -r place; do
		[ -n "$place" ] || continue
		mkdir -p "/new$place" && mount --bind "/host$place" "/new$place" || fail "cannot show $place"
	done
	if [ -n "$WRITABLE" ]; then
		mkdir -p "/new$WRITABLE"
		# Nothing is left in a cache: the host sees each write when it is done.
		mount_9p writable cache=mmap "/new$WRITABLE"
	fi
	if [ -n "$MODULES_DIR" ]; then
		mkdir -p "/lib/modules/$(uname -r)"
		mount --bind "/host$MODULES_DIR" "/lib/modules/$(uname -r)"
	fi
}

run_agent() {
	for port in /sys/class/virtio-ports/*; do
		[ "$(cat "$port/name")" = xdptstamp ] && break
	done
	chroot /new "$PYTHON" -I -S "$AGENT" "/dev/${port##*/}" || say "the agent ended: $?"
}

# Both at once. That its stdin ends tells the agent that there are carriers.
{ start_ports && await_carriers; } | { mount_all; run_agent; }
reboot -f
