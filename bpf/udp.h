/* SPDX-License-Identifier: GPL-2.0-only */
/* The UDP header and checksum of a request, and what a reply needs of them. */
#ifndef XDPTSTAMP_UDP_H
#define XDPTSTAMP_UDP_H

#include "parse.h"

#define MAX_UDP_LEN 3840 /* what one frame of 4096 bytes could hold */
#define MAX_OFFSET 4095
#define CHUNK_LEN 32
#define REPLY_TTL 64

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
	udp_len = ntohs_bounded(udp->len);
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

/*
 * The reply is a packet of its own and lives as long as any other. The request's time to live says
 * how far that has come, and may be 0 by now.
 */
static __always_inline void renew_ttl(struct xdp_md *ctx, const struct parsed *packet)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	__u32 offset = packet->l3_offset;
	struct ipv6hdr *ip6 = data + offset;
	struct iphdr *ip4 = data + offset;
	__u16 *word, before;

	if (offset > MAX_OFFSET)
		return;
	if (packet->ip_version == 6) {
		if ((void *)(ip6 + 1) <= data_end)
			ip6->hop_limit = REPLY_TTL;
		return;
	}
	if ((void *)(ip4 + 1) > data_end)
		return;
	word = (__u16 *)ip4 + offsetof(struct iphdr, ttl) / 2;
	before = *word;
	ip4->ttl = REPLY_TTL;
	ip4->check = ~fold((__u64)(__u16)~ip4->check + (__u16)~before + *word); /* RFC 1624 */
}

static __always_inline void swap16(__u16 *one, __u16 *other)
{
	__u16 kept = *one;

	*one = *other;
	*other = kept;
}

static __always_inline void swap_words(__u32 *one, __u32 *other, int num_words)
{
	for (int i = 0; i < num_words; i++) {
		__u32 kept = one[i];

		one[i] = other[i];
		other[i] = kept;
	}
}

/*
 * Swap MAC addresses, IP addresses and ports: a request becomes its reply, and a reply the request
 * again. csum is right for both, for a sum does not care about the order.
 */
static __always_inline void turn_around(struct xdp_md *ctx, const struct parsed *packet, __u16 csum)
{
	__u32 l3_offset = packet->l3_offset, l4_offset = packet->l4_offset;
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct ipv6hdr *ip6;
	struct udphdr *udp;
	struct iphdr *ip4;

	if (l3_offset > MAX_OFFSET || l4_offset > MAX_OFFSET || (void *)(eth + 1) > data_end)
		return;
	ip4 = data + l3_offset;
	ip6 = data + l3_offset;
	if (packet->ip_version == 6) {
		if ((void *)(ip6 + 1) > data_end)
			return;
		swap_words((__u32 *)&ip6->saddr, (__u32 *)&ip6->daddr, 4);
	} else {
		if ((void *)(ip4 + 1) > data_end)
			return;
		swap_words(&ip4->saddr, &ip4->daddr, 1);
	}
	udp = data + l4_offset;
	if ((void *)(udp + 1) > data_end)
		return;
	swap16(&udp->source, &udp->dest);
	udp->check = csum;
	for (int i = 0; i < ETH_ALEN / 2; i++)
		swap16((__u16 *)eth->h_dest + i, (__u16 *)eth->h_source + i);
}

#endif
