/* A cable that takes its time: every frame of one device leaves by the other one, DELAY
 * microseconds after it came, in both directions. Nothing is throttled: frames wait in memory, large
 * (segmentation offload) frames pass whole.
 *
 * Usage: delay DEVICE DEVICE MICROSECONDS
 *
 * The kernel of many virtual machines lacks netem, which would do this better.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_BYTES (80 * 1024)
#define WAITING_MAX 4096

struct frame { long long due_ns; ssize_t size; char *data; };
struct way { int from, to; struct frame waiting[WAITING_MAX]; unsigned head, tail; };

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int opened(const char *device)
{
    int on = 1, room = 32 << 20;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
    if (fd < 0)
        fail("socket");
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on))
        fail("PACKET_VNET_HDR");
    if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on))
        fail("PACKET_IGNORE_OUTGOING");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    address.sll_ifindex = if_nametoindex(device);
    if (!address.sll_ifindex || bind(fd, (struct sockaddr *)&address, sizeof address))
        fail(device);
    struct packet_mreq all = { .mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC };
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all))
        fail("PACKET_MR_PROMISC");
    return fd;
}

static void take(struct way *way, long long delay_ns)
{
    while (way->tail - way->head < WAITING_MAX) {
        struct frame *frame = &way->waiting[way->tail % WAITING_MAX];
        if (!frame->data && !(frame->data = malloc(FRAME_BYTES)))
            fail("malloc");
        frame->size = recv(way->from, frame->data, FRAME_BYTES, 0);
        if (frame->size < 0) {
            if (errno == EAGAIN || errno == EINTR || errno == ENETDOWN)
                return;
            fail("recv");
        }
        frame->due_ns = now_ns() + delay_ns;
        way->tail++;
    }
}

static void give(struct way *way)
{
    while (way->head != way->tail) {
        struct frame *frame = &way->waiting[way->head % WAITING_MAX];
        if (frame->due_ns > now_ns())
            return;
        if (send(way->to, frame->data, frame->size, 0) < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return;
        way->head++; /* what the device refuses is lost, as on a cable */
    }
}

int main(int argc, char **argv)
{
    static struct way ways[2];
    if (argc != 4) {
        fprintf(stderr, "usage: delay DEVICE DEVICE MICROSECONDS\n");
        return 2;
    }
    int one = opened(argv[1]), other = opened(argv[2]);
    long long delay_ns = atoll(argv[3]) * 1000;
    ways[0].from = ways[1].to = one;
    ways[0].to = ways[1].from = other;
    prctl(PR_SET_TIMERSLACK, 1000);
    printf("delaying\n");
    fflush(stdout);
    for (;;) {
        struct pollfd polled[2] = { { one, POLLIN, 0 }, { other, POLLIN, 0 } };
        long long due_ns = -1;
        for (int i = 0; i < 2; i++)
            if (ways[i].head != ways[i].tail) {
                long long next_ns = ways[i].waiting[ways[i].head % WAITING_MAX].due_ns;
                if (due_ns < 0 || next_ns < due_ns)
                    due_ns = next_ns;
            }
        struct timespec wait = { 1, 0 };
        if (due_ns >= 0) {
            long long left_ns = due_ns - now_ns();
            wait.tv_sec = 0;
            wait.tv_nsec = left_ns > 0 ? left_ns : 0;
        }
        if (ppoll(polled, 2, &wait, NULL) < 0 && errno != EINTR)
            fail("ppoll");
        for (int i = 0; i < 2; i++) {
            take(&ways[i], delay_ns);
            give(&ways[i]);
        }
    }
}
