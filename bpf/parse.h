/* SPDX-License-Identifier: GPL-2.0-only */
/* From the Ethernet header to the UDP header: is this packet ours, and can it be answered? */
#ifndef XDPTSTAMP_PARSE_H
#define XDPTSTAMP_PARSE_H

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
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */

extern const volatile struct xdptstamp_config config;

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
	__u16 udp_csum; /* the right one */
	__u8 ip_version;
};

#define OURS (-1)

/* The verifier of Linux 6.12 knows no bounds of a value whose bytes were swapped. */
static __always_inline __u32 ntohs_bounded(__be16 value)
{
	__u32 host = bpf_ntohs(value);

	asm volatile("" : "+r"(host)); /* else the compiler sees that the mask does nothing */
	return host & 0xffff;
}

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
	if (addr[0] || addr[1])
		return 1;
	/* Neither :: nor ::1, nor an IPv4 address in IPv6's clothes. */
	return addr[2] != bpf_htonl(0xffff) && (addr[2] || bpf_ntohl(addr[3]) > 1);
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
	total_len = ntohs_bounded(ip->tot_len);
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
	packet->ip_payload_len = ntohs_bounded(ip->payload_len);
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

#endif
