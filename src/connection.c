/*
** connection.c - connections that libcurl makes: names, addresses, proxies, TLS, and the sockets
** themselves.
*/
#define _GNU_SOURCE /* SOCK_CLOEXEC */

#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "descriptors.h"

/* Seconds between two looks at all idle connections. */
#define SWEEP_INTERVAL 1.0

/* Seconds for which libcurl keeps the addresses of a name: enough for those who connect together,
   and short, since a name is how a service moves to another machine. */
#define NAME_CACHE 5L

/* macOS has no flag for sockets that no other program inherits. May be given on the command line,
   to compile what is done there. */
#ifndef KSMS_HAVE_SOCK_CLOEXEC
#ifdef SOCK_CLOEXEC
#define KSMS_HAVE_SOCK_CLOEXEC 1
#else
#define KSMS_HAVE_SOCK_CLOEXEC 0
#endif
#endif

/* A socket that no program started from here inherits. */
static int new_socket(const struct curl_sockaddr *a)
{
#if KSMS_HAVE_SOCK_CLOEXEC
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
#else
    int fd = socket(a->family, a->socktype, a->protocol);
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
#endif
}

/* The port that libcurl wants to connect to. */
static long port_of(const struct curl_sockaddr *a)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (a->family == AF_INET && a->addrlen >= sizeof v4) {
        memcpy(&v4, (const void *)&a->addr, sizeof v4);
        return ntohs(v4.sin_port);
    }
    if (a->family == AF_INET6 && a->addrlen >= sizeof v6) {
        memcpy(&v6, (const char *)a + offsetof(struct curl_sockaddr, addr), sizeof v6);
        return ntohs(v6.sin6_port);
    }
    return -1;
}

static curl_socket_t on_open(void *p, curlsocktype purpose, struct curl_sockaddr *a)
{
    ksms_engine *e = (ksms_engine *)p;
    struct stat status;
    int fd;
    (void)purpose;
    if (e->proxy != NULL && port_of(a) != e->proxy_port) {
        e->bypassed_proxy = 1;
        return CURL_SOCKET_BAD;
    }
    if (!ksms_grow((void **)&e->sockets, &e->sockets_room, e->sockets_count + 1,
                   sizeof *e->sockets))
        return CURL_SOCKET_BAD;
    fd = ksms_above_standard(new_socket(a));
    if (fd < 0)
        return CURL_SOCKET_BAD;
    if (fstat(fd, &status) != 0) {
        (void)close(fd);
        return CURL_SOCKET_BAD;
    }
    e->sockets[e->sockets_count].fd = fd;
    e->sockets[e->sockets_count++].inode = status.st_ino;
    return fd;
}

static int close_socket(ksms_engine *e, int fd)
{
    int i;
    for (i = 0; i < e->sockets_count; i++) {
        if (e->sockets[i].fd == fd) {
            e->sockets[i] = e->sockets[--e->sockets_count];
            break;
        }
    }
    return close(fd);
}

/*
** Whenever libcurl connects, it closes what it keeps and finds dead, connections that only we use
** among them. Their descriptor would then stand for the next connection, and a request would get
** the answer to another. So it stays open until we close it; what TLS had to say is lost.
*/
static int on_close(void *p, curl_socket_t fd)
{
    ksms_engine *e = (ksms_engine *)p;
    int i;
    for (i = 0; i < e->count; i++) {
        ksms_connection *c = e->connections[i];
        if (c->fd == fd && c->easy != NULL) {
            c->given_up = 1;
            return 0;
        }
    }
    return close_socket(e, fd);
}

/*
** While something comes from a proxy, libcurl reads its answer and looks at no clock. This is asked
** meanwhile, and ends that where the time is over.
*/
static int on_progress(void *p, curl_off_t to_get, curl_off_t got, curl_off_t to_send,
                       curl_off_t sent)
{
    const ksms_connection *c = (const ksms_connection *)p;
    const ksms_request *r = c->request;
    double now = ksms_now();
    (void)to_get, (void)got, (void)to_send, (void)sent;
    return r != NULL
           && (now >= r->deadline || (now - c->made) * 1000 >= (double)r->connect_timeout);
}

