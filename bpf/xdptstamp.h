/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF program and user space share. `xdptstamp/program.py` mirrors it; a test compiles
 * this file and compares every size, offset and number.
 */
#ifndef XDPTSTAMP_H
#define XDPTSTAMP_H

#include <linux/types.h>

#define XDPTSTAMP_META_VERSION 0x78740001 /* "xt", layout 1 */

/* Bits of xdptstamp_rx_meta.valid. */
#define XDPTSTAMP_VALID_RX_HW 1
#define XDPTSTAMP_VALID_HASH 2
#define XDPTSTAMP_VALID_VLAN 4
#define XDPTSTAMP_VALID_REPLY 8 /* the packet is its own reply, the request in tx_room */

/*
 * Room that a reply sent from the same frame needs ahead of the packet: the kernel's Tx metadata
 * (24 bytes) and a VLAN tag that the NIC had stripped. It keeps what stands before it readable
 * until the completion, so that a reply needs no copy.
 */
#define XDPTSTAMP_TX_ROOM 32

/* What a request for a stamp consists of; the same as in txmd.py. */
#define XDPTSTAMP_TX_METADATA_LEN 24
#define XDPTSTAMP_SENTINEL 0xffffffff00000000ULL

/* Stored ahead of each redirected packet. Offsets count from the start of the packet. */
struct xdptstamp_rx_meta {
	__u32 version;
	__u16 l3_offset;
	__u16 l4_offset;
	__u64 rx_hw_ns;  /* PHC */
	__u64 rx_xdp_ns; /* CLOCK_TAI */
	__u32 hash;
	__u32 hash_type;
	__u16 vlan_proto; /* host byte order */
	__u16 vlan_tci;
	__s16 rx_hw_errno; /* 0 or a negative errno of the kfunc */
	__s16 hash_errno;
	__s16 vlan_errno;
	__u8 valid;
	__u8 ip_version;
	__u16 udp_csum; /* the right one, as it lies in the packet; also right for the reply */
	__u16 reserved;
	__u8 tx_room[XDPTSTAMP_TX_ROOM];
};

/* Every packet the program sees is counted once. */
enum xdptstamp_counter {
	XDPTSTAMP_REDIRECTED,
	XDPTSTAMP_PASSED_OTHER,     /* not UDP to our port and our MAC address */
	XDPTSTAMP_PASSED_NO_SOCKET, /* ours, but its queue has no socket */
	XDPTSTAMP_REFUSED_FRAGMENT,
	XDPTSTAMP_REFUSED_IP_OPTIONS, /* or IPv6 extension headers */
	XDPTSTAMP_REFUSED_IP_LENGTH,
	XDPTSTAMP_REFUSED_IP_CSUM,
	XDPTSTAMP_REFUSED_UDP_LENGTH,
	XDPTSTAMP_REFUSED_UDP_CSUM,
	XDPTSTAMP_REFUSED_SOURCE,      /* no address or port that a reply could go to */
	XDPTSTAMP_REFUSED_DESTINATION, /* no address that a reply could come from */
	XDPTSTAMP_REFUSED_NO_ROOM,     /* the driver leaves no room for our metadata */
	XDPTSTAMP_NUM_COUNTERS,
};

/* Constants of one load. */
struct xdptstamp_config {
	__u16 port; /* network byte order */
	__u8 mac[6];
	__u8 is_sink;       /* redirect what parse() takes and do nothing else */
	__u8 makes_replies; /* turn requests around, and ask for their stamps */
	__u8 reply_flags;   /* of the Tx metadata */
	__u8 reserved[5];
};

#endif
