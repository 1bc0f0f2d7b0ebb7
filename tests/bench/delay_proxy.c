/* delay_proxy - passes bytes between clients and a server, each way after a delay, as a network between them would.
 *
 * usage: delay_proxy /listen/socket /server/socket MICROSECONDS
 *   MICROSECONDS   the delay each way; a question and its answer take twice as long on top of what they take without
 * Any number of connections, any number of bytes under way; one connection's delay does not add to another's.
 * build: cc -O2 -o delay_proxy delay_proxy.c
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 65536, CHUNK = 65536 };
/* Every chunk waits equally long, so that the order of arrival is the order of departure: one queue serves all connections. */
typedef struct Chunk { struct Chunk *next; long long due; int to; unsigned serial; ssize_t length; char bytes[]; } Chunk;

static int peer[FILES];        /* the other end of a connection, 0 when there is none */
static unsigned serial[FILES]; /* tells a connection from the one that had its number before */

static long long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

static struct sockaddr_un address(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX}; snprintf(a.sun_path, sizeof a.sun_path, "%s", path); return a;
}

static void deliver(const Chunk *chunk) {
    if (chunk->serial != serial[chunk->to]) return;
    if (!chunk->length) { /* the end of one side ends both */
        int from = peer[chunk->to];
        if (from) { close(chunk->to); close(from); peer[from] = peer[chunk->to] = 0; }
        return;
    }
    for (ssize_t sent = 0, n; peer[chunk->to] && sent < chunk->length; sent += n)
        if ((n = send(chunk->to, chunk->bytes + sent, (size_t)(chunk->length - sent), MSG_NOSIGNAL)) < 0) return;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const long long delay = atoll(argv[3]) * 1000;
    struct sockaddr_un here = address(argv[1]), there = address(argv[2]); unlink(argv[1]);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), ep = epoll_create1(0);
    if (bind(s, (void *)&here, sizeof here) || chmod(argv[1], 0777) || listen(s, 1024)) return 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = s}, ready[64]; epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
    Chunk *first = NULL, **last = &first;
    static char bytes[CHUNK];
    for (;;) {
        long long wait = first ? first->due - now() : 0;
        struct timespec pause = {wait / 1000000000, wait % 1000000000};
        int n = first && wait <= 0 ? 0 : epoll_pwait2(ep, ready, 64, first ? &pause : NULL, NULL);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == s) {
                int client = accept(s, NULL, NULL), server = socket(AF_UNIX, SOCK_STREAM, 0);
                if (client < 0 || connect(server, (void *)&there, sizeof there)) { close(client); close(server); continue; }
                peer[client] = server; peer[server] = client; serial[client]++; serial[server]++;
                e.data.fd = client; epoll_ctl(ep, EPOLL_CTL_ADD, client, &e);
                e.data.fd = server; epoll_ctl(ep, EPOLL_CTL_ADD, server, &e);
                continue;
            }
            if (!peer[fd]) continue;
            ssize_t length = read(fd, bytes, sizeof bytes);
            if (length <= 0) { length = 0; epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL); }
            Chunk *chunk = malloc(sizeof *chunk + (size_t)length);
            *chunk = (Chunk){NULL, now() + delay, peer[fd], serial[peer[fd]], length};
            memcpy(chunk->bytes, bytes, (size_t)length);
            *last = chunk; last = &chunk->next;
        }
        for (long long time = now(); first && first->due <= time;) {
            Chunk *chunk = first;
            if (!(first = chunk->next)) last = &first;
            deliver(chunk); free(chunk);
        }
    }
}
