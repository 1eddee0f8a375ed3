/*
 * The load generator: XMPP components and clients, all in one thread.
 *
 *   load pair      stanzas from one component to another, or back again with --echo
 *   load relay     the same between a client and a component, always back again
 *   load register  components that connect, register and close, over and over
 *   load login     clients that connect, log in and close, over and over
 *   load idle      connections that do nothing, until standard input ends
 *   load sink      a server that forwards bytes without looking at them: what
 *                  `load pair` reaches with it is the generator's own ceiling
 *
 * The result is one line of JSON on standard output.  Times are in seconds but
 * for latencies, which are in microseconds.  Loopback only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)  /* at most this much is read at once */
#define BLOCK_BYTES (128 * 1024) /* at most this much is written at once */
#define WORDS_BYTES 8192         /* of a peer's answer while a stream is negotiated */
#define DRAIN_SECONDS 30.0       /* for what is outstanding after the end */
#define STEP_SECONDS 60.0        /* for all streams of a run to be ready */
#define MOST_FAILURES 2000       /* refused connections before we give up */
#define MOST_EVENTS 256

/* ------------------------------------------------------------ the options */

static struct {
    const char *mode;
    int port;             /* of components; of clients in login and idle */
    int client_port;      /* of the client in relay */
    int other_port;       /* pair: of the second component, at another server */
    bool tls;             /* components: from the first byte; clients: STARTTLS */
    bool client;          /* idle: clients, not components */
    bool jingle;          /* the 2 kB stanza instead of the 300 byte one */
    bool echo;            /* the second component answers each stanza */
    bool managed_link;    /* the components' streams are (docs/link-management.md) */
    bool settle;          /* relay: the two are at different servers */
    bool managed;         /* relay, login: the client's stream is (XEP-0198), and it can be resumed */
    int pairs;
    long window;          /* stanzas on their way per pair; 0: no limit */
    double rate;          /* stanzas a second, all pairs together; 0: as the window allows */
    int parallel;         /* registrations or log-ins at once */
    int count;            /* idle connections */
    int first;            /* number of the first component */
    int users;            /* users u0 .. are used in turn */
    bool sasl2;           /* login: managed, and all by SASL2 and Bind 2 (XEP-0388, XEP-0386) */
    double seconds, warmup;
    const char *domain, *secret, *password, *mechanism;
    int core;             /* the server's */
    int pids[64], pid_count; /* the server's processes, for its CPU time */
    int apart[64], apart_count; /* others, whose CPU time is told apart */
} opt = {
    .pairs = 1, .window = 64, .parallel = 16, .count = 100, .users = 16,
    .seconds = 3, .warmup = 0.5, .domain = "meet.example.com", .secret = "secret",
    .password = "password", .mechanism = "SCRAM-SHA-256",
};

/* ------------------------------------------------------------ small helpers */

static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 32 || c > 126)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* End with an error, as JSON. */
__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("{\"error\": ");
    print_text(text);
    printf("}\n");
    fflush(stdout);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* CPU seconds of these processes so far. */