/* What all connections have in common: TLS, proxy, sockets, limits. */
static CURLcode set_options(ksms_connection *c, long connect_timeout)
{
    ksms_engine *e = c->engine;
    CURL *easy = c->easy;
    CURLcode rc = CURLE_OK;
#define set(option, value) (rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value))
    set(CURLOPT_CURLU, e->url);
    set(CURLOPT_CONNECT_ONLY, 1L);
    set(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    set(CURLOPT_CONNECTTIMEOUT_MS, connect_timeout);
    set(CURLOPT_DNS_CACHE_TIMEOUT, NAME_CACHE);
    set(CURLOPT_PRIVATE, c);
    /* What libcurl takes for idle is in use by us. */
    set(CURLOPT_MAXAGE_CONN, 365L * 86400);
    set(CURLOPT_NOSIGNAL, 1L);
#if KSMS_CURL_GE(87, 0)
    /* Otherwise a name server that does not answer holds up the end of the program. */
    set(CURLOPT_QUICK_EXIT, 1L);
#endif
    set(CURLOPT_ERRORBUFFER, c->error);
    /* An empty proxy and an empty list of exceptions keep libcurl from reading http_proxy and
       no_proxy from the environment. */
    set(CURLOPT_PROXY, e->proxy != NULL ? e->proxy : "");
    set(CURLOPT_NOPROXY, "");
    /* In the address libcurl would quote them in its texts; and where it cannot decode one there,
       it connects without the proxy. */
    if (e->proxy_user != NULL) {
        set(CURLOPT_PROXYUSERNAME, e->proxy_user);
        set(CURLOPT_PROXYPASSWORD, e->proxy_password);
    }
    if (e->proxy != NULL) {
        set(CURLOPT_XFERINFOFUNCTION, on_progress);
        set(CURLOPT_XFERINFODATA, c);
        set(CURLOPT_NOPROGRESS, 0L);
    }
    set(CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    set(CURLOPT_HTTPPROXYTUNNEL, 1L);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    /* Else OpenSSL asks for it, on the terminal or on standard input, and waits. */
    set(CURLOPT_KEYPASSWD, "");
    if (e->client_cert != NULL)
        set(CURLOPT_SSLCERT, e->client_cert);
    if (e->client_key != NULL)
        set(CURLOPT_SSLKEY, e->client_key);
    set(CURLOPT_OPENSOCKETFUNCTION, on_open);
    set(CURLOPT_OPENSOCKETDATA, e);
    set(CURLOPT_CLOSESOCKETFUNCTION, on_close);
    set(CURLOPT_CLOSESOCKETDATA, e);
#undef set
    if (rc != CURLE_OK || e->direct)
        return rc;
    return ksms_trust(e->authorities, e->ca_file, easy, &c->authorities);
}

/* Makes room for a connection more, and for what a step needs of each: once a request has begun
   no memory is asked for. 0 where there is none. */
static int make_room(ksms_engine *e)
{
    int need = e->count + 1;
    return ksms_grow((void **)&e->connections, &e->room, need, sizeof *e->connections)
           && ksms_grow((void **)&e->polled, &e->polled_room, need, sizeof *e->polled)
           && ksms_grow((void **)&e->waited, &e->waited_room, need, sizeof *e->waited)
           && ksms_grow((void **)&e->ready, &e->ready_room, need, sizeof *e->ready);
}

/* A connection in the engine's array, with nothing in it yet; NULL where there is no memory. */
static ksms_connection *new_connection(ksms_engine *e)
{
    ksms_connection *c;
    if (!make_room(e))
        return NULL;
    c = (ksms_connection *)calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->engine = e;
    c->fd = CURL_SOCKET_BAD;
    c->state = KSMS_BUSY;
    c->number = e->count;
    e->connections[e->count++] = c;
    return c;
}

void ksms_close_connection(ksms_connection *c)
{
    ksms_engine *e = c->engine;
    assert(c->request == NULL && e->connections[c->number] == c);
    if (c->state == KSMS_CONNECTING)
        e->connecting--;
#if !KSMS_CURL_GE(85, 0)
    /* There libcurl only puts the connection back among those it keeps, for minutes, and closes
       it when it next looks for dead ones: this makes it one. */
    if (c->fd != CURL_SOCKET_BAD)
        (void)shutdown(c->fd, SHUT_RDWR);
#endif
    if (c->easy != NULL) {
        CURL *easy = c->easy;
        c->easy = NULL; /* from now on its socket is libcurl's to close */
        /* The only failure here is a handle that is in no multi. */
        (void)curl_multi_remove_handle(e->multi, easy);
        curl_easy_cleanup(easy);
    }
    ksms_release_authorities(c->authorities);
    if (c->given_up)
        (void)close_socket(e, c->fd);
    e->connections[c->number] = e->connections[--e->count];
    e->connections[c->number]->number = c->number;
    free(c);
}

#define NO_DESCRIPTOR \
    "no descriptor is left for a connection; raise the limit of open files (ulimit -n, " \
    "LimitNOFILE), or lower the concurrency"

ksms_connection *ksms_connect(ksms_engine *e, ksms_request *r)
{
    ksms_connection *c;
    CURLcode rc;
    if (!ksms_has_descriptors(e->descriptors)) {
        r->failure = "connect";
        r->text = NO_DESCRIPTOR;
        r->state = KSMS_FINISHED;
        return NULL;
    }
    c = new_connection(e);
    if (c == NULL)
        return NULL;
    if ((c->easy = curl_easy_init()) == NULL) {
        ksms_close_connection(c);
        return NULL;
    }
    e->bypassed_proxy = 0;
    rc = set_options(c, r->connect_timeout);
    if (rc == CURLE_OK && curl_multi_add_handle(e->multi, c->easy) != CURLM_OK)
        rc = CURLE_OUT_OF_MEMORY; /* nothing else can be wrong with a new handle */
    if (rc == CURLE_OK) {
        c->state = KSMS_CONNECTING;
        c->made = ksms_now();
        e->connecting++;
        return c;
    }
    ksms_close_connection(c);
    if (rc != CURLE_OUT_OF_MEMORY) {
        r->code = rc;
        r->failure = "connect";
        r->state = KSMS_FINISHED;
    }
    return NULL;
}

/* How far a failed connection had come. */
static const char *failed_phase(const ksms_engine *e, CURL *easy)
{
    curl_off_t resolved = 0, connected = 0;
    long answer = 0, port = 0;
    if (curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved) != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected) != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &answer) != CURLE_OK)
        return "connect";
    if (resolved == 0)
        return "resolve";
    /* A connection that tunnels counts as one only behind the proxy; libcurl 8 forgets its port
       where it fails, but tells when it was made. */
    if (e->proxy != NULL && answer / 100 != 2 && (port > 0 || connected > 0))
        return "proxy";
    return connected == 0 ? "connect" : "handshake";
}

