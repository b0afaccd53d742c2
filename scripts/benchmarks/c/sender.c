// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fastest sender that is worth writing: one packet in every frame, each frame at its own place
 * in the Tx ring, and nothing done but to submit, to wake the kernel and to count completions. No
 * stamps are asked for. It is the limit that sending engines are held against.
 *
 * sender IFNAME QUEUE SECONDS RING_SIZE BATCH BUDGET PACKET
 *
 * PACKET is its bytes in hex, from the Ethernet header on, without FCS. BATCH packets are
 * submitted together, BUDGET (0: the kernel's 32) goes out with one call. Prints one JSON line;
 * ns is from the first submit to the last completion.
 */
#include <sys/resource.h>

#include "xsk.h"

#define DRAIN_LIMIT_NS 1000000000ULL

struct counts {
	uint64_t sent;
	uint64_t completed;
	uint64_t dropped; /* EBUSY, ENETDOWN: taken by the kernel and not sent, yet completed */
};

static size_t parse_hex(const char *hex, uint8_t *bytes, size_t limit)
{
	size_t length = strlen(hex) / 2;

	if (length > limit || strlen(hex) % 2)
		return 0;
	for (size_t i = 0; i < length; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &bytes[i]) != 1)
			return 0;
	return length;
}

/* Frames, addresses and lengths are written here once; the loop only moves positions. */
static void fill_frames(struct xsk *xsk, const uint8_t *packet, size_t length)
{
	for (uint32_t i = 0; i < xsk->tx.size; i++) {
		uint64_t addr = (uint64_t)i * FRAME_SIZE + TX_METADATA_LEN;
		struct xdp_desc *desc = ring_desc(&xsk->tx, i);

		memcpy(xsk->umem + addr, packet, length);
		desc->addr = addr;
		desc->len = length;
		desc->options = 0;
	}
}

static void reap(struct xsk *xsk, struct counts *counts)
{
	uint32_t count = ring_available(&xsk->comp);

	if (!count)
		return;
	ring_release(&xsk->comp, count);
	counts->completed += count;
}

static void kick(struct xsk *xsk, struct counts *counts)
{
	int error;

	if (!ring_waiting(&xsk->tx) || !ring_needs_wakeup(&xsk->tx))
		return;
	error = xsk_kick(xsk);
	/* EAGAIN: the call's share is sent. ENOBUFS: no memory for now. Both: call again later. */
	if (error == EBUSY || error == ENETDOWN) {
		counts->dropped++;
	} else if (error && error != EAGAIN && error != ENOBUFS) {
		errno = error;
		die("sendto");
	}
}

static void send_until(struct xsk *xsk, struct counts *counts, uint64_t end_ns, uint32_t batch)
{
	uint32_t room;

	while (clock_ns(CLOCK_MONOTONIC) < end_ns) {
		room = xsk->tx.size - (uint32_t)(counts->sent - counts->completed);
		if (room >= batch) {
			ring_submit(&xsk->tx, batch);
			counts->sent += batch;
		}
		kick(xsk, counts);
		reap(xsk, counts);
	}
}

static void drain(struct xsk *xsk, struct counts *counts)
{
	uint64_t end_ns = clock_ns(CLOCK_MONOTONIC) + DRAIN_LIMIT_NS;

	while (counts->completed < counts->sent && clock_ns(CLOCK_MONOTONIC) < end_ns) {
		kick(xsk, counts);
		reap(xsk, counts);
	}
}

static uint64_t time_ns(const struct timeval *after, const struct timeval *before)
{
	int64_t us = (after->tv_sec - before->tv_sec) * 1000000LL;

	return (us + after->tv_usec - before->tv_usec) * 1000;
}

int main(int argc, char **argv)
{
	struct rusage before, after;
	struct counts counts = { 0 };
	uint8_t packet[FRAME_SIZE];
	uint32_t ring_size, batch;
	struct xsk xsk;
	uint64_t start_ns, ns;
	size_t length;

	if (argc != 8) {
		fprintf(stderr,
			"usage: sender IFNAME QUEUE SECONDS RING_SIZE BATCH BUDGET PACKET\n");
		return 2;
	}
	ring_size = strtoul(argv[4], NULL, 10);
	batch = strtoul(argv[5], NULL, 10);
	length = parse_hex(argv[7], packet, FRAME_SIZE - TX_METADATA_LEN);
	if (!length || !batch || batch > ring_size) {
		fprintf(stderr, "sender: no such packet, or BATCH is not 1 to RING_SIZE\n");
		return 2;
	}
	xsk_open(&xsk, argv[1], strtoul(argv[2], NULL, 10), ring_size, strtoul(argv[6], NULL, 10));
	fill_frames(&xsk, packet, length);

	getrusage(RUSAGE_SELF, &before);
	start_ns = clock_ns(CLOCK_MONOTONIC);
	send_until(&xsk, &counts, start_ns + (uint64_t)(atof(argv[3]) * 1e9), batch);
	drain(&xsk, &counts);
	ns = clock_ns(CLOCK_MONOTONIC) - start_ns;
	getrusage(RUSAGE_SELF, &after);

	printf("{\"sent\": %llu, \"completed\": %llu, \"dropped\": %llu, \"ns\": %llu, "
	       "\"user_ns\": %llu, \"system_ns\": %llu}\n",
	       (unsigned long long)counts.sent, (unsigned long long)counts.completed,
	       (unsigned long long)counts.dropped, (unsigned long long)ns,
	       (unsigned long long)time_ns(&after.ru_utime, &before.ru_utime),
	       (unsigned long long)time_ns(&after.ru_stime, &before.ru_stime));
	return 0;
}