static double cpu_of(const int *pids, int count)
{
    unsigned long long ticks = 0;
    for (int i = 0; i < count; i++) {
        char path[64], text[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", pids[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            die("the server's process %d is gone", pids[i]);
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        char *rest = strrchr(text, ')');
        unsigned long long user = 0, system = 0;
        if (rest == NULL || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                                   &user, &system) != 2)
            die("cannot read %s", path);
        ticks += user + system;
    }
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

/* Seconds that the server's core was busy so far, with whatever. */
static double core_busy(void)
{
    char path[] = "/proc/stat", wanted[16], line[512];
    unsigned long long busy = 0;
    snprintf(wanted, sizeof wanted, "cpu%d ", opt.core);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        die("cannot read %s", path);
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned long long v[8] = {0}; /* user nice system idle iowait irq softirq steal */
        if (strncmp(line, wanted, strlen(wanted)) != 0)
            continue;
        sscanf(line, "%*s %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
               &v[4], &v[5], &v[6], &v[7]);
        busy = v[0] + v[1] + v[2] + v[5] + v[6] + v[7];
    }
    fclose(file);
    return (double)busy / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* The meters that are read at both ends of a measurement. */
typedef struct {
    double time, server, apart, generator, core;
} Meters;

static Meters read_meters(void)
{
    return (Meters){now(), cpu_of(opt.pids, opt.pid_count), cpu_of(opt.apart, opt.apart_count),
                    own_cpu(), core_busy()};
}

/* What was used between two readings; `others`: the share of the core that was not ours. */
static void print_meters(Meters from, Meters until)
{
    double seconds = until.time - from.time, server = until.server - from.server;
    double apart = until.apart - from.apart, core = until.core - from.core;
    printf("\"seconds\": %.4f, \"cpu\": %.3f, \"apart\": %.3f, \"generator_cpu\": %.3f, \"others\": %.3f",
           seconds, server, apart, until.generator - from.generator,
           (core - server - apart) / seconds);
}

static void base64(char *to, const void *from, size_t size)
{
    EVP_EncodeBlock((unsigned char *)to, from, (int)size);
}

/* The decoded length, or -1. */
static int unbase64(unsigned char *to, const char *from, size_t size)
{
    int n = EVP_DecodeBlock(to, (const unsigned char *)from, (int)size);
    while (n > 0 && size > 0 && from[size - 1] == '=')
        n--, size--;
    return n;
}

/* ------------------------------------------------------------ stanzas */

/* One stanza, repeated so often that one write may carry many of it. */
typedef struct {
    char *bytes;
    size_t stanza, total; /* bytes of one; of all of them */
} Block;

/* Each stanza holds its marker exactly once, whoever writes it anew. */
static const char *marker(void)
{
    return opt.jingle ? "</jingle>" : "</body>";
}

#define MESSAGE \
    "<message%s to='%s' type='chat' id='m4f7a91c2'>" \
    "<body>The meeting of the second team moved to the large room, dial in as usual.</body>" \
    "<thread>e0ffe42b28561960c6b12b944a092794b9683a38</thread>" \
    "<active xmlns='http://jabber.org/protocol/chatstates'/></message>"

#define CANDIDATE(number, kind, address, port, priority) \
    "<candidate component='1' foundation='" number "' generation='0' id='el0747fg1" number \
    "' ip='" address "' network='0' port='" port "' priority='" priority \
    "' protocol='udp' type='" kind "'/>"

#define JINGLE \
    "<iq%s to='%s' type='set' id='j19c2d4e7'>" \
    "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' " \
    "initiator='alice@meet.example.com/phone' sid='a73sjjvkla37jfea'>" \
    "<content creator='initiator' name='voice' senders='both'>" \
    "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'>" \
    "<payload-type id='111' name='opus' clockrate='48000' channels='2'>" \
    "<parameter name='useinbandfec' value='1'/><parameter name='minptime' value='10'/>" \
    "</payload-type>" \
    "<payload-type id='96' name='speex' clockrate='16000'/>" \
    "<payload-type id='97' name='speex' clockrate='8000'/>" \
    "<payload-type id='18' name='G729'/><payload-type id='0' name='PCMU'/>" \
    "<payload-type id='103' name='L16' clockrate='16000' channels='2'/>" \
    "<rtcp-mux/></description>" \
    "<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' " \
    "pwd='asd88fgpdd777uzjYhagZg' ufrag='8hhy'>" \
    "<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='actpass'>" \
    "02:1A:CC:54:27:AB:EB:9C:53:3F:3E:4B:65:2E:7D:46:3F:54:42:CD:54:F1:7A:03:A2:7D:F9:B0:7F:46:19:B2" \
    "</fingerprint>" \
    CANDIDATE("1", "host", "10.0.1.1", "8998", "2130706431") \
    CANDIDATE("2", "host", "10.0.1.2", "8999", "2130706175") \
    CANDIDATE("3", "srflx", "192.0.2.3", "45664", "1694498815") \
    CANDIDATE("4", "srflx", "192.0.2.3", "45665", "1694498559") \
    CANDIDATE("5", "relay", "198.51.100.7", "49152", "16777215") \
    "</transport></content></jingle></iq>"

/* The empty `from` is a client's: its server fills it in. */
static Block make_block(const char *from, const char *to)
{
    char stanza[4096], sender[300] = "";
    if (*from)
        snprintf(sender, sizeof sender, " from='%s'", from);
    int n = snprintf(stanza, sizeof stanza, opt.jingle ? JINGLE : MESSAGE, sender, to);
    if (n <= 0 || n >= (int)sizeof stanza)
        die("the stanza does not fit");
    size_t copies = BLOCK_BYTES / (size_t)n;
    Block block = {malloc(copies * (size_t)n), (size_t)n, copies * (size_t)n};
    if (block.bytes == NULL)
        die("out of memory");
    for (size_t i = 0; i < copies; i++)
        memcpy(block.bytes + i * (size_t)n, stanza, (size_t)n);
    return block;
}

/* ------------------------------------------------------------ connections */

typedef enum {
    CLOSED,
    CONNECTING,
    SECURING,  /* the TLS handshake */
    HEADER,    /* a component waits for the stream header */
    HANDSHAKE, /* ... for the answer to its handshake */
    OFFER,     /* a client waits for features with STARTTLS */
    PROCEED,
    MECHANISMS,
    CHALLENGE,
    SUCCESS,
    BINDABLE,  /* ... for the features after SASL */
    BOUND,
    ENABLED,   /* ... for stream management */
    READY,
    ENDING,    /* we closed our stream, the peer has not yet */
} State;

static const char *const state_names[] = {
    "closed", "connect", "tls", "header", "handshake", "features", "proceed", "mechanisms",
    "challenge", "success", "features after sasl", "bind", "enable", "ready", "end",
};

typedef struct Conn Conn;
struct Conn {
    int fd, port, number; /* number: which component or user it is */
    State state;
    bool client, tls, writable_wanted;
    SSL *ssl;
    char address[256];       /* of a component; the full JID of a client */
    char words[WORDS_BYTES]; /* what the peer said while negotiating; NUL at its end */
    size_t heard;
    char *scram_first;       /* client-first-message-bare */
    /* traffic */
    Block block;
    uint64_t sent, allowed;  /* bytes */
    uint64_t seen;           /* stanzas received */
    bool managed, answer_due; /* its stream is managed; an acknowledgement is asked for */
    char answer[64];         /* what is left of an acknowledgement to be written */
    size_t answer_size;
    Conn *partner;           /* who gets our stanzas */
    bool sends, echoes;      /* sends by itself; answers what it gets */
    double asked;            /* when the stanza whose echo is awaited was sent */
    char tail[16];           /* the last bytes of the previous read */
    size_t tail_size;
};

static int poller;
static SSL_CTX *tls_context;
static char *read_buffer; /* 16 bytes for a tail, then READ_BYTES */
static int failures;
static char last_failure[512];

static void interest(Conn *c, bool writable)
{
    struct epoll_event e = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = c};
    c->writable_wanted = writable;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void conn_close(Conn *c)
{
    if (c->ssl != NULL)
        SSL_free(c->ssl);
    c->ssl = NULL;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    free(c->scram_first);
    c->scram_first = NULL;
    c->state = CLOSED;
}

/* Note why a connection came to nothing. */
__attribute__((format(printf, 2, 3))) static void conn_fail(Conn *c, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(last_failure, sizeof last_failure, "%s %d at %s: %s; heard: %.200s",
             c->client ? "client" : "component", c->number, state_names[c->state], text,
             c->state == READY ? "-" : c->words);
    if (c->state == READY || ++failures > MOST_FAILURES)
        die("%s", last_failure);
    conn_close(c);
}

static void conn_open(Conn *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)c->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* An acknowledgement is behind what the kernel has of ours already: let that be little. */
    int little = 32768;
    if (c->client ? opt.managed : opt.managed_link)
        setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
    c->heard = 0;
    c->words[0] = 0;
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        die("connect to port %d: %s", c->port, strerror(errno));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    c->writable_wanted = true;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Bytes read, 0 when there are none now, -1 when there will be none. */
static ssize_t conn_read(Conn *c, void *to, size_t size)
{
    if (c->ssl != NULL) {
        int n = SSL_read(c->ssl, to, (int)size);
        if (n > 0)
            return n;
        int e = SSL_get_error(c->ssl, n);
        ERR_clear_error();
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    ssize_t n = recv(c->fd, to, size, 0);
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* Bytes written, 0 when none can be now, -1 when none can be any more. */
static ssize_t conn_write(Conn *c, const void *from, size_t size)
{
    if (c->ssl != NULL) {
        int n = SSL_write(c->ssl, from, (int)size);
        if (n > 0)
            return n;
        int e = SSL_get_error(c->ssl, n);
        ERR_clear_error();
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    ssize_t n = send(c->fd, from, size, MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* ------------------------------------------------------------ negotiation */

/* Send a few words, which always fit, and forget what was heard before. */
__attribute__((format(printf, 3, 4))) static void say(Conn *c, State next, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (conn_write(c, text, (size_t)n) != n) {
        conn_fail(c, "the peer takes no more");
        return;
    }
    c->heard = 0;
    c->words[0] = 0;
    c->state = next;
}

static void say_header(Conn *c, State next)
{
    if (c->client)
        say(c, next,
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' to='%s' "
            "xmlns:stream='http://etherx.jabber.org/streams'>", opt.domain);
    else
        say(c, next,
            "<stream:stream xmlns='jabber:component:accept' to='%s' "
            "xmlns:stream='http://etherx.jabber.org/streams'>", c->address);
}

static void start_tls(Conn *c)
{
    c->ssl = SSL_new(tls_context);
    if (c->ssl == NULL || !SSL_set_fd(c->ssl, c->fd))
        die("cannot start TLS");
    SSL_set_tlsext_host_name(c->ssl, opt.domain);
    SSL_set_connect_state(c->ssl);
    c->heard = 0;
    c->words[0] = 0;
    c->state = SECURING;
}

static void secure(Conn *c)
{
    int n = SSL_do_handshake(c->ssl);
    if (n == 1) {
        interest(c, false);
        say_header(c, c->client ? MECHANISMS : HEADER);
        return;
    }
    int e = SSL_get_error(c->ssl, n);
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
        if (c->writable_wanted != (e == SSL_ERROR_WANT_WRITE))
            interest(c, e == SSL_ERROR_WANT_WRITE);
        return;
    }
    conn_fail(c, "TLS: %s", ERR_reason_error_string(ERR_get_error()) ?: "connection lost");
    ERR_clear_error();
}

/* The value of an attribute of the first stream header heard. */
static bool header_value(const Conn *c, const char *name, char *to, size_t size)
{
    const char *tag = strstr(c->words, "<stream:stream");
    const char *end = tag ? strchr(tag, '>') : NULL;
    if (end == NULL)
        return false;
    char wanted[32];
    snprintf(wanted, sizeof wanted, " %s=", name);
    const char *found = strstr(tag, wanted);
    if (found == NULL || found > end)
        return false;
    found += strlen(wanted);
    const char *quote = strchr(found + 1, *found);
    if (quote == NULL || (size_t)(quote - found) > size)
        return false;
    memcpy(to, found + 1, (size_t)(quote - found - 1));
    to[quote - found - 1] = 0;
    return true;
}

static void say_handshake(Conn *c)
{
    char text[512], id[256];
    unsigned char digest[SHA_DIGEST_LENGTH];
    if (!header_value(c, "id", id, sizeof id))
        return;
    int n = snprintf(text, sizeof text, "%s%s", id, opt.secret);
    SHA1((unsigned char *)text, (size_t)n, digest);
    for (int i = 0; i < SHA_DIGEST_LENGTH; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    say(c, HANDSHAKE, "<handshake>%s</handshake>", text);
}

#define ENABLE "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"

/* The first message of a mechanism. */
static void say_first(Conn *c, State next, const char *mechanism, const char *encoded)
{
    if (opt.sasl2)
        say(c, next, "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='%s'>"
                     "<initial-response>%s</initial-response><user-agent "
                     "id='d4565fa7-4d72-4749-b3d3-%012d'><software>load</software></user-agent>"
                     "<bind xmlns='urn:xmpp:bind:0'><tag>load</tag>" ENABLE
                     "</bind></authenticate>", mechanism, encoded, c->number);
    else
        say(c, next, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>",
            mechanism, encoded);
}

static void say_plain(Conn *c)
{
    char text[256], encoded[400];
    int n = snprintf(text, sizeof text, "%cu%d%c%s", 0, c->number, 0, opt.password);
    base64(encoded, text, (size_t)n);
    say_first(c, SUCCESS, "PLAIN", encoded);
}

/* SCRAM (RFC 5802), without channel binding. */

typedef struct {
    unsigned char salted[SHA256_DIGEST_LENGTH];
    char salt[128];
    int rounds; /* 0: not known yet */
} Key;

static Key *keys; /* of each user: a client computes it once and keeps it */

static void hmac(const unsigned char *key, const void *text, size_t size, unsigned char *to)
{
    HMAC(EVP_sha256(), key, SHA256_DIGEST_LENGTH, text, size, to, NULL);
}

static void say_scram(Conn *c)
{
    unsigned char random[18];
    char nonce[32], message[128], encoded[256];
    RAND_bytes(random, sizeof random);
    base64(nonce, random, sizeof random);
    free(c->scram_first);
    if (asprintf(&c->scram_first, "n=u%d,r=%s", c->number, nonce) < 0)
        die("out of memory");
    int n = snprintf(message, sizeof message, "n,,%s", c->scram_first);
    base64(encoded, message, (size_t)n);
    say_first(c, CHALLENGE, opt.mechanism, encoded);
}

static const unsigned char *salted_password(Conn *c, const char *salt, int rounds)
{
    Key *key = &keys[c->number];
    if (key->rounds != rounds || strcmp(key->salt, salt) != 0) {
        unsigned char raw[128];
        int n = unbase64(raw, salt, strlen(salt));
        snprintf(key->salt, sizeof key->salt, "%s", salt);
        key->rounds = rounds;
        PKCS5_PBKDF2_HMAC(opt.password, (int)strlen(opt.password), raw, n, rounds, EVP_sha256(),
                          SHA256_DIGEST_LENGTH, key->salted);
    }
    return key->salted;
}

static void answer_challenge(Conn *c)
{
    char first[1024], salt[128], nonce[256], final[512], whole[2048], proof64[64], encoded[1024];
    unsigned char key[32], stored[32], signature[32];
    int rounds;
    const char *text = strchr(strstr(c->words, "<challenge"), '>') + 1;
    const char *end = strchr(text, '<');
    if (end == NULL || end - text > 1024)
        return;
    int n = unbase64((unsigned char *)first, text, (size_t)(end - text));
    first[n > 0 ? n : 0] = 0;
    if (sscanf(first, "r=%255[^,],s=%127[^,],i=%d", nonce, salt, &rounds) != 3) {
        conn_fail(c, "no SCRAM challenge: %s", first);
        return;
    }
    const unsigned char *salted = salted_password(c, salt, rounds);
    snprintf(final, sizeof final, "c=biws,r=%s", nonce);
    n = snprintf(whole, sizeof whole, "%s,%s,%s", c->scram_first, first, final);
    hmac(salted, "Client Key", 10, key);
    SHA256(key, sizeof key, stored);
    hmac(stored, whole, (size_t)n, signature);
    for (int i = 0; i < 32; i++)
        key[i] ^= signature[i];
    base64(proof64, key, sizeof key);
    n = snprintf(whole, sizeof whole, "%s,p=%s", final, proof64);
    base64(encoded, whole, (size_t)n);
    const char *name = opt.sasl2 ? "urn:xmpp:sasl:2" : "urn:ietf:params:xml:ns:xmpp-sasl";
    say(c, SUCCESS, "<response xmlns='%s'>%s</response>", name, encoded);
}

static void note_jid(Conn *c)
{
    const char *found = strstr(c->words, "<jid>");
    if (found != NULL)
        sscanf(found + 5, "%255[^<]", c->address);
}

/* Go on as far as what was heard allows. */
static void negotiate(Conn *c)
{
    State before;
    do {
        before = c->state;
        const char *words = c->words;
        if (strstr(words, "<stream:error") || strstr(words, "<failure")) {
            conn_fail(c, "refused");
            return;
        }
        if (c->state == HEADER)
            say_handshake(c);
        else if (c->state == HANDSHAKE && strstr(words, "<handshake")) {
            if (opt.managed_link)
                say(c, ENABLED, ENABLE);
            else
                c->state = READY;
        } else if (c->state == OFFER && strstr(words, "</stream:features>"))
            say(c, PROCEED, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        else if (c->state == PROCEED && strstr(words, "<proceed"))
            start_tls(c);
        else if (c->state == MECHANISMS && strstr(words, "</stream:features>"))
            *opt.mechanism == 'P' ? say_plain(c) : say_scram(c);
        else if (c->state == CHALLENGE && strstr(words, "</challenge>"))
            answer_challenge(c);
        else if (c->state == SUCCESS && opt.sasl2 && strstr(words, "</stream:features>")) {
            if (strstr(words, "<enabled") == NULL)
                conn_fail(c, "not managed");
            else
                c->state = READY;
        } else if (c->state == SUCCESS && !opt.sasl2 && strstr(words, "<success"))
            say_header(c, BINDABLE);
        else if (c->state == BINDABLE && strstr(words, "</stream:features>"))
            say(c, BOUND, "<iq type='set' id='bind'><bind "
                          "xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        else if (c->state == BOUND && strstr(words, "</iq>")) {
            note_jid(c);
            if (opt.managed)
                say(c, ENABLED, ENABLE);
            else
                c->state = READY;
        } else if (c->state == ENABLED && strstr(words, "<enabled")) {
            c->managed = true;
            c->state = READY;
        }
    } while (c->state != before && c->state > SECURING && c->state < READY);
    if (c->state == SECURING)
        secure(c);
}

static void begin(Conn *c)
{
    int problem = 0;
    socklen_t size = sizeof problem;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    if (problem != 0) {
        conn_fail(c, "%s", strerror(problem));
        return;
    }
    interest(c, false);
    if (!c->client && c->tls) {
        start_tls(c);
        secure(c);
    } else {
        say_header(c, !c->client ? HEADER : c->tls ? OFFER : MECHANISMS);
    }
}

static void hear(Conn *c)
{
    /* Else a server that writes little by little waits for acknowledgements, which we
     * would delay for 40 ms, and the rate would say nothing about its work. */
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
    for (;;) {
        ssize_t n = conn_read(c, c->words + c->heard, sizeof c->words - 1 - c->heard);
        if (n < 0) {
            conn_fail(c, "the peer closed");
            return;
        }
        if (n == 0)
            return;
        c->heard += (size_t)n;
        c->words[c->heard] = 0;
        negotiate(c);
        if (c->state < HEADER || c->state >= READY || c->ssl == NULL)
            return;
    }
}

/* Anything before READY. */
static void conn_negotiation(Conn *c)
{
    if (c->state == CONNECTING)
        begin(c);
    else if (c->state == SECURING)
        secure(c);
    else
        hear(c);
}

static void conn_init(Conn *c, bool client, int number, int port)
{
    *c = (Conn){.fd = -1, .client = client, .number = number, .port = port, .tls = opt.tls};
    if (!client)
        snprintf(c->address, sizeof c->address, "c%d.%s", number, opt.domain);
}

/* Open some connections, at most `parallel` of them at a time, and wait for all. */
static void open_all(Conn *conns, int count)
{
    struct epoll_event events[MOST_EVENTS];
    double deadline = now() + STEP_SECONDS + count / 50.0;
    int opened = 0, ready = 0;
    while (ready < count) {
        while (opened < count && opened - ready < opt.parallel)
            conn_open(&conns[opened++]);
        int n = epoll_wait(poller, events, MOST_EVENTS, 1000);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (c->state == READY) { /* what is sent to us unasked */
                while (conn_read(c, read_buffer, READ_BYTES) > 0)
                    ;
                continue;
            }
            conn_negotiation(c);
            if (c->state == CLOSED)
                die("%s", last_failure);
            ready += c->state == READY;
        }
        if (now() > deadline)
            die("%d of %d connections became ready", ready, count);
    }
}

/* ------------------------------------------------------------ traffic */

static uint32_t *latencies; /* nanoseconds */
static size_t latency_count, latency_room;
static bool measuring;

static void note_latency(double seconds)
{
    if (!measuring)
        return;
    if (latency_count == latency_room) {
        latency_room = latency_room ? 2 * latency_room : 65536;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (latencies == NULL)
            die("out of memory");
    }
    latencies[latency_count++] = (uint32_t)(seconds * 1e9);
}

/* Say how many stanzas were handled, if that was asked: between two of ours (XEP-0198 4). */
static bool acknowledge(Conn *c)
{
    if (c->answer_due && c->answer_size == 0 && c->sent % c->block.stanza == 0) {
        c->answer_size = (size_t)snprintf(c->answer, sizeof c->answer,
            "<a xmlns='urn:xmpp:sm:3' h='%llu'/>", (unsigned long long)(c->seen & UINT32_MAX));
        c->answer_due = false;
    }
    if (c->answer_size > 0) {
        ssize_t n = conn_write(c, c->answer, c->answer_size);
        if (n < 0)
            conn_fail(c, "write: the peer closed");
        else {
            c->answer_size -= (size_t)n;
            memmove(c->answer, c->answer + n, c->answer_size);
        }
    }
    return c->answer_size == 0;
}

/* Write what is allowed, as far as the socket takes it. */
static void pump(Conn *c)
{
    if (!acknowledge(c)) {
        interest(c, true);
        return;
    }
    for (int i = 0; i < 8 && c->sent < c->allowed; i++) {
        size_t offset = c->sent % c->block.total;
        size_t size = c->block.total - offset;
        if (size > c->allowed - c->sent)
            size = c->allowed - c->sent;
        if (c->answer_due) /* to the end of this stanza */
            size = c->block.stanza - c->sent % c->block.stanza;
        ssize_t n = conn_write(c, c->block.bytes + offset, size);
        if (n < 0)
            conn_fail(c, "write: the peer closed");
        c->sent += (size_t)n;
        if ((size_t)n < size && (n == 0 || c->ssl == NULL))
            break;
        if (!acknowledge(c))
            break;
    }
    bool unfinished = c->sent < c->allowed || c->answer_size > 0;
    if (unfinished != c->writable_wanted)
        interest(c, unfinished);
}

static void allow(Conn *c, uint64_t stanzas)
{
    c->allowed += stanzas * c->block.stanza;
    pump(c);
}

static uint64_t count_markers(const char *bytes, size_t size)
{
    const char *wanted = marker(), *end = bytes + size;
    size_t length = strlen(wanted);
    uint64_t count = 0;
    while ((bytes = memmem(bytes, (size_t)(end - bytes), wanted, length)) != NULL) {
        bytes += length;
        count++;
    }
    return count;
}

/* Whether an <r/> came with this read; of one that is cut in two the next will do. */
static bool is_asked(const char *bytes, size_t size)
{
    static const char wanted[] = "<r xmlns='urn:xmpp:sm:3'/>";
    return memmem(bytes, size, wanted, sizeof wanted - 1) != NULL;
}

/* Read once; how many stanzas came to their end. */
static ssize_t receive(Conn *c, uint64_t *stanzas)
{
    char *start = read_buffer + sizeof c->tail - c->tail_size;
    memcpy(start, c->tail, c->tail_size);
    ssize_t n = conn_read(c, read_buffer + sizeof c->tail, READ_BYTES);
    if (n < 0)
        conn_fail(c, "read: the peer closed");
    if (n == 0)
        return 0;
    size_t size = c->tail_size + (size_t)n;
    *stanzas += count_markers(start, size);
    c->answer_due |= c->managed && is_asked(start, size);
    /* A marker may be cut in two, but none fits into what is kept. */
    size_t keep = strlen(marker()) - 1;
    c->tail_size = size < keep ? size : keep;
    memcpy(c->tail, start + size - c->tail_size, c->tail_size);
    return n;
}

static bool stopped; /* nothing new is sent, but echoes are */

static void got_stanzas(Conn *c, uint64_t stanzas)
{
    c->seen += stanzas;
    if (c->echoes) {
        allow(c, stanzas);
        return;
    }
    /* An echo that came back, or a stanza that arrived. */
    Conn *source = c->sends ? c : c->partner;
    if (c->asked > 0) {
        double t = now();
        note_latency(t - c->asked);
        c->asked = t;
    }
    if (!stopped && opt.window > 0 && (opt.rate == 0 || c->asked > 0))
        allow(source, stanzas);
}

static void traffic(Conn *c, uint32_t events)
{
    if (events & EPOLLOUT)
        pump(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        uint64_t stanzas = 0;
        ssize_t n;
        do
            n = receive(c, &stanzas);
        while (n > 0 && c->ssl != NULL);
        if (stanzas > 0)
            got_stanzas(c, stanzas);
        if (c->answer_due)
            pump(c);
    }
}

static uint64_t stanzas_sent(const Conn *c)
{
    return c->sent / c->block.stanza;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double share)
{
    size_t i = (size_t)(share * (double)latency_count);
    return latencies[i < latency_count ? i : latency_count - 1] / 1e3;
}

/* Stop the sources at the end of a stanza. */
static void stop_sending(Conn *conns, int count)
{
    stopped = true;
    for (int i = 0; i < count; i++) {
        Conn *c = &conns[i];
        if (c->sends) {
            uint64_t whole = (c->sent + c->block.stanza - 1) / c->block.stanza;
            c->allowed = whole * c->block.stanza;
            pump(c);
        }
    }
}

/* Stanzas that arrived where they were to arrive, of the measured pairs. */
static uint64_t arrived(const Conn *conns, int pairs)
{
    uint64_t sum = 0;
    for (int i = 0; i < pairs; i++)
        sum += conns[2 * i].partner->echoes ? conns[2 * i].seen : conns[2 * i + 1].seen;
    return sum;
}

static uint64_t departed(const Conn *conns, int pairs)
{
    uint64_t sum = 0;
    for (int i = 0; i < pairs; i++)
        sum += stanzas_sent(&conns[2 * i]);
    return sum;
}

static void pace(Conn *conns, int pairs, double since)
{
    uint64_t due = (uint64_t)((now() - since) * opt.rate / pairs);
    for (int i = 0; i < pairs; i++) {
        Conn *c = &conns[2 * i];
        uint64_t given = c->allowed / c->block.stanza;
        if (due > given)
            allow(c, due - given);
    }
}

static void start_ticking(int fd)
{
    struct itimerspec t = {{0, 200000}, {0, 200000}};
    timerfd_settime(fd, 0, &t, NULL);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Let the pairs talk: `conns` holds source and destination of each in turn. */
static void run_traffic(Conn *conns, int pairs, int probes)
{
    struct epoll_event events[MOST_EVENTS];
    int all = 2 * (pairs + probes), ticker = -1;
    double began = now(), from = began + opt.warmup, until = from + opt.seconds;
    double deadline = 0;
    Meters first = {0}, last = {0};
    uint64_t count = 0;

    if (opt.rate > 0) {
        ticker = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        start_ticking(ticker);
    }
    for (int i = 0; i < pairs + probes; i++) {
        Conn *c = &conns[2 * i];
        bool latency = c->partner->echoes && (opt.window == 1 || i >= pairs);
        c->asked = latency ? now() : 0;
        if (latency)
            allow(c, 1);
        else if (opt.rate > 0)
            continue;
        else if (opt.window > 0)
            allow(c, (uint64_t)opt.window);
        else
            allow(c, UINT64_MAX / 2 / c->block.stanza);
    }
    for (;;) {
        int n = epoll_wait(poller, events, MOST_EVENTS, 10);
        if (n < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr != NULL) {
                traffic(events[i].data.ptr, events[i].events);
            } else {
                uint64_t ticks;
                if (read(ticker, &ticks, sizeof ticks) > 0 && !stopped)
                    pace(conns, pairs, began);
            }
        }
        double t = now();
        if (!measuring && !stopped && t >= from) {
            measuring = true;
            count = arrived(conns, pairs);
            first = read_meters();
        } else if (measuring && t >= until) {
            measuring = false;
            count = arrived(conns, pairs) - count;
            last = read_meters();
            deadline = t + DRAIN_SECONDS;
            stop_sending(conns, all);
        }
        if (stopped && (arrived(conns, pairs) == departed(conns, pairs) || t > deadline))
            break;
    }
    printf("{\"rate\": %.1f, \"stanzas\": %llu, \"lost\": %lld, \"bytes\": %zu, \"drain\": %.3f, ",
           (double)count / (last.time - first.time), (unsigned long long)count,
           (long long)(departed(conns, pairs) - arrived(conns, pairs)), conns[0].block.stanza,
           now() - last.time);
    print_meters(first, last);
    if (latency_count > 0) {
        qsort(latencies, latency_count, sizeof *latencies, by_value);
        printf(", \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"samples\": %zu", percentile(0.5),
               percentile(0.99), percentile(0.999), latency_count);
    }
    printf("}\n");
}

static Conn *new_conns(int count)
{
    Conn *conns = calloc((size_t)count, sizeof *conns);
    if (conns == NULL)
        die("out of memory");
    return conns;
}

static void join(Conn *source, Conn *destination, bool echo)
{
    source->partner = destination;
    destination->partner = source;
    source->sends = true;
    destination->echoes = echo;
    source->block = make_block(source->client ? "" : source->address, destination->address);
    destination->block = make_block(destination->address, source->address);
}

/* A managed link that is only cut waits at the server for its resumption: end it. */
static void end_managed(Conn *c)
{
    char text[128];
    double until = now() + 1;
    int n = snprintf(text, sizeof text, "<a xmlns='urn:xmpp:sm:3' h='%llu'/></stream:stream>",
                     (unsigned long long)(c->seen & UINT32_MAX));
    if (conn_write(c, text, (size_t)n) < 0)
        return;
    while (now() < until && conn_read(c, read_buffer, READ_BYTES) >= 0)
        usleep(1000);
}

static void mode_pair(void)
{
    int probes = opt.rate > 0 ? 1 : 0, count = 2 * (opt.pairs + probes);
    Conn *conns = new_conns(count);
    for (int i = 0; i < count; i++)
        conn_init(&conns[i], false, opt.first + i,
                  i % 2 == 1 && opt.other_port ? opt.other_port : opt.port);
    open_all(conns, count);
    if (opt.other_port)
        sleep(1); /* until the servers know of each other's components */
    for (int i = 0; i < count; i += 2)
        join(&conns[i], &conns[i + 1], opt.echo || i >= 2 * opt.pairs);
    run_traffic(conns, opt.pairs, probes);
    for (int i = 0; i < count && opt.managed_link; i++)
        end_managed(&conns[i]);
}

static void mode_relay(void)
{
    int count = 2 * opt.pairs;
    Conn *conns = new_conns(count);
    for (int i = 0; i < opt.pairs; i++) {
        conn_init(&conns[2 * i], true, i % opt.users, opt.client_port);
        conn_init(&conns[2 * i + 1], false, opt.first + i, opt.port);
        conns[2 * i + 1].tls = false;
    }
    open_all(conns, count);
    if (opt.settle)
        sleep(1); /* until the servers of the two know of both */
    for (int i = 0; i < count; i += 2)
        join(&conns[i], &conns[i + 1], true);
    run_traffic(conns, opt.pairs, 0);
}

/* ------------------------------------------------------------ over and over */

/* A connection that became ready, ended or failed: count it, and begin anew. */
static void turn_over(Conn *c, uint64_t *done)
{
    if (c->state == READY) {
        ++*done;
        say(c, ENDING, "</stream:stream>");
        /* A component waits for the end, lest its address be in use when it comes back.
         * A client gets a new resource; some servers keep its old stream for 100 ms. */
        if (c->client)
            conn_close(c);
    } else if (c->state == ENDING && strstr(c->words, "</stream:stream>")) {
        conn_close(c);
    }
    if (c->state == CLOSED)
        conn_open(c);
}

static void over_and_over(bool client)
{
    struct epoll_event events[MOST_EVENTS];
    Conn *conns = new_conns(opt.parallel);
    double from = now() + opt.warmup, until = from + opt.seconds;
    uint64_t done = 0, before = 0;
    Meters first = {0};

    for (int i = 0; i < opt.parallel; i++) {
        conn_init(&conns[i], client, client ? i % opt.users : opt.first + i, opt.port);
        conn_open(&conns[i]);
    }
    for (;;) {
        int n = epoll_wait(poller, events, MOST_EVENTS, 10);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (c->state != ENDING)
                conn_negotiation(c);
            else if (c->heard >= sizeof c->words - 1)
                conn_close(c);
            else {
                ssize_t size = conn_read(c, c->words + c->heard, sizeof c->words - 1 - c->heard);
                if (size < 0)
                    conn_close(c);
                else
                    c->words[c->heard += (size_t)size] = 0;
            }
            turn_over(c, &done);
        }
        double t = now();
        if (!measuring && t >= from) {
            measuring = true;
            before = done;
            first = read_meters();
        } else if (t >= until) {
            Meters last = read_meters();
            done -= before;
            printf("{\"rate\": %.1f, \"done\": %llu, \"failures\": %d, ",
                   (double)done / (last.time - first.time), (unsigned long long)done, failures);
            print_meters(first, last);
            printf(", \"failure\": ");
            print_text(last_failure);
            printf("}\n");
            return;
        }
    }
}

/* ------------------------------------------------------------ idle */

static void mode_idle(void)
{
    struct epoll_event events[MOST_EVENTS];
    Conn *conns = new_conns(opt.count);
    int lost = 0;
    for (int i = 0; i < opt.count; i++)
        conn_init(&conns[i], opt.client, opt.client ? i % opt.users : opt.first + i, opt.port);
    double began = now();
    open_all(conns, opt.count);
    printf("{\"open\": %d, \"seconds\": %.3f}\n", opt.count, now() - began);
    fflush(stdout);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &e) < 0)
        die("standard input must be a pipe");
    for (;;) {
        int n = epoll_wait(poller, events, MOST_EVENTS, -1);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (c == NULL) {
                printf("{\"lost\": %d}\n", lost);
                return;
            }
            ssize_t size;
            while ((size = conn_read(c, read_buffer, READ_BYTES)) > 0)
                ;
            if (size < 0) {
                lost++;
                conn_close(c);
            }
        }
    }
}

/* ------------------------------------------------------------ the sink */

typedef struct Pipe Pipe;
struct Pipe {
    int fd, number;
    bool registered;
    Pipe *other;
    char held[READ_BYTES]; /* read, but not yet taken by the other one */
    size_t from, to;
    char words[2048];
    size_t heard;
};

#define MOST_PIPES 4096
static Pipe *pipes[MOST_PIPES]; /* by component number */

/* Answer a component's header and handshake; both are believed. */
static void sink_negotiate(Pipe *p)
{
    ssize_t n = recv(p->fd, p->words + p->heard, sizeof p->words - 1 - p->heard, 0);
    if (n <= 0) {
        close(p->fd);
        free(p);
        return;
    }
    p->words[p->heard += (size_t)n] = 0;
    const char *to = strstr(p->words, "to='c");
    if (p->number < 0 && to != NULL && strchr(to, '>') != NULL) {
        p->number = atoi(to + 5);
        dprintf(p->fd, "<stream:stream xmlns='jabber:component:accept' id='sink' "
                       "xmlns:stream='http://etherx.jabber.org/streams'>");
    }
    if (strstr(p->words, "</handshake>") != NULL && p->number >= 0 && p->number < MOST_PIPES) {
        p->registered = true;
        pipes[p->number] = p;
        p->other = pipes[p->number ^ 1];
        if (p->other != NULL)
            p->other->other = p;
        dprintf(p->fd, "<handshake/>");
    }
}

static void sink_interest(Pipe *p, bool in, bool out)
{
    struct epoll_event e = {.events = (in ? EPOLLIN : 0u) | (out ? EPOLLOUT : 0u), .data.ptr = p};
    epoll_ctl(poller, EPOLL_CTL_MOD, p->fd, &e);
}

static void sink_close(Pipe *p)
{
    if (p->other != NULL)
        p->other->other = NULL;
    pipes[p->number] = NULL;
    close(p->fd);
    free(p);
}

/* Move bytes from one end to the other; false when `p` is closed. */
static bool sink_forward(Pipe *p)
{
    if (p->from == p->to) {
        ssize_t n = recv(p->fd, p->held, sizeof p->held, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            sink_close(p);
            return false;
        }
        p->from = 0;
        p->to = n > 0 ? (size_t)n : 0;
    }
    if (p->other == NULL) {
        p->from = p->to = 0;
        return true;
    }
    ssize_t n = send(p->other->fd, p->held + p->from, p->to - p->from, MSG_NOSIGNAL);
    p->from += n > 0 ? (size_t)n : 0;
    return true;
}

static void sink_event(Pipe *p, uint32_t events)
{
    if (!p->registered) {
        sink_negotiate(p);
        return;
    }
    Pipe *source = (events & EPOLLOUT) && p->other != NULL ? p->other : NULL;
    if (source != NULL && sink_forward(source) && source->from == source->to) {
        sink_interest(source, true, source->other && source->other->from < source->other->to);
        sink_interest(p, p->from == p->to, false);
    }
    if ((events & (EPOLLIN | EPOLLHUP)) && p->from == p->to && sink_forward(p) &&
        p->from < p->to && p->other != NULL) {
        sink_interest(p, false, false);
        sink_interest(p->other, p->other->from == p->other->to, true);
    }
}

static void mode_sink(void)
{
    struct epoll_event events[MOST_EVENTS];
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)opt.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 512) < 0)
        die("port %d: %s", opt.port, strerror(errno));
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    printf("listening\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poller, events, 1, -1); /* one: a closed pipe is freed at once */
        if (n < 1)
            continue;
        if (events[0].data.ptr != NULL) {
            sink_event(events[0].data.ptr, events[0].events);
            continue;
        }
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Pipe *p = calloc(1, sizeof *p);
        if (p == NULL)
            die("out of memory");
        p->fd = fd;
        p->number = -1;
        e = (struct epoll_event){.events = EPOLLIN, .data.ptr = p};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

/* ------------------------------------------------------------ main */

static void parse_pids(char *text, int *pids, int *count)
{
    for (char *word = strtok(text, ","); word != NULL; word = strtok(NULL, ","))
        if (*count < (int)(sizeof opt.pids / sizeof *opt.pids))
            pids[(*count)++] = atoi(word);
}

static void parse(int count, char **words)
{
    enum { PORT = 1, CLIENT_PORT, TLS, CLIENT, STANZA, ECHO_BACK, PAIRS, WINDOW, RATE, PARALLEL,
           COUNT, FIRST, USERS, SECONDS, WARMUP, DOMAIN, SECRET, PASSWORD, MECHANISM, PIDS, CORE,
           MANAGED, MANAGED_LINK, SASL2, OTHER_PORT, APART, SETTLE };
    static const struct option options[] = {
        {"port", 1, 0, PORT}, {"client-port", 1, 0, CLIENT_PORT}, {"tls", 0, 0, TLS},
        {"client", 0, 0, CLIENT}, {"stanza", 1, 0, STANZA}, {"echo", 0, 0, ECHO_BACK},
        {"pairs", 1, 0, PAIRS}, {"window", 1, 0, WINDOW}, {"rate", 1, 0, RATE},
        {"parallel", 1, 0, PARALLEL}, {"count", 1, 0, COUNT}, {"first", 1, 0, FIRST},
        {"users", 1, 0, USERS}, {"seconds", 1, 0, SECONDS}, {"warmup", 1, 0, WARMUP},
        {"domain", 1, 0, DOMAIN}, {"secret", 1, 0, SECRET}, {"password", 1, 0, PASSWORD},
        {"mechanism", 1, 0, MECHANISM}, {"pids", 1, 0, PIDS}, {"core", 1, 0, CORE},
        {"managed", 0, 0, MANAGED}, {"sasl2", 0, 0, SASL2},
        {"managed-link", 0, 0, MANAGED_LINK}, {"other-port", 1, 0, OTHER_PORT},
        {"apart", 1, 0, APART}, {"settle", 0, 0, SETTLE}, {0},
    };
    int o;
    while ((o = getopt_long(count, words, "", options, NULL)) != -1) {
        switch (o) {
        case PORT: opt.port = atoi(optarg); break;
        case CLIENT_PORT: opt.client_port = atoi(optarg); break;
        case TLS: opt.tls = true; break;
        case CLIENT: opt.client = true; break;
        case STANZA: opt.jingle = strcmp(optarg, "jingle") == 0; break;
        case ECHO_BACK: opt.echo = true; break;
        case PAIRS: opt.pairs = atoi(optarg); break;
        case WINDOW: opt.window = atol(optarg); break;
        case RATE: opt.rate = atof(optarg); break;
        case PARALLEL: opt.parallel = atoi(optarg); break;
        case COUNT: opt.count = atoi(optarg); break;
        case FIRST: opt.first = atoi(optarg); break;
        case USERS: opt.users = atoi(optarg); break;
        case SECONDS: opt.seconds = atof(optarg); break;
        case WARMUP: opt.warmup = atof(optarg); break;
        case DOMAIN: opt.domain = optarg; break;
        case SECRET: opt.secret = optarg; break;
        case PASSWORD: opt.password = optarg; break;
        case MECHANISM: opt.mechanism = optarg; break;
        case PIDS: parse_pids(optarg, opt.pids, &opt.pid_count); break;
        case APART: parse_pids(optarg, opt.apart, &opt.apart_count); break;
        case OTHER_PORT: opt.other_port = atoi(optarg); break;
        case SETTLE: opt.settle = true; break;
        case MANAGED: opt.managed = true; break;
        case MANAGED_LINK: opt.managed_link = true; break;
        case CORE: opt.core = atoi(optarg); break;
        case SASL2: opt.sasl2 = true; break;
        default: exit(2);
        }
    }
    opt.mode = optind < count ? words[optind] : "";
}

static void prepare_tls(void)
{
    tls_context = SSL_CTX_new(TLS_client_method());
    if (tls_context == NULL)
        die("no TLS");
    /* A generator believes anybody; full handshakes only; one curve for all servers. */
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION);
    SSL_CTX_set1_groups_list(tls_context, "P-256");
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
}

int main(int count, char **words)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    parse(count, words);
    poller = epoll_create1(EPOLL_CLOEXEC);
    read_buffer = malloc(16 + READ_BYTES);
    keys = calloc((size_t)opt.users + 1, sizeof *keys);
    if (poller < 0 || read_buffer == NULL || keys == NULL)
        die("out of memory");
    prepare_tls();
    if (strcmp(opt.mode, "pair") == 0)
        mode_pair();
    else if (strcmp(opt.mode, "relay") == 0)
        mode_relay();
    else if (strcmp(opt.mode, "register") == 0)
        over_and_over(false);
    else if (strcmp(opt.mode, "login") == 0)
        over_and_over(true);
    else if (strcmp(opt.mode, "idle") == 0)
        mode_idle();
    else if (strcmp(opt.mode, "sink") == 0)
        mode_sink();
    else
        die("usage: load pair|relay|register|login|idle|sink --port N [options]");
    return 0;
}
