/*
** transfer.c - one POST over libcurl, with what libcurl calls back.
**
** libcurl sends a POST again by itself when a kept connection dies before a
** reply byte. Here the pre-request callback, called each time before request
** bytes leave, refuses the second time; zero calls prove that nothing left.
**
** No callback touches Lua: they write into memory that the engine's userdata
** owns.
*/
#define _GNU_SOURCE             /* SOCK_CLOEXEC */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "request.h"
#include "transfer.h"

#define BODY_START          1024
#define BODY_KEEP           (16 * 1024)     /* larger buffers are given back */
#define AUTH_PREFIX         "auth: "

double ksms_monotonic(void)
{
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void ksms_wipe(char *s, size_t n)
{
    volatile char *p = s;
    while (n-- > 0)
        *p++ = 0;
}

/* Makes room for 'need' elements of 'size'; 0 where there is no memory. */
static int grow(void **array, int *room, int need, size_t size)
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


/* ------------------------------------------------------ libcurl's callbacks */

static curl_socket_t on_open(void *p, curlsocktype purpose,
                             struct curl_sockaddr *a)
{
    engine *e = (engine *)p;
    int fd;
    (void)purpose;
    if (!grow((void **)&e->sockets, &e->sockets_room, e->sockets_count + 1,
              sizeof *e->sockets))
        return CURL_SOCKET_BAD;
    fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    e->sockets[e->sockets_count].fd = fd;
    e->sockets[e->sockets_count++].port = 0;
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

/* The local port of a socket, 0 where it has none. */
static long local_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        return 0;
    if (a.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)(void *)&a)->sin_port);
    if (a.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)(void *)&a)->sin6_port);
    return 0;
}

