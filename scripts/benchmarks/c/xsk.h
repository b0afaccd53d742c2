/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One AF_XDP socket in copy mode with its four rings, by the kernel's own calls: what the
 * benchmarks' C programs share. Set up as xdptstamp/_sys/xsk.py does it, so that both sides of a
 * comparison ask the kernel for the same.
 *
 * The constants are here, not taken from installed headers: those of Debian 12 lack some.
 */
#ifndef BENCH_XSK_H
#define BENCH_XSK_H

#include <errno.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define XDP_MMAP_OFFSETS 1
#define XDP_RX_RING 2
#define XDP_TX_RING 3
#define XDP_UMEM_REG 4
#define XDP_UMEM_FILL_RING 5
#define XDP_UMEM_COMPLETION_RING 6
#define XDP_MAX_TX_SKB_BUDGET 9

#define XDP_COPY 2
#define XDP_USE_NEED_WAKEUP 8
#define XDP_UMEM_TX_METADATA_LEN 4
#define XDP_RING_NEED_WAKEUP 1

#define XDP_TX_METADATA 2
#define XDP_TXMD_FLAGS_TIMESTAMP 1

#define XDP_PGOFF_RX_RING 0
#define XDP_PGOFF_TX_RING 0x80000000L
#define XDP_UMEM_PGOFF_FILL_RING 0x100000000L
#define XDP_UMEM_PGOFF_COMPLETION_RING 0x180000000L

#define FRAME_SIZE 2048
#define TX_METADATA_LEN 24
#define BIND_PATIENCE_MS 2000

struct xdp_umem_reg {
	uint64_t addr;
	uint64_t len;
	uint32_t chunk_size;
	uint32_t headroom;
	uint32_t flags;
	uint32_t tx_metadata_len;
};

struct sockaddr_xdp {
	uint16_t family;
	uint16_t flags;
	uint32_t ifindex;
	uint32_t queue_id;
	uint32_t shared_umem_fd;
};

struct xdp_ring_offset {
	uint64_t producer;
	uint64_t consumer;
	uint64_t desc;
	uint64_t flags;
};

struct xdp_mmap_offsets {
	struct xdp_ring_offset rx;
	struct xdp_ring_offset tx;
	struct xdp_ring_offset fill;
	struct xdp_ring_offset comp;
};

struct xdp_desc {
	uint64_t addr;
	uint32_t len;
	uint32_t options;
};

struct xsk_tx_metadata {
	uint64_t flags;
	uint64_t stamp;
	uint64_t launch_time;
};

/* position is our own index: of a ring we fill the producer's, of the others the consumer's. */
struct ring {
	_Atomic uint32_t *producer;
	_Atomic uint32_t *consumer;
	_Atomic uint32_t *flags;
	void *entries;
	uint32_t mask;
	uint32_t size;
	uint32_t position;
};

struct xsk {
	int fd;
	uint8_t *umem;
	struct ring rx, tx, fill, comp;
};

static inline void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Entries that the kernel has produced and we have not looked at. */
static inline uint32_t ring_available(const struct ring *ring)
{
	return atomic_load_explicit(ring->producer, memory_order_acquire) - ring->position;
}

/* Entries that we have produced and the kernel has not consumed. */
static inline uint32_t ring_waiting(const struct ring *ring)
{
	return ring->position - atomic_load_explicit(ring->consumer, memory_order_acquire);
}

/* Give count entries, filled or emptied, to the kernel. */
static inline void ring_submit(struct ring *ring, uint32_t count)
{
	ring->position += count;
	atomic_store_explicit(ring->producer, ring->position, memory_order_release);
}

static inline void ring_release(struct ring *ring, uint32_t count)
{
	ring->position += count;
	atomic_store_explicit(ring->consumer, ring->position, memory_order_release);
}

static inline int ring_needs_wakeup(const struct ring *ring)
{
	return atomic_load_explicit(ring->flags, memory_order_relaxed) & XDP_RING_NEED_WAKEUP;
}

static inline struct xdp_desc *ring_desc(const struct ring *ring, uint32_t position)
{
	return (struct xdp_desc *)ring->entries + (position & ring->mask);
}

static inline uint64_t *ring_addr(const struct ring *ring, uint32_t position)
{
	return (uint64_t *)ring->entries + (position & ring->mask);
}

