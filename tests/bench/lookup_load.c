/* lookup_load - closed-loop load for lookup daemons: one outstanding request per connection, as Postfix and Dovecot have it.
 *
 * usage: lookup_load [OPTION …] PROTOCOL ENDPOINT KEYFILE NAME…
 *   PROTOCOL   socketmap | tcp | dict
 *   ENDPOINT   /path/of/socket or host-address:port (IPv4)
 *   KEYFILE    one key per line
 *   NAME       socketmap: a map; dict: "dictname:prefix", keys are asked as prefix + key; tcp: ignored. Several NAMEs take turns
 *   -c N       connections (1)
 *   -n N       requests to measure (default: those that fit into -t)
 *   -t S       seconds to measure (1)
 *   -w N       requests before those that are measured (0)
 *   -z X       zipf choice of keys: the key on line i is asked in proportion to 1 / i^X (default: every key alike)
 *   -o         every key in order instead of a random choice
 *   -s N       seed of the random choice: the same seed replays the same keys, so measure every round with another one (1)
 * prints one JSON object: seconds, lookups, lookups_per_s, latencies p50_us p99_us p999_us max_us, found, notfound, errors, seed.
 * The first million choices are made before the measurement starts, those after them one by one: no sequence is asked twice.
 * Exit status 1 on a malformed reply, a closed connection, or none for 20 s.
 * build: cc -O2 -o lookup_load lookup_load.c -lm
 */
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef CHOICES
#define CHOICES (1 << 20) /* made before the measurement starts */
#endif
enum { REPLY_ROOM = 131072, REQUEST_ROOM = 12000 };
typedef struct { int fd; size_t have; double asked; char *reply; } Connection;
typedef struct { const char *text; size_t length; } Text;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static int ascending(const void *a, const void *b) { float x = *(const float *)a, y = *(const float *)b; return (x > y) - (x < y); }
static void fail(const char *what) { fprintf(stderr, "lookup_load: %s\n", what); exit(1); }

/* --- keys: the lines of a file, and the order in which they are asked --- */

static Text *keys; static size_t nkeys; static uint32_t *choices; static size_t chosen;
static int in_order; static double *share; static uint64_t state;

static void read_keys(const char *path) {
    FILE *file = fopen(path, "r"); if (!file) fail("cannot open the key file");
    fseek(file, 0, SEEK_END); size_t size = (size_t)ftell(file), room = 0; rewind(file);
    char *text = malloc(size + 1); if (!text || fread(text, 1, size, file) != size) fail("cannot read the key file");
    fclose(file);
    for (char *line = text, *end; line < text + size; line = end + 1) {
        if (!(end = memchr(line, '\n', (size_t)(text + size - line)))) end = text + size;
        if (nkeys == room) keys = realloc(keys, (room = room ? room * 2 : 1024) * sizeof *keys);
        if ((size_t)(end - line) > REQUEST_ROOM / 4) fail("a key is too long");
        keys[nkeys++] = (Text){line, (size_t)(end - line)};
    }
    if (!nkeys) fail("the key file is empty");
}

static uint32_t draw(void) {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    double wanted = (double)(state >> 11) / (double)(1ULL << 53) * share[nkeys - 1];
    size_t low = 0, high = nkeys - 1;
    while (low < high) { size_t middle = (low + high) / 2; if (share[middle] < wanted) low = middle + 1; else high = middle; }
    return (uint32_t)low;
}

static void choose(double exponent, uint64_t seed) {
    if (in_order) return;
    share = malloc(nkeys * sizeof *share); choices = malloc(CHOICES * sizeof *choices);
    double sum = 0;
    for (size_t i = 0; i < nkeys; i++) share[i] = sum += exponent > 0 ? pow((double)(i + 1), -exponent) : 1;
    state = seed * 0x9E3779B97F4A7C15ULL + 88172645463325252ULL;
    for (size_t i = 0; i < CHOICES; i++) choices[i] = draw();
}

