/* rcpt_load - measures how many recipients per second a Postfix smtpd checks: the path that map lookups slow down.
 *
 * usage: rcpt_load [-c CLIENTS] [-t SECONDS] [-o] [-s SEED] ADDRESS:PORT KEYFILE
 *   -s    seed of the random choice: the same seed replays the same recipients, so measure every round with another one
 *   -o    every key once and in order, instead of a random choice until the time is over
 * Sends RCPT TO for the addresses of KEYFILE (one per line) over CLIENTS parallel SMTP sessions, with a new MAIL FROM every ten
 * recipients. Prints one JSON object: seconds, recipients, recipients_per_s, p50_us, p99_us, and accepted (2xx), refused (5xx), deferred.
 * The smtpd must have its recipient, error and junk command limits raised, and smtpd_error_sleep_time = 0.
 * build: cc -O2 -o rcpt_load rcpt_load.c
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 4096, PER_MESSAGE = 10 };
typedef enum { BANNER, EHLO, RSET, MAIL, RCPT, QUIT } State;
typedef struct { int fd; State state; int recipients; double asked; size_t have; char reply[ROOM]; } Session;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static int ascending(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return (x > y) - (x < y); }
static void fail(const char *what) { fprintf(stderr, "rcpt_load: %s\n", what); exit(1); }

static char **keys; static size_t nkeys, next; static uint64_t random_state; static int in_order;

static void read_keys(const char *path) {
    FILE *file = fopen(path, "r"); char *line = NULL; size_t cap = 0, room = 0; ssize_t n;
    if (!file) fail("cannot open the key file");
    while ((n = getline(&line, &cap, file)) > 0) {
        if (line[n - 1] == '\n') line[n - 1] = 0;
        if (nkeys == room) keys = realloc(keys, (room = room ? room * 2 : 1024) * sizeof *keys);
        keys[nkeys++] = strdup(line);
    }
    if (!nkeys) fail("the key file is empty");
}

static const char *pick(void) {
    if (in_order) return next < nkeys ? keys[next++] : NULL;
    random_state ^= random_state << 13; random_state ^= random_state >> 7; random_state ^= random_state << 17;
    return keys[random_state % nkeys];
}

static void command(Session *session, State state, const char *text) {
    session->state = state; session->have = 0; session->asked = now();
    size_t length = strlen(text);
    if (write(session->fd, text, length) != (ssize_t)length) fail("short write");
}

static void recipient(Session *session, int over) {
    char text[1024]; const char *key = over ? NULL : pick();
    if (!key) { command(session, QUIT, "QUIT\r\n"); return; }
    snprintf(text, sizeof text, "RCPT TO:<%s>\r\n", key);
    session->recipients++;
    command(session, RCPT, text);
}

/* Return the code of a complete reply, whose last line has no dash behind the code, or 0. */
static int code(const Session *session) {
    if (session->have < 4 || session->reply[session->have - 1] != '\n') return 0;
    const char *line = session->reply + session->have - 1;
    while (line > session->reply && line[-1] != '\n') line--;
    return line[3] == '-' ? 0 : atoi(line);
}

int main(int argc, char **argv) {
    int clients = 1, option; double seconds = 1; random_state = 88172645463325252ULL;
    while ((option = getopt(argc, argv, "c:t:os:")) != -1) {
        if (option == 'c') clients = atoi(optarg);
        else if (option == 't') seconds = atof(optarg);
        else if (option == 'o') in_order = 1;
        else if (option == 's') random_state ^= strtoull(optarg, NULL, 10) << 20;
        else fail("unknown option; see the head of rcpt_load.c");
    }
    char *colon = argc - optind == 2 ? strrchr(argv[optind], ':') : NULL;
    if (!colon) fail("usage: rcpt_load [OPTION ...] ADDRESS:PORT KEYFILE");
    read_keys(argv[optind + 1]); *colon = 0;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, argv[optind], &a.sin_addr) != 1) fail("bad address");

    Session *all = calloc((size_t)clients, sizeof *all); int ep = epoll_create1(0), one = 1, open = clients, ready_to_go = 0;
    for (int i = 0; i < clients; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0); setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (connect(all[i].fd, (void *)&a, sizeof a)) fail("cannot connect");
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i}; epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &e);
    }
    size_t room = 1 << 16, measured = 0; double *latency = malloc(room * sizeof *latency), start = 0, end = 0;
    long accepted = 0, refused = 0, deferred = 0;
    struct epoll_event ready[64];
    while (open) {
        int n = epoll_wait(ep, ready, 64, 100000);
        if (n <= 0) fail("no reply for 100 s");
        for (int j = 0; j < n; j++) {
            Session *session = &all[ready[j].data.u32]; int reply;
            ssize_t r = read(session->fd, session->reply + session->have, ROOM - session->have);
            if (r <= 0) fail("connection closed by the server");
            session->have += (size_t)r;
            if (!(reply = code(session))) continue;
            switch (session->state) {
            case BANNER: command(session, EHLO, "EHLO load.example\r\n"); break;
            case EHLO: /* the clock starts when every session is greeted */
                if (++ready_to_go < clients) break;
                start = now();
                for (int i = 0; i < clients; i++) command(&all[i], MAIL, "MAIL FROM:<sender@remote.example>\r\n");
                break;
            case RSET: command(session, MAIL, "MAIL FROM:<sender@remote.example>\r\n"); break;
            case MAIL: if (reply != 250) fail("MAIL FROM was refused"); recipient(session, 0); break;
            case RCPT:
                end = now();
                if (measured == room) latency = realloc(latency, (room *= 2) * sizeof *latency);
                latency[measured++] = end - session->asked;
                if (reply < 300) accepted++; else if (reply >= 500) refused++; else deferred++;
                if (session->recipients % PER_MESSAGE || (!in_order && end - start >= seconds)) recipient(session, !in_order && end - start >= seconds);
                else command(session, RSET, "RSET\r\n");
                break;
            case QUIT: epoll_ctl(ep, EPOLL_CTL_DEL, session->fd, NULL); close(session->fd); open--; break;
            }
        }
    }
    if (!measured) fail("nothing was measured");
    qsort(latency, measured, sizeof *latency, ascending);
    printf("{\"seconds\": %.6f, \"recipients\": %zu, \"recipients_per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"accepted\": %ld, \"refused\": %ld, "
           "\"deferred\": %ld}\n", end - start, measured, measured / (end - start), latency[measured / 2] * 1e6, latency[measured * 99 / 100] * 1e6,
           accepted, refused, deferred);
    return 0;
}
