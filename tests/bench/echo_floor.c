/* echo_floor - the floor for any lookup daemon on this machine: one epoll thread that reads a request and writes a constant reply.
 *
 * It parses nothing, looks nothing up and counts nothing. A client must have one request outstanding at a time.
 * usage: echo_floor /path/of/socket socketmap|dict
 * build: cc -O2 -o echo_floor echo_floor.c
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const char *reply = argv[2][0] == 's' ? "9:NOTFOUND ," : "N\n";
    struct rlimit files; getrlimit(RLIMIT_NOFILE, &files); files.rlim_cur = files.rlim_max; setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_un a = {.sun_family = AF_UNIX}; snprintf(a.sun_path, sizeof a.sun_path, "%s", argv[1]); unlink(argv[1]);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), ep = epoll_create1(0);
    if (bind(s, (void *)&a, sizeof a) || listen(s, 4096)) return 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = s}, ready[256]; epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
    static char buf[65536];
    for (;;) {
        int n = epoll_wait(ep, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == s) { e.data.fd = accept(s, 0, 0); epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e); continue; }
            ssize_t r = read(fd, buf, sizeof buf);
            if (r <= 0) { close(fd); continue; }
            if (argv[2][0] == 'd' && buf[0] == 'H' && memchr(buf, '\n', (size_t)r) == buf + r - 1) continue; /* the hello has no reply */
            if (write(fd, reply, strlen(reply)) < 0) close(fd);
        }
    }
}
