/*
** slot.c - requests and connections in general: memory, time, sockets, and the
** options that each connection has whoever speaks over it.
*/
#define _GNU_SOURCE             /* SOCK_CLOEXEC */

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

#define BODY_KEEP           (16 * 1024)     /* larger buffers are given back */

double ksms_monotonic(void)
{
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

long ksms_ms_until(double when)
{
    double left = ceil((when - ksms_monotonic()) * 1000);
    return left < 1 ? 1 : left > 1e9 ? 1000000000L : (long)left;
}

int ksms_grow(void **array, int *room, int need, size_t size)
{
    int wanted = *room > 0 ? *room : 8;
    void *p;
    if (need <= *room)
        return 1;
    while (wanted < need)
        wanted *= 2;
    p = realloc(*array, (size_t)wanted * size);
    if (p == NULL)
        return 0;
    *array = p;
    *room = wanted;
    return 1;
}

slot *ksms_new_slot(engine *e)
{
    slot *s = e->free;
    if (s != NULL) {
        e->free = s->next;
        return s;
    }
    if (!ksms_grow((void **)&e->slots, &e->room, e->count + 1,
                   sizeof *e->slots))
        return NULL;
    s = (slot *)calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    e->slots[e->count++] = s;
    s->owner = e;
    s->number = e->count;
    return s;
}

void ksms_free_slot(slot *s)
{
    s->state = KSMS_FREE;
    s->next = s->owner->free;
    s->owner->free = s;
    if (s->reader.body.size > BODY_KEEP)
        ksms_reader_release(&s->reader);
}

void ksms_finish(slot *s, CURLcode code)
{
    engine *e = s->owner;
    s->code = code;
    s->state = KSMS_ENDED;
    s->next = NULL;
    if (e->ended == NULL)
        e->ended = s;
    else
        e->ended_last->next = s;
    e->ended_last = s;
    e->flying--;
}


/* -------------------------------------------------------------- connections */

/* A socket that no program started from here inherits. macOS has no flag for it. */
static int new_socket(const struct curl_sockaddr *a)
{
#ifdef SOCK_CLOEXEC
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
#else
    int fd = socket(a->family, a->socktype, a->protocol);
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
#endif
}

static curl_socket_t on_open(void *p, curlsocktype purpose,
                             struct curl_sockaddr *a)
{
    engine *e = (engine *)p;
    struct stat what;
    int fd;
    (void)purpose;
    if (!ksms_grow((void **)&e->sockets, &e->sockets_room,
                   e->sockets_count + 1, sizeof *e->sockets))
        return CURL_SOCKET_BAD;
    fd = new_socket(a);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    if (fstat(fd, &what) != 0) {
        (void)close(fd);
        return CURL_SOCKET_BAD;
    }
    e->sockets[e->sockets_count].fd = fd;
    e->sockets[e->sockets_count++].inode = what.st_ino;
    return fd;
}

static int on_close(void *p, curl_socket_t fd)
{
    engine *e = (engine *)p;
    int i;
    for (i = 0; i < e->sockets_count; i++) {
        if (e->sockets[i].fd == fd) {
            e->sockets[i] = e->sockets[--e->sockets_count];
            break;
        }
    }
    return close(fd);
}

void ksms_close_sockets(engine *e)
{
    struct stat what;
    int i;
    for (i = 0; i < e->sockets_count; i++) {
        if (fstat(e->sockets[i].fd, &what) == 0 && S_ISSOCK(what.st_mode)
            && what.st_ino == e->sockets[i].inode)
            (void)close(e->sockets[i].fd);
    }
    e->sockets_count = 0;
}

CURLM *ksms_new_multi(void)
{
    CURLM *multi = curl_multi_init();
    /* The default of 100 would spread a larger stream over more connections
       than HTTP/2 needs. */
    if (multi != NULL
        && curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, 1024L)
           != CURLM_OK) {
        (void)curl_multi_cleanup(multi);
        multi = NULL;
    }
    return multi;
}

CURLcode ksms_connection(CURL *easy, engine *e, char *error)
{
    CURLcode rc = CURLE_OK;
#define set(option, value) \
    (rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value))
    set(CURLOPT_CURLU, e->url);
#if KSMS_CURL_GE(85, 0)
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    set(CURLOPT_NOSIGNAL, 1L);
#if KSMS_CURL_GE(87, 0)
    /* Otherwise a hanging name server holds up every transfer. */
    set(CURLOPT_QUICK_EXIT, 1L);
#endif
    set(CURLOPT_ERRORBUFFER, error);
    /* An empty proxy and an empty list of exceptions keep libcurl from
       reading http_proxy and no_proxy from the environment. */
    set(CURLOPT_PROXY, e->proxy != NULL ? e->proxy : "");
    set(CURLOPT_NOPROXY, "");
    set(CURLOPT_HTTPPROXYTUNNEL, 1L);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    if (e->ca_file != NULL) {
        set(CURLOPT_CAINFO, e->ca_file);
        set(CURLOPT_CAPATH, NULL);
    }
    if (e->client_cert != NULL)
        set(CURLOPT_SSLCERT, e->client_cert);
    if (e->client_key != NULL)
        set(CURLOPT_SSLKEY, e->client_key);
    set(CURLOPT_OPENSOCKETFUNCTION, on_open);
    set(CURLOPT_OPENSOCKETDATA, e);
    set(CURLOPT_CLOSESOCKETFUNCTION, on_close);
    set(CURLOPT_CLOSESOCKETDATA, e);
#undef set
    return rc;
}

const char *ksms_phase(const engine *e, CURL *easy)
{
    curl_off_t resolved = 0, connected = 0;
    long answer = 0, port = 0;
    if (curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved)
           != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected)
           != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &answer)
           != CURLE_OK)
        return "connect";
    if (resolved == 0)
        return "resolve";
    /* A connection that tunnels counts as one only behind the proxy; libcurl 8
       forgets its port where it fails, but tells when it was made. */
    if (e->proxy != NULL && answer / 100 != 2 && (port > 0 || connected > 0))
        return "proxy";
    return connected == 0 ? "connect" : "tls";
}