static Text next_key(void) {
    size_t number = chosen++;
    return keys[in_order ? number % nkeys : number < CHOICES ? choices[number] : draw()];
}

/* --- requests: what stands before the key depends on the name only --- */

static char protocol; static Text *names; static int nnames, turn;

static size_t put(char *to, const char *text, size_t length) { memcpy(to, text, length); return length; }

static size_t frame(char *to, Text key, Text name) {
    size_t n = 0;
    if (protocol == 's') {
        n = (size_t)sprintf(to, "%zu:", name.length + 1 + key.length);
        n += put(to + n, name.text, name.length); to[n++] = ' '; n += put(to + n, key.text, key.length); to[n++] = ',';
    } else if (protocol == 't') {
        n += put(to, "get ", 4); n += put(to + n, key.text, key.length); to[n++] = '\n';
    } else {
        to[n++] = 'L'; n += put(to + n, name.text, name.length); n += put(to + n, key.text, key.length);
        to[n++] = '\t'; n += put(to + n, key.text, key.length); to[n++] = '\n';
    }
    return n;
}

static void ask(Connection *c) {
    static char request[REQUEST_ROOM];
    size_t n = frame(request, next_key(), names[turn]);
    if (++turn == nnames) turn = 0;
    c->have = 0; c->asked = now();
    if (write(c->fd, request, n) != (ssize_t)n) fail("short write");
}

/* Return the length of one complete reply, 0 while it is incomplete; *kind becomes f(ound), n(otfound) or e(rror). */
static size_t complete(const Connection *c, char *kind) {
    char *b = c->reply, *end;
    if (protocol == 's') {
        unsigned long length = strtoul(b, &end, 10);
        if (end == b + c->have) return 0;
        if (end == b || *end != ':') fail("malformed netstring");
        size_t total = (size_t)(end - b) + 1 + length + 1;
        if (c->have < total) return 0;
        if (b[total - 1] != ',') fail("netstring without its comma");
        *kind = !strncmp(end + 1, "OK ", 3) ? 'f' : !strncmp(end + 1, "NOTFOUND", 8) ? 'n' : 'e';
        return total;
    }
    if (!(end = memchr(b, '\n', c->have))) return 0;
    if (protocol == 't') *kind = b[0] == '2' ? 'f' : b[0] == '5' ? 'n' : 'e';
    else *kind = b[0] == 'O' ? 'f' : b[0] == 'N' ? 'n' : 'e';
    return (size_t)(end - b) + 1;
}

static int dial(const char *endpoint) {
    const char *colon = strrchr(endpoint, ':');
    int fd, one = 1;
    if (endpoint[0] == '/' || !colon) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s", endpoint);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (void *)&a, sizeof a)) fail("cannot connect");
    } else {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
        char host[64]; snprintf(host, sizeof host, "%.*s", (int)(colon - endpoint), endpoint);
        if (inet_pton(AF_INET, host, &a.sin_addr) != 1) fail("bad address");
        fd = socket(AF_INET, SOCK_STREAM, 0); setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (connect(fd, (void *)&a, sizeof a)) fail("cannot connect");
    }
    return fd;
}

/* Greet a dict server, and keep what stands before the key in place of "dictname:prefix". */
static void greet(int fd) {
    char hello[512]; const char *colon = strchr(names[0].text, ':');
    int length = colon ? (int)(colon - names[0].text) : (int)names[0].length;
    int n = snprintf(hello, sizeof hello, "H3\t2\t0\t\t%.*s\n", length, names[0].text);
    if (write(fd, hello, (size_t)n) != n) fail("cannot write");
}

static void cut_prefixes(void) {
    for (int i = 0; i < nnames; i++) {
        const char *colon = strchr(names[i].text, ':');
        const char *prefix = colon ? colon + 1 : "";
        names[i] = (Text){prefix, strlen(prefix)};
    }
}