/* Did a connection that works come about past the proxy? A tunnel through one that speaks HTTP
   has the status of its answer; where SOCKS is spoken the port was looked at. */
static int is_past_proxy(const ksms_engine *e, CURL *easy)
{
    long answer = 0;
    return e->proxy != NULL && strncmp(e->proxy, "http", 4) == 0
           && (curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &answer) != CURLE_OK
               || answer / 100 != 2);
}

/* libcurl has connected, or could not. */
static void connect_ended(ksms_connection *c, CURLcode code)
{
    ksms_request *r = c->request;
    assert(c->state == KSMS_CONNECTING && r != NULL);
    if (code == CURLE_OK ? is_past_proxy(c->engine, c->easy) : c->engine->bypassed_proxy) {
        ksms_fail_request(r, "proxy", "libcurl did not go through the proxy (setting proxy)");
        return;
    }
    if (code == CURLE_OK && curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &c->fd) == CURLE_OK
        && c->fd != CURL_SOCKET_BAD) {
        c->engine->connecting--;
        c->state = KSMS_BUSY;
        c->made = ksms_now();
        ksms_connected(c);
        return;
    }
    /* Those that connect at the same time may have taken what was there before. */
    if (!ksms_has_descriptors(c->engine->descriptors)) {
        ksms_fail_request(r, "connect", NO_DESCRIPTOR);
        return;
    }
    if (code == CURLE_ABORTED_BY_CALLBACK && ksms_now() >= r->deadline) {
        ksms_fail_request(r, "timeout", KSMS_NOT_CONNECTED);
        return;
    }
    r->code = code != CURLE_OK ? code : CURLE_COULDNT_CONNECT;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        r->code = CURLE_OPERATION_TIMEDOUT;
    else
        memcpy(r->error, c->error, sizeof r->error);
    ksms_fail_request(r, failed_phase(c->engine, c->easy), NULL);
}

