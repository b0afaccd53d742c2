// SPDX-License-Identifier: GPL-2.0-only
/*
 * UDP to one port goes to the AF_XDP socket of its queue, everything else to the stack,
 * untouched. A packet that could not be answered rightly is refused here: counted by its reason
 * and left to the stack as well.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "xdptstamp.h"

#define MAX_VLAN_TAGS 2
#define MAX_EXTENSION_HEADERS 4
#define MAX_UDP_LEN 3840 /* what one frame of 4096 bytes could hold */
#define MAX_OFFSET 4095
#define CHUNK_LEN 32
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */

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

struct vlan_hdr {
	__be16 tci;
	__be16 proto;
};

struct extension_hdr {
	__u8 nexthdr;
	__u8 len; /* in units of 8 bytes, without the first */
	__be16 frag_off;
	__u32 rest;
};

/* What the headers say of a packet that is ours. */
struct parsed {
	__u32 l3_offset;
	__u32 l4_offset;
	__u32 ip_payload_len; /* as the IP header has it */
	__u64 pseudo_sum;
	__u8 ip_version;
};

#define OURS (-1)

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_words(const __u32 *word, int num_words)
{
	__u64 sum = 0;

	for (int i = 0; i < num_words; i++)
		sum += word[i];
	return sum;
}

static __always_inline int is_unicast_ipv4(__be32 addr)
{
	__u32 host = bpf_ntohl(addr);

	return (host >> 24) != 0 && (host >> 24) != 127 && (host >> 28) < 0xe;
}

static __always_inline int is_unicast_ipv6(const __u32 *addr)
{
	const __u8 *byte = (const __u8 *)addr;

	if (byte[0] == 0xff)
		return 0;
	/* neither :: nor ::1 */
	return addr[0] || addr[1] || addr[2] || bpf_ntohl(addr[3]) > 1;
}

/*
 * Find the UDP header behind IPv4. OURS: filled in; else what to count. Refusals come only after
 * the port is known to be ours: what is not ours is nobody's business here.
 */
static __always_inline int parse_ipv4(void *data, void *data_end, __u32 offset,
				      struct parsed *packet)
{
	struct iphdr *ip = data + offset;
	__u32 header_len, total_len;
	struct udphdr *udp;

	if ((void *)(ip + 1) > data_end || ip->version != 4)
		return XDPTSTAMP_PASSED_OTHER;
	header_len = ip->ihl * 4;
	if (header_len < sizeof(*ip) || ip->protocol != IPPROTO_UDP)
		return XDPTSTAMP_PASSED_OTHER;
	if (ip->frag_off & bpf_htons(0x1fff))
		return XDPTSTAMP_PASSED_OTHER; /* a later fragment: no port to see */
	udp = (void *)ip + header_len;
	if ((void *)(udp + 1) > data_end || udp->dest != config.port)
		return XDPTSTAMP_PASSED_OTHER;

	if (ip->frag_off & bpf_htons(IP_FRAGMENT))
		return XDPTSTAMP_REFUSED_FRAGMENT;
	if (header_len != sizeof(*ip))
		return XDPTSTAMP_REFUSED_IP_OPTIONS;
	total_len = bpf_ntohs(ip->tot_len);
	if (total_len < sizeof(*ip) || (void *)ip + total_len > data_end)
		return XDPTSTAMP_REFUSED_IP_LENGTH;
	if (fold(sum_words((__u32 *)ip, sizeof(*ip) / 4)) != 0xffff)
		return XDPTSTAMP_REFUSED_IP_CSUM;
	if (!is_unicast_ipv4(ip->saddr) || ip->saddr == ip->daddr)
		return XDPTSTAMP_REFUSED_SOURCE;
	if (!is_unicast_ipv4(ip->daddr))
		return XDPTSTAMP_REFUSED_DESTINATION;

	packet->ip_version = 4;
	packet->l4_offset = offset + sizeof(*ip);
	packet->ip_payload_len = total_len - sizeof(*ip);
	packet->pseudo_sum = (__u64)ip->saddr + ip->daddr;
	return OURS;
}

/* The same behind IPv6. Extension headers are walked only to tell whether the packet is ours. */
static __always_inline int parse_ipv6(void *data, void *data_end, __u32 offset,
				      struct parsed *packet)
{
	struct ipv6hdr *ip = data + offset;
	__u32 l4_offset = offset + sizeof(*ip);
	int num_extensions = 0, is_fragment = 0;
	const __u32 *source, *destination;
	struct udphdr *udp;
	__u8 nexthdr;