int main(int argc, char **argv) {
    int connections = 1, option; long requests = 0, warm_up = 0; double seconds = 1, exponent = 0; uint64_t seed = 1;
    while ((option = getopt(argc, argv, "c:n:t:w:z:os:")) != -1) {
        if (option == 'c') connections = atoi(optarg);
        else if (option == 'n') requests = atol(optarg);
        else if (option == 't') seconds = atof(optarg);
        else if (option == 'w') warm_up = atol(optarg);
        else if (option == 'z') exponent = atof(optarg);
        else if (option == 'o') in_order = 1;
        else if (option == 's') seed = strtoull(optarg, NULL, 10);
        else fail("unknown option; see the head of lookup_load.c");
    }
    if (argc - optind < 4 || connections < 1) fail("usage: lookup_load [OPTION ...] PROTOCOL ENDPOINT KEYFILE NAME...");
    protocol = argv[optind][0]; nnames = argc - optind - 3; names = calloc((size_t)nnames, sizeof *names);
    for (int i = 0; i < nnames; i++) names[i] = (Text){argv[optind + 3 + i], strlen(argv[optind + 3 + i])};
    read_keys(argv[optind + 2]); choose(exponent, seed);
    struct rlimit files; getrlimit(RLIMIT_NOFILE, &files); files.rlim_cur = files.rlim_max; setrlimit(RLIMIT_NOFILE, &files);

    Connection *all = calloc((size_t)connections, sizeof *all); int ep = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        all[i].fd = dial(argv[optind + 1]); all[i].reply = malloc(REPLY_ROOM + 1);
        if (protocol == 'd') greet(all[i].fd);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i}; epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &e);
    }
    if (protocol == 'd') cut_prefixes();

    long asked = 0, answered = 0, found = 0, missing = 0, errors = 0, last = requests ? warm_up + requests : -1;
    size_t room = requests ? (size_t)requests : 1 << 20, measured = 0; float *latency = malloc(room * sizeof *latency);
    double start = now(), end = 0, until = warm_up ? 1e300 : start + seconds;
    for (int i = 0; i < connections && asked != last; i++, asked++) ask(&all[i]);
    struct epoll_event ready[256];
    while (answered < asked) {
        int n = epoll_wait(ep, ready, 256, 20000);
        if (n <= 0) fail("no reply for 20 s");
        for (int j = 0; j < n; j++) {
            Connection *c = &all[ready[j].data.u32]; char kind = 0;
            ssize_t r = read(c->fd, c->reply + c->have, REPLY_ROOM - c->have);
            if (r <= 0) fail("connection closed by the server");
            c->have += (size_t)r; c->reply[c->have] = 0;
            size_t used = complete(c, &kind);
            if (!used) continue;
            if (used != c->have) fail("more bytes than one reply");
            end = now();
            if (++answered > warm_up) {
                if (measured == room) latency = realloc(latency, (room *= 2) * sizeof *latency);
                latency[measured++] = (float)(end - c->asked);
                if (kind == 'f') found++; else if (kind == 'n') missing++; else errors++;
            } else if (answered == warm_up) { start = end; until = start + seconds; }
            if (last < 0 ? end < until : asked < last) { ask(c); asked++; }
        }
    }
    if (!measured) fail("nothing was measured");
    qsort(latency, measured, sizeof *latency, ascending);
    printf("{\"seconds\": %.6f, \"lookups\": %zu, \"lookups_per_s\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, "
           "\"found\": %ld, \"notfound\": %ld, \"errors\": %ld, \"seed\": %llu}\n", end - start, measured, measured / (end - start), latency[measured / 2] * 1e6,
           latency[measured * 99 / 100] * 1e6, latency[measured * 999 / 1000] * 1e6, latency[measured - 1] * 1e6, found, missing, errors,
           (unsigned long long)seed);
    return 0;
}