/*
** Does a kept connection hold bytes, or its end, before we ask anything? A
** reply that nobody asked for would be taken for the answer to this request.
** libcurl tells the local port of the connection it chose, not its socket.
*/
static int is_unclean(const slot *s)
{
    engine *e = s->owner;
    long made = 0, port = 0;
    char byte;
    int i;
    if (e->http2)
        return 0;               /* frames for other streams are usual there */
    if (curl_easy_getinfo(s->easy, CURLINFO_NUM_CONNECTS, &made) != CURLE_OK
        || curl_easy_getinfo(s->easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK)
        return 1;
    for (i = 0; i < e->sockets_count; i++) {
        if (e->sockets[i].port == 0)
            e->sockets[i].port = local_port(e->sockets[i].fd);
        if (made == 0 && e->sockets[i].port == port
            && recv(e->sockets[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
            return 1;
    }
    return 0;
}

#if KSMS_HAVE_PREREQ

static int on_start(void *p, char *to, char *from, int to_port, int from_port)
{
    slot *s = (slot *)p;
    (void)to; (void)from; (void)to_port; (void)from_port;
    if (s->starts > 0)
        return CURL_PREREQFUNC_ABORT;
    if (is_unclean(s)) {
        s->unclean = 1;
        return CURL_PREREQFUNC_ABORT;
    }
    s->starts++;
    return CURL_PREREQFUNC_OK;
}

#else

/* Counts request heads as they leave; the text goes nowhere. */
static int on_debug(CURL *easy, curl_infotype type, char *text, size_t n,
                    void *p)
{
    slot *s = (slot *)p;
    (void)easy;
    if (type == CURLINFO_HEADER_OUT && n >= 5 && memcmp(text, "POST ", 5) == 0)
        s->starts++;
    return 0;
}

/* The body, once. It leaves after the head, so refusing it here still keeps
   the server from ever having read a whole request: where libcurl has begun
   anew, or a reply came first, or bytes that may be one. */
static size_t on_read(char *to, size_t size, size_t n, void *p)
{
    slot *s = (slot *)p;
    size_t left = s->request_len - s->request_read;
    if (s->starts > 1
        || (s->request_read == 0 && (s->head.bytes > 0 || is_unclean(s))))
        return CURL_READFUNC_ABORT;
    n = size * n < left ? size * n : left;
    memcpy(to, s->request + s->request_read, n);
    s->request_read += n;
    return n;
}

#endif

static size_t on_header(char *line, size_t size, size_t n, void *p)
{
    slot *s = (slot *)p;
    s->fault = ksms_head_line(&s->head, line, size * n);
    if (s->fault == NULL && s->head.is_h2 && !s->owner->http2)
        s->fault = "the status line claims another version of HTTP";
    return s->fault == NULL ? size * n : 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *p)
{
    slot *s = (slot *)p;
    n *= size;
    if (n > s->owner->cap - s->body_len) {
        s->fault = "the reply's body is larger than the cap";
        return 0;
    }
    if (s->body_len + n > s->body_size) {
        size_t wanted = s->body_size > 0 ? s->body_size : BODY_START;
        char *body;
        while (wanted < s->body_len + n)
            wanted *= 2;
        body = (char *)realloc(s->body, wanted);
        if (body == NULL) {
            s->fault = "no memory for the reply's body";
            return 0;
        }
        s->body = body;
        s->body_size = wanted;
    }
    memcpy(s->body + s->body_len, data, n);
    s->body_len += n;
    return n;
}


/* -------------------------------------------------------------------- slots */

/* Sets all that never changes on a new easy handle. */
static CURLcode prepare(slot *s)
{
    engine *e = s->owner;
    CURL *easy = s->easy;
    CURLcode rc = CURLE_OK;
#define set(option, value) \
    (rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value))
    set(CURLOPT_CURLU, e->url);
#if KSMS_CURL_GE(85, 0)
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_NOSIGNAL, 1L);
#if KSMS_CURL_GE(87, 0)
    /* Otherwise a hanging name server holds up every transfer. */
    set(CURLOPT_QUICK_EXIT, 1L);
#endif
    set(CURLOPT_ERRORBUFFER, s->error);
    set(CURLOPT_USERAGENT, KSMS_USER_AGENT);
    set(CURLOPT_HTTPHEADER, &s->auth_node);
    set(CURLOPT_HTTP_VERSION, (long)(e->http2 ? CURL_HTTP_VERSION_2TLS
                                              : CURL_HTTP_VERSION_1_1));
    set(CURLOPT_PIPEWAIT, (long)e->http2);
    if (e->max_idle > 0)
        set(CURLOPT_MAXAGE_CONN, e->max_idle);
    else
        set(CURLOPT_FORBID_REUSE, 1L);
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
    set(CURLOPT_HEADERFUNCTION, on_header);
    set(CURLOPT_HEADERDATA, s);
    set(CURLOPT_WRITEFUNCTION, on_body);
    set(CURLOPT_WRITEDATA, s);
    set(CURLOPT_PRIVATE, s);
    set(CURLOPT_POST, 1L);
#if KSMS_HAVE_PREREQ
    set(CURLOPT_PREREQFUNCTION, on_start);
    set(CURLOPT_PREREQDATA, s);
    set(CURLOPT_POSTFIELDS, s->request);
#else
    set(CURLOPT_READFUNCTION, on_read);
    set(CURLOPT_READDATA, s);
    set(CURLOPT_DEBUGFUNCTION, on_debug);
    set(CURLOPT_DEBUGDATA, s);
    set(CURLOPT_VERBOSE, 1L);
#endif
#undef set
    return rc;
}

slot *ksms_new_slot(engine *e)
{
    slot *s = e->free;
    if (s != NULL) {
        e->free = s->next;
        return s;
    }
    if (!grow((void **)&e->slots, &e->room, e->count + 1, sizeof *e->slots))
        return NULL;
    s = (slot *)calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    e->slots[e->count++] = s;
    s->owner = e;
    s->number = e->count;
    s->auth_node.next = &e->content_type;
    return s;
}

void ksms_free_slot(slot *s)
{
    s->state = FREE;
    s->next = s->owner->free;
    s->owner->free = s;
    if (s->body_size > BODY_KEEP) {
        free(s->body);
        s->body = NULL;
        s->body_size = 0;
    }
}

void ksms_finish(slot *s, CURLcode code)
{
    engine *e = s->owner;
    s->code = code;
    s->state = DONE;
    s->next = NULL;
    if (e->done == NULL)
        e->done = s;
    else
        e->done_last->next = s;
    e->done_last = s;
    e->flying--;
}

int ksms_set_token(slot *s, const char *token, size_t n)
{
    const size_t prefix = sizeof AUTH_PREFIX - 1;
    if (s->auth_size < prefix + n + 1) {
        char *auth = (char *)malloc(prefix + n + 1);
        if (auth == NULL)
            return 0;
        if (s->auth != NULL)
            ksms_wipe(s->auth, s->auth_size);
        free(s->auth);
        s->auth = s->auth_node.data = auth;
        s->auth_size = prefix + n + 1;
        memcpy(auth, AUTH_PREFIX, prefix);
    }
    memcpy(s->auth + prefix, token, n);
    s->auth[prefix + n] = '\0';
    return 1;
}

/* Sets on the easy handle what differs from its last transfer. */
static CURLcode adjust(slot *s)
{
    double left = ceil((s->deadline - ksms_monotonic()) * 1000);
    long timeout = left < 1 ? 1 : left > 1e9 ? 1000000000L : (long)left;
    CURLcode rc = CURLE_OK;
    if (s->timeout != timeout)
        rc = curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, timeout);
    if (rc == CURLE_OK && s->connect_timeout != s->connect_wanted)
        rc = curl_easy_setopt(s->easy, CURLOPT_CONNECTTIMEOUT_MS,
                              s->connect_wanted);
    if (rc == CURLE_OK && s->request_set != (long)s->request_len)
        rc = curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE,
                              (long)s->request_len);
    if (rc == CURLE_OK && s->fresh_set != s->fresh)
        rc = curl_easy_setopt(s->easy, CURLOPT_FRESH_CONNECT, (long)s->fresh);
    s->timeout = timeout;
    s->connect_timeout = s->connect_wanted;
    s->request_set = (long)s->request_len;
    s->fresh_set = s->fresh;
    return rc;
}