	if ((void *)(ip + 1) > data_end || ip->version != 6)
		return XDPTSTAMP_PASSED_OTHER;
	nexthdr = ip->nexthdr;
	for (int i = 0; i < MAX_EXTENSION_HEADERS && nexthdr != IPPROTO_UDP; i++) {
		struct extension_hdr *extension = data + l4_offset;

		if (nexthdr != IPPROTO_HOPOPTS && nexthdr != IPPROTO_ROUTING &&
		    nexthdr != IPPROTO_FRAGMENT && nexthdr != IPPROTO_DSTOPTS)
			return XDPTSTAMP_PASSED_OTHER;
		if ((void *)(extension + 1) > data_end)
			return XDPTSTAMP_PASSED_OTHER;
		if (nexthdr == IPPROTO_FRAGMENT) {
			if (extension->frag_off & bpf_htons(0xfff8))
				return XDPTSTAMP_PASSED_OTHER;
			is_fragment = 1;
			l4_offset += sizeof(*extension);
		} else {
			l4_offset += (extension->len + 1) * 8;
		}
		nexthdr = extension->nexthdr;
		num_extensions++;
	}
	udp = data + l4_offset;
	if (nexthdr != IPPROTO_UDP || (void *)(udp + 1) > data_end || udp->dest != config.port)
		return XDPTSTAMP_PASSED_OTHER;

	if (is_fragment)
		return XDPTSTAMP_REFUSED_FRAGMENT;
	if (num_extensions)
		return XDPTSTAMP_REFUSED_IP_OPTIONS;
	packet->ip_payload_len = bpf_ntohs(ip->payload_len);
	if ((void *)(ip + 1) + packet->ip_payload_len > data_end)
		return XDPTSTAMP_REFUSED_IP_LENGTH;
	source = (__u32 *)ip + offsetof(struct ipv6hdr, saddr) / 4;
	destination = (__u32 *)ip + offsetof(struct ipv6hdr, daddr) / 4;
	if (!is_unicast_ipv6(source))
		return XDPTSTAMP_REFUSED_SOURCE;
	if (source[0] == destination[0] && source[1] == destination[1] &&
	    source[2] == destination[2] && source[3] == destination[3])
		return XDPTSTAMP_REFUSED_SOURCE;
	if (!is_unicast_ipv6(destination))
		return XDPTSTAMP_REFUSED_DESTINATION;

	packet->ip_version = 6;
	packet->l4_offset = l4_offset;
	packet->pseudo_sum = sum_words(source, 8); /* both addresses */
	return OURS;
}

