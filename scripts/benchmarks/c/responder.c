// SPDX-License-Identifier: GPL-2.0-only
/*
 * What ping-pong does for a packet, and nothing else: take the request, turn it around in its
 * frame, ask for a stamp, send, take the completion, give the frame back. Same BPF program, same
 * socket, same frames, same waiting. It is the limit that ping-pong is held against.
 *
 * responder IFNAME QUEUE poll|spin CHANNEL
 *
 * CHANNEL is an inherited Unix socket: the AF_XDP socket goes out of it, for the map of the BPF
 * program. On SIGTERM the samples are written to stdout, a struct sample each.
 */
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <poll.h>
#include <signal.h>

#include "xdptstamp.h"
#include "xsk.h"

#define RING_SIZE 2048
#define TX_SKB_BUDGET 256
#define RX_BATCH 16
#define REAP_PERIOD_NS 50000
#define MAX_SAMPLES 1000000
#define SENTINEL (0xffffffffULL << 32)

/* ns, all on CLOCK_TAI. */
struct sample {
	int64_t rx_xdp_ns;
	int64_t rx_app_ns;
	int64_t tx_app_ns;
	int64_t tx_sw_ns;
	int64_t tx_comp_ns;
};

static struct sample samples[MAX_SAMPLES], pending[RING_SIZE];
static uint32_t num_samples, num_pending;
static volatile sig_atomic_t is_stopped;

static void stop(int number)
{
	(void)number;
	is_stopped = 1;
}

#define SWAP(a, b)                     \
	do {                           \
		__typeof__(a) tmp = a; \
		a = b;                 \
		b = tmp;               \
	} while (0)

static void turn_around(uint8_t *packet, const struct xdptstamp_rx_meta *meta)
{
	struct udphdr *udp = (struct udphdr *)(packet + meta->l4_offset);
	uint8_t mac[ETH_ALEN];

	memcpy(mac, packet, ETH_ALEN);
	memcpy(packet, packet + ETH_ALEN, ETH_ALEN);
	memcpy(packet + ETH_ALEN, mac, ETH_ALEN);
	if (meta->ip_version == 4) {
		struct iphdr *ip = (struct iphdr *)(packet + meta->l3_offset);

		SWAP(ip->saddr, ip->daddr);
	} else {
		struct ipv6hdr *ip = (struct ipv6hdr *)(packet + meta->l3_offset);

		SWAP(ip->saddr, ip->daddr);
	}
	SWAP(udp->source, udp->dest);
	udp->check = meta->udp_csum;
}

static void prepare_reply(struct xsk *xsk, const struct xdp_desc *request, uint64_t rx_app_ns)
{
	uint8_t *packet = xsk->umem + request->addr;
	struct xdptstamp_rx_meta *meta = (struct xdptstamp_rx_meta *)packet - 1;
	struct xsk_tx_metadata *tx_meta = (struct xsk_tx_metadata *)(packet - TX_METADATA_LEN);

	if (meta->version != XDPTSTAMP_META_VERSION || meta->valid & XDPTSTAMP_VALID_VLAN) {
		fprintf(stderr, "responder: a packet that this benchmark does not send\n");
		exit(1);
	}
	turn_around(packet, meta);
	tx_meta->flags = XDP_TXMD_FLAGS_TIMESTAMP;
	tx_meta->stamp = SENTINEL;
	pending[request->addr / FRAME_SIZE] = (struct sample){
		.rx_xdp_ns = meta->rx_xdp_ns,
		.rx_app_ns = rx_app_ns,
	};
}

static void kick(struct xsk *xsk)
{
	int error;

	if (!ring_needs_wakeup(&xsk->tx))
		return;
	do {
		error = xsk_kick(xsk);
	} while (error == EAGAIN);
	if (error) {
		errno = error;
		die("sendto");
	}
}