const char *ksms_launch(slot *s)
{
    engine *e = s->owner;
    CURLcode rc = CURLE_OK;
    CURLMcode mc;
    if (e->tainted)
        s->fresh = 1;
    if (s->easy == NULL) {
        if ((s->easy = curl_easy_init()) == NULL)
            return "libcurl gave no handle";
        s->timeout = s->connect_timeout = s->request_set = s->fresh_set = -1;
        rc = prepare(s);
    }
    if (rc == CURLE_OK)
        rc = adjust(s);
    if (rc != CURLE_OK) {
        curl_easy_cleanup(s->easy);
        s->easy = NULL;
        return curl_easy_strerror(rc);
    }
    s->starts = s->unclean = 0;
    s->fault = s->lost = NULL;
    s->error[0] = '\0';
    s->body_len = s->request_read = 0;
    ksms_head_reset(&s->head);
    mc = curl_multi_add_handle(e->multi, s->easy);
    if (mc != CURLM_OK)
        return curl_multi_strerror(mc);
    s->state = FLYING;
    e->flying++;
    return NULL;
}

void ksms_ground(slot *s)
{
    /* The only failures here are handles that are none. */
    (void)curl_multi_remove_handle(s->owner->multi, s->easy);
}


const char *ksms_phase(const slot *s)
{
    curl_off_t resolved = 0, connected = 0;
    long answer = 0, port = 0;
    CURL *easy = s->easy;
    if (easy == NULL
        || curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved)
           != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected)
           != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK
        || curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &answer)
           != CURLE_OK)
        return "connect";
    if (resolved == 0)
        return "resolve";
    /* A connection that tunnels counts as one only behind the proxy. */
    if (s->owner->proxy != NULL && port > 0 && answer / 100 != 2)
        return "proxy";
    return connected == 0 ? "connect" : "tls";
}

const char *ksms_failure_text(const slot *s)
{
    if (s->fault != NULL)
        return s->fault;
    if (s->lost != NULL)
        return s->lost;
    if (s->starts > 0 && s->code == CURLE_ABORTED_BY_CALLBACK)
        return "the connection died without an answer";
    return s->error[0] != '\0' ? s->error : curl_easy_strerror(s->code);
}