static __always_inline int parse(void *data, void *data_end, struct parsed *packet)
{
	struct ethhdr *eth = data;
	__u32 offset = sizeof(*eth);
	__be16 proto;

	if ((void *)(eth + 1) > data_end)
		return XDPTSTAMP_PASSED_OTHER;
	/* Behind a promiscuous port others' packets are seen: never answer in their name. */
	for (int i = 0; i < ETH_ALEN; i++)
		if (eth->h_dest[i] != config.mac[i])
			return XDPTSTAMP_PASSED_OTHER;
	proto = eth->h_proto;
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_hdr *vlan = data + offset;

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > data_end)
			return XDPTSTAMP_PASSED_OTHER;
		proto = vlan->proto;
		offset += sizeof(*vlan);
	}
	packet->l3_offset = offset;
	if (proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(data, data_end, offset, packet);
	if (proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(data, data_end, offset, packet);
	return XDPTSTAMP_PASSED_OTHER;
}

/* A walk over the packet's bytes from offset to end, adding them up. */
struct walk {
	struct xdp_md *ctx;
	__u32 offset;
	__u32 end;
	__u64 sum;
};

/*
 * Callbacks of bpf_loop(), which the verifier looks at once: an ordinary loop over a packet of
 * unknown length would make it look at every length there is.
 */
static long sum_chunk(__u32 index, struct walk *walk)
{
	void *data_end = (void *)(long)walk->ctx->data_end;
	__u32 offset = walk->offset, *word;

	if (offset > MAX_OFFSET || offset + CHUNK_LEN > walk->end)
		return 1;
	word = (void *)(long)walk->ctx->data + offset;
	if ((void *)word + CHUNK_LEN > data_end)
		return 1;
	walk->sum += sum_words(word, CHUNK_LEN / 4);
	walk->offset = offset + CHUNK_LEN;
	return 0;
}

static long sum_byte(__u32 index, struct walk *walk)
{
	void *data_end = (void *)(long)walk->ctx->data_end;
	__u32 offset = walk->offset;
	__u8 *byte;

	if (offset > MAX_OFFSET || offset >= walk->end)
		return 1;
	byte = (void *)(long)walk->ctx->data + offset;
	if ((void *)(byte + 1) > data_end)
		return 1;
	/* The chunks before were whole words, so index alone says which half of a word this is. */
	walk->sum += bpf_htons(index & 1 ? *byte : *byte << 8);
	walk->offset = offset + 1;
	return 0;
}

/*
 * Check the UDP header and put the right checksum into *csum. The reply swaps addresses and ports,
 * which leaves the sum as it is, so the request's right checksum is the reply's as well.
 *
 * A sender on a veth leaves a partial checksum (the sum of the pseudo header alone) to a NIC that
 * does not exist: accepted. Over IPv4 none at all is allowed (RFC 768); over IPv6 not (RFC 8200).
 */
static __always_inline int check_udp(struct xdp_md *ctx, struct parsed *packet, __u16 *csum)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct udphdr *udp = data + packet->l4_offset;
	struct walk walk = { .ctx = ctx, .offset = packet->l4_offset };
	struct ethhdr *eth = data;
	__u16 found, partial;
	__u32 udp_len;

	if (packet->l4_offset > MAX_OFFSET || (void *)(udp + 1) > data_end ||
	    (void *)(eth + 1) > data_end)
		return XDPTSTAMP_REFUSED_UDP_LENGTH;
	udp_len = bpf_ntohs(udp->len);
	if (udp_len < sizeof(*udp) || udp_len != packet->ip_payload_len || udp_len > MAX_UDP_LEN)
		return XDPTSTAMP_REFUSED_UDP_LENGTH;
	if (!udp->source || (eth->h_source[0] & 1))
		return XDPTSTAMP_REFUSED_SOURCE;

	walk.sum = packet->pseudo_sum + udp->len + bpf_htons(IPPROTO_UDP);
	partial = fold(walk.sum);
	found = udp->check;
	walk.end = walk.offset + udp_len;
	bpf_loop(MAX_UDP_LEN / CHUNK_LEN, sum_chunk, &walk, 0);
	bpf_loop(CHUNK_LEN, sum_byte, &walk, 0);
	if (walk.offset != walk.end)
		return XDPTSTAMP_REFUSED_UDP_LENGTH;
	walk.sum += (__u16)~found; /* take the field's own value out of the sum again */
	*csum = ~fold(walk.sum);
	if (!*csum)
		*csum = 0xffff; /* 0 would say "no checksum" */

	if (found == *csum || found == partial)
		return OURS;
	if (!found && packet->ip_version == 4)
		return OURS;
	return XDPTSTAMP_REFUSED_UDP_CSUM;
}

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

static __always_inline int classify(struct xdp_md *ctx, int with_hints)
{
	struct xdptstamp_rx_meta *out, meta = { .version = XDPTSTAMP_META_VERSION };
	__u32 queue_id = ctx->rx_queue_index;
	struct parsed packet = {};
	__u16 csum = 0;
	int found;

	meta.rx_xdp_ns = bpf_ktime_get_tai_ns();
	found = parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &packet);
	if (found == OURS)
		found = check_udp(ctx, &packet, &csum);
	if (found != OURS)
		return found;
	if (!bpf_map_lookup_elem(&xsks_map, &queue_id))
		return XDPTSTAMP_PASSED_NO_SOCKET;

	meta.l3_offset = packet.l3_offset;
	meta.l4_offset = packet.l4_offset;
	meta.ip_version = packet.ip_version;
	meta.udp_csum = csum;
	if (with_hints)
		read_hints(ctx, &meta);
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(meta)))
		return XDPTSTAMP_REFUSED_NO_ROOM;
	out = (void *)(long)ctx->data_meta;
	if ((void *)(out + 1) > (void *)(long)ctx->data)
		return XDPTSTAMP_REFUSED_NO_ROOM;
	__builtin_memcpy(out, &meta, sizeof(meta));
	return XDPTSTAMP_REDIRECTED;
}

static __always_inline int handle(struct xdp_md *ctx, int with_hints)
{
	__u32 counter = classify(ctx, with_hints);
	__u64 *count = bpf_map_lookup_elem(&counters, &counter);

	if (count)
		(*count)++;
	if (counter != XDPTSTAMP_REDIRECTED)
		return XDP_PASS;
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
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