void ksms_advance_connects(ksms_engine *e)
{
    CURLMsg *message;
    int running, left, i;
    if (curl_multi_perform(e->multi, &running) != CURLM_OK) {
        for (i = e->count - 1; i >= 0; i--) {
            ksms_connection *c = e->connections[i];
            if (c->state == KSMS_CONNECTING) {
                c->request->code = CURLE_COULDNT_CONNECT;
                ksms_fail_request(c->request, "connect", "libcurl gave up all connections");
            }
        }
        return;
    }
    while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
        char *p = NULL;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE
            && curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &p) == CURLE_OK
            && p != NULL)
            connect_ended((ksms_connection *)(void *)p, code);
    }
}

/* ---- idle connections ---- */

/* Has nothing arrived, not even the end, on a connection that nobody asks? */
static int is_clean(ksms_connection *c)
{
    char byte;
    size_t n;
    if (c->given_up)
        return 0;
    if (!c->engine->direct)
        return curl_easy_recv(c->easy, &byte, 1, &n) == CURLE_AGAIN;
    return recv(c->fd, &byte, 1, MSG_PEEK) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* Closes the idle connections that have become too old: those at the stack's bottom. */
static void close_old(ksms_engine *e, double now)
{
    ksms_connection **place = &e->idle, *c, *next;
    while (*place != NULL && now - (*place)->idle_since < e->max_idle)
        place = &(*place)->next;
    c = *place;
    *place = NULL;
    for (; c != NULL; c = next) {
        next = c->next;
        ksms_close_connection(c);
    }
    e->last_sweep = now;
}

ksms_connection *ksms_take_idle(ksms_engine *e)
{
    double now = ksms_now();
    ksms_connection *c;
    if (now - e->last_sweep >= SWEEP_INTERVAL)
        close_old(e, now);
    while ((c = e->idle) != NULL) {
        e->idle = c->next;
        assert(c->state == KSMS_IDLE && c->request == NULL);
        if (now - c->idle_since < e->max_idle && now - c->made < e->max_age && is_clean(c)) {
            c->state = KSMS_BUSY;
            return c;
        }
        ksms_close_connection(c);
    }
    return NULL;
}

void ksms_keep_idle(ksms_connection *c)
{
    ksms_engine *e = c->engine;
    assert(c->state == KSMS_BUSY && c->request == NULL);
    c->state = KSMS_IDLE;
    c->idle_since = ksms_now();
    c->next = e->idle;
    e->idle = c;
}

void ksms_detach_connections(ksms_engine *e)
{
    struct stat status;
    int i;
    for (i = 0; i < e->sockets_count; i++) {
        if (fstat(e->sockets[i].fd, &status) == 0 && S_ISSOCK(status.st_mode)
            && status.st_ino == e->sockets[i].inode)
            (void)close(e->sockets[i].fd);
    }
    /* The handles stay as they are: to clean them up would say goodbye in the parent's name. */
    for (i = 0; i < e->count; i++) {
        ksms_release_authorities(e->connections[i]->authorities);
        free(e->connections[i]);
    }
    e->sockets_count = e->count = e->connecting = 0;
    e->idle = NULL;
    e->multi = NULL;
}