static uint32_t serve(struct xsk *xsk)
{
	uint32_t first = xsk->tx.position, count = ring_available(&xsk->rx);
	uint64_t now_ns;

	if (!count)
		return 0;
	if (count > RX_BATCH)
		count = RX_BATCH;
	now_ns = clock_ns(CLOCK_TAI);
	for (uint32_t i = 0; i < count; i++) {
		struct xdp_desc *request = ring_desc(&xsk->rx, xsk->rx.position + i);
		struct xdp_desc *reply = ring_desc(&xsk->tx, first + i);

		prepare_reply(xsk, request, now_ns);
		reply->addr = request->addr;
		reply->len = request->len;
		reply->options = XDP_TX_METADATA;
	}
	ring_release(&xsk->rx, count);
	now_ns = clock_ns(CLOCK_TAI);
	ring_submit(&xsk->tx, count);
	num_pending += count;
	kick(xsk);
	for (uint32_t i = 0; i < count; i++)
		pending[ring_desc(&xsk->tx, first + i)->addr / FRAME_SIZE].tx_app_ns = now_ns;
	return count;
}

static void note(struct xsk *xsk, uint64_t addr, uint64_t now_ns)
{
	struct xsk_tx_metadata *tx_meta = (void *)(xsk->umem + addr - TX_METADATA_LEN);
	struct sample *sample = &pending[addr / FRAME_SIZE];

	sample->tx_comp_ns = now_ns;
	if (tx_meta->stamp < SENTINEL)
		sample->tx_sw_ns = tx_meta->stamp;
	if (num_samples < MAX_SAMPLES)
		samples[num_samples++] = *sample;
}

static uint32_t reap(struct xsk *xsk)
{
	uint32_t count = ring_available(&xsk->comp);
	uint64_t now_ns;

	if (!count)
		return 0;
	now_ns = clock_ns(CLOCK_TAI);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t addr = *ring_addr(&xsk->comp, xsk->comp.position + i);

		note(xsk, addr, now_ns);
		*ring_addr(&xsk->fill, xsk->fill.position + i) = addr & ~(FRAME_SIZE - 1ULL);
	}
	ring_release(&xsk->comp, count);
	ring_submit(&xsk->fill, count); /* in copy mode this ring never asks for a wakeup */
	num_pending -= count;
	return count;
}

static void respond(struct xsk *xsk, int is_spinning)
{
	const struct timespec reap_period = { .tv_nsec = REAP_PERIOD_NS };
	struct pollfd readable = { .fd = xsk->fd, .events = POLLIN };
	sigset_t blocked, before;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	if (!is_spinning)
		sigprocmask(SIG_BLOCK, &blocked, &before); /* ppoll() alone is interrupted */
	while (!is_stopped) {
		uint32_t work = serve(xsk);

		work += reap(xsk);
		if (!work && !is_spinning)
			ppoll(&readable, 1, num_pending ? &reap_period : NULL, &before);
	}
}

static void hand_over(int channel, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = { 0 }, byte = 0;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (sendmsg(channel, &message, 0) < 0)
		die("sendmsg");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = stop };
	struct xsk xsk;

	if (argc != 5) {
		fprintf(stderr, "usage: responder IFNAME QUEUE poll|spin CHANNEL\n");
		return 2;
	}
	memset(samples, 1, sizeof(samples)); /* page faults now, not later */
	memset(pending, 0, sizeof(pending));
	sigaction(SIGTERM, &action, NULL);
	xsk_open(&xsk, argv[1], strtoul(argv[2], NULL, 10), RING_SIZE, TX_SKB_BUDGET);
	for (uint32_t i = 0; i < RING_SIZE; i++)
		*ring_addr(&xsk.fill, i) = (uint64_t)i * FRAME_SIZE;
	ring_submit(&xsk.fill, RING_SIZE);
	hand_over(atoi(argv[4]), xsk.fd);

	respond(&xsk, !strcmp(argv[3], "spin"));
	if (fwrite(samples, sizeof(*samples), num_samples, stdout) != num_samples || fflush(stdout))
		die("stdout");
	return 0;
}