/* Let the kernel send; returns 0 or the errno. */
static inline int xsk_kick(const struct xsk *xsk)
{
	return sendto(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
}

static inline void set_option(int fd, int name, const void *value, socklen_t size, const char *what)
{
	if (setsockopt(fd, SOL_XDP, name, value, size))
		die(what);
}

static inline void map_ring(int fd, struct ring *ring, const struct xdp_ring_offset *offset,
			    size_t entry_size, uint32_t size, off_t page_offset)
{
	uint8_t *memory = mmap(NULL, offset->desc + size * entry_size, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_POPULATE, fd, page_offset);

	if (memory == MAP_FAILED)
		die("mmap of a ring");
	ring->producer = (_Atomic uint32_t *)(memory + offset->producer);
	ring->consumer = (_Atomic uint32_t *)(memory + offset->consumer);
	ring->flags = (_Atomic uint32_t *)(memory + offset->flags);
	ring->entries = memory + offset->desc;
	ring->size = size;
	ring->mask = size - 1;
	ring->position = 0;
}

static inline void open_rings(struct xsk *xsk, uint32_t size)
{
	struct xdp_mmap_offsets offsets;
	socklen_t length = sizeof(offsets);
	int fd = xsk->fd;

	set_option(fd, XDP_RX_RING, &size, sizeof(size), "rx ring");
	set_option(fd, XDP_TX_RING, &size, sizeof(size), "tx ring");
	set_option(fd, XDP_UMEM_FILL_RING, &size, sizeof(size), "fill ring");
	set_option(fd, XDP_UMEM_COMPLETION_RING, &size, sizeof(size), "completion ring");
	if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length))
		die("XDP_MMAP_OFFSETS");
	map_ring(fd, &xsk->rx, &offsets.rx, sizeof(struct xdp_desc), size, XDP_PGOFF_RX_RING);
	map_ring(fd, &xsk->tx, &offsets.tx, sizeof(struct xdp_desc), size, XDP_PGOFF_TX_RING);
	map_ring(fd, &xsk->fill, &offsets.fill, sizeof(uint64_t), size, XDP_UMEM_PGOFF_FILL_RING);
	map_ring(fd, &xsk->comp, &offsets.comp, sizeof(uint64_t), size,
		 XDP_UMEM_PGOFF_COMPLETION_RING);
}

static inline void bind_queue(int fd, const char *ifname, uint32_t queue_id)
{
	struct sockaddr_xdp address = {
		.family = AF_XDP,
		.flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
		.ifindex = if_nametoindex(ifname),
		.queue_id = queue_id,
	};
	int patience_ms = BIND_PATIENCE_MS;

	if (!address.ifindex)
		die(ifname);
	/* The kernel frees a closed socket's queue a moment later: EBUSY until then. */
	while (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		if (errno != EBUSY || !patience_ms--)
			die("bind");
		usleep(1000);
	}
}

/*
 * Open a socket on a queue: rings of ring_size entries and as many frames. budget is what one
 * call may send, 0 leaves the kernel's 32; kernels before v6.17 have no such setting and keep it.
 */
static inline void xsk_open(struct xsk *xsk, const char *ifname, uint32_t queue_id,
			    uint32_t ring_size, uint32_t budget)
{
	struct xdp_umem_reg reg = {
		.len = (uint64_t)ring_size * FRAME_SIZE,
		.chunk_size = FRAME_SIZE,
		.flags = XDP_UMEM_TX_METADATA_LEN,
		.tx_metadata_len = TX_METADATA_LEN,
	};

	xsk->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (xsk->fd < 0)
		die("socket(AF_XDP)");
	xsk->umem = mmap(NULL, reg.len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (xsk->umem == MAP_FAILED)
		die("mmap of the UMEM");
	reg.addr = (uint64_t)(uintptr_t)xsk->umem;
	set_option(xsk->fd, XDP_UMEM_REG, &reg, sizeof(reg), "XDP_UMEM_REG");
	open_rings(xsk, ring_size);
	bind_queue(xsk->fd, ifname, queue_id);
	if (budget &&
	    setsockopt(xsk->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget)) &&
	    errno != ENOPROTOOPT)
		die("XDP_MAX_TX_SKB_BUDGET");
}

#endif
