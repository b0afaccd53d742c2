// SPDX-License-Identifier: GPL-2.0-only
/*
 * UDP to one port goes to the AF_XDP socket of its queue, everything else to the stack,
 * untouched. A packet that could not be answered rightly is refused here: counted by its reason
 * and left to the stack as well.
 */
#include "udp.h"

enum xdp_rss_hash_type {
	XDP_RSS_TYPE_NONE = 0,
};

/* Weak: kernels without them load the program all the same. */
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym __weak;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash,
				    enum xdp_rss_hash_type *rss_type) __ksym __weak;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *vlan_proto,
					__u16 *vlan_tci) __ksym __weak;

#define ENOSYS_HERE (-38)

const volatile struct xdptstamp_config config = {};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1); /* set to the number of queues at load */
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDPTSTAMP_NUM_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void read_hints(struct xdp_md *ctx, struct xdptstamp_rx_meta *meta)
{
	enum xdp_rss_hash_type hash_type = XDP_RSS_TYPE_NONE;
	int hw_errno = ENOSYS_HERE, hash_errno = ENOSYS_HERE, vlan_errno = ENOSYS_HERE;
	__be16 vlan_proto = 0;
	__u64 rx_hw_ns = 0;
	__u16 vlan_tci = 0;
	__u32 hash = 0;

	if (&bpf_xdp_metadata_rx_timestamp)
		hw_errno = bpf_xdp_metadata_rx_timestamp(ctx, &rx_hw_ns);
	if (&bpf_xdp_metadata_rx_hash)
		hash_errno = bpf_xdp_metadata_rx_hash(ctx, &hash, &hash_type);
	if (&bpf_xdp_metadata_rx_vlan_tag)
		vlan_errno = bpf_xdp_metadata_rx_vlan_tag(ctx, &vlan_proto, &vlan_tci);

	/* veth answers 0 with the time 0 where the packet has none: that is no time. */
	if (!hw_errno && rx_hw_ns) {
		meta->rx_hw_ns = rx_hw_ns;
		meta->valid |= XDPTSTAMP_VALID_RX_HW;
	}
	if (!hash_errno) {
		meta->hash = hash;
		meta->hash_type = hash_type;
		meta->valid |= XDPTSTAMP_VALID_HASH;
	}
	if (!vlan_errno) {
		meta->vlan_proto = bpf_ntohs(vlan_proto);
		meta->vlan_tci = vlan_tci;
		meta->valid |= XDPTSTAMP_VALID_VLAN;
	}
	meta->rx_hw_errno = hw_errno;
	meta->hash_errno = hash_errno;
	meta->vlan_errno = vlan_errno;
}

/* A request for a stamp right ahead of the packet: struct xsk_tx_metadata, see txmd.py. */
static __always_inline void request_stamp(struct xdptstamp_rx_meta *meta)
{
	__u64 *request = (__u64 *)(meta->tx_room + XDPTSTAMP_TX_ROOM - XDPTSTAMP_TX_METADATA_LEN);

	request[0] = config.reply_flags;
	request[1] = XDPTSTAMP_SENTINEL;
	meta->valid |= XDPTSTAMP_VALID_REPLY;
}

static __always_inline int classify(struct xdp_md *ctx, int with_hints, struct parsed *packet)
{
	struct xdptstamp_rx_meta *out, meta = {
		.version = XDPTSTAMP_META_VERSION,
		.rx_hw_errno = ENOSYS_HERE,
		.hash_errno = ENOSYS_HERE,
		.vlan_errno = ENOSYS_HERE,
	};
	__u32 queue_id = ctx->rx_queue_index;
	__u16 csum = 0;
	int found;

	meta.rx_xdp_ns = bpf_ktime_get_tai_ns();
	found = parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, packet);
	if (found == OURS)
		found = check_udp(ctx, packet, &csum);
	if (found != OURS)
		return found;
	if (!bpf_map_lookup_elem(&xsks_map, &queue_id))
		return XDPTSTAMP_PASSED_NO_SOCKET;

	meta.l3_offset = packet->l3_offset;
	meta.l4_offset = packet->l4_offset;
	meta.ip_version = packet->ip_version;
	meta.udp_csum = csum;
	packet->udp_csum = csum;
	if (config.makes_replies)
		request_stamp(&meta);
	if (with_hints)
		read_hints(ctx, &meta);
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(meta)))
		return XDPTSTAMP_REFUSED_NO_ROOM;
	out = (void *)(long)ctx->data_meta;
	if ((void *)(out + 1) > (void *)(long)ctx->data)
		return XDPTSTAMP_REFUSED_NO_ROOM;
	renew_ttl(ctx, packet);
	if (config.makes_replies)
		turn_around(ctx, packet, csum);
	__builtin_memcpy(out, &meta, sizeof(meta));
	return XDPTSTAMP_REDIRECTED;
}

/*
 * For packets that are not answered and say themselves whether they are whole: on a veth this runs
 * on the sender's CPU, and takes its time.
 */
static __always_inline int classify_for_sink(struct xdp_md *ctx, struct parsed *packet)
{
	int found = parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, packet);

	return found == OURS ? XDPTSTAMP_REDIRECTED : found;
}

static __always_inline int handle(struct xdp_md *ctx, int with_hints)
{
	struct parsed packet = {};
	int action = XDP_PASS;
	__u32 counter;
	__u64 *count;

	counter = config.is_sink ? classify_for_sink(ctx, &packet)
				 : classify(ctx, with_hints, &packet);
	if (counter == XDPTSTAMP_REDIRECTED)
		action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
	/* There may be no socket, or it has gone since a moment ago. */
	if (counter == XDPTSTAMP_REDIRECTED && action != XDP_REDIRECT) {
		counter = XDPTSTAMP_PASSED_NO_SOCKET;
		if (config.makes_replies) /* the stack wants the request */
			turn_around(ctx, &packet, packet.udp_csum);
	}
	count = bpf_map_lookup_elem(&counters, &counter);
	if (count)
		(*count)++;
	return action;
}

/* For a program bound to its device: the Rx metadata kfuncs are the driver's own. */
SEC("xdp")
int xdptstamp_hints(struct xdp_md *ctx)
{
	return handle(ctx, 1);
}

/* Where a device-bound program is impossible (skb mode, a dispatcher, a driver without). */
SEC("xdp")
int xdptstamp_plain(struct xdp_md *ctx)
{
	return handle(ctx, 0);
}

char LICENSE[] SEC("license") = "GPL";
