/*
** engine.c - opens koresms.curl: requests in, replies out, over one libcurl
** multi handle. It knows no policy: it says what came back, how often request
** bytes began to leave, and how far a failure got.
**
** libcurl sends a POST again by itself when a kept connection dies before a
** reply byte. Here the pre-request callback, called each time before request
** bytes leave, refuses the second time; zero calls prove that nothing left.
**
** No callback touches Lua: they write into memory that the engine's userdata
** owns, and finished transfers are collected by an explicit call.
*/
#define _GNU_SOURCE             /* dladdr, RTLD_NODELETE, SOCK_CLOEXEC */

#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__has_include)
#if !__has_include(<curl/curl.h>)
#error "koresms needs libcurl's headers: install libcurl4-openssl-dev (Debian, Ubuntu), libcurl-devel (Fedora), curl-dev (Alpine) or curl (Homebrew)"
#endif
#endif

#include <curl/curl.h>

#include "fork.h"
#include "head.h"
#include "koresms.h"
#include "request.h"

#define KSMS_CURL_GE(a, b)  (LIBCURL_VERSION_NUM >= ((7 << 16) + ((a) << 8) + (b)))

#if !KSMS_CURL_GE(66, 0)
#error "koresms needs libcurl 7.66 or newer (curl_multi_poll)"
#endif

/* Without the pre-request callback (or where the build asks for it) the body
   is given by a callback that cannot rewind: libcurl then cannot repeat it. */
#if KSMS_CURL_GE(80, 0) && !defined(KSMS_NO_PREREQ)
#define HAVE_PREREQ         1
#else
#define HAVE_PREREQ         0
#endif

#define ENGINE              "koresms.engine"

#define BODY_START          1024
#define BODY_KEEP           (16 * 1024)     /* larger buffers are given back */
#define REQUEST_MAX         128             /* the JSON body of one message */
#define AUTH_PREFIX         "auth: "

/* A caller that stays away longer than this between two steps (seconds) has
   its transfers wait for it: their clock stands still meanwhile. */
#define ABSENCE             0.05

enum state { FREE, FLYING, DONE };

typedef struct engine engine;

/* One transfer. A slot is never moved: libcurl holds its address. */
typedef struct slot {
    engine *owner;
    CURL *easy;
    struct slot *next;          /* in the list of free or of done slots */
    int number;                 /* what Lua calls the ticket */
    enum state state;
    int starts;                 /* times request bytes began to leave */
    int fresh;                  /* this transfer wants a new connection */
    int unclean;                /* a kept connection had bytes that nobody asked for */
    int lost;                   /* the transfer ended without libcurl's word */
    const char *fault;          /* why the reply was refused, static text */
    CURLcode code;
    double begun;               /* on the monotonic clock, like all times */
    double deadline;
    long timeout, connect_timeout;      /* as set on 'easy', ms */
    long request_set;
    int fresh_set;
    long connect_wanted;
    ksms_head head;
    char *body;
    size_t body_len, body_size;
    char request[REQUEST_MAX];
    size_t request_len, request_read;
    char *auth;                 /* the header line with the token */
    size_t auth_size;
    struct curl_slist auth_node;        /* first of the header list */
    char error[CURL_ERROR_SIZE];
} slot;

struct engine {
    CURLM *multi;               /* made at the first use in each process */
    unsigned forks;             /* of the process that made it */
    slot **slots;
    int count, room;
    slot *free, *done, *done_last;
    int flying;
    double left;                /* when the last step ended; 0 before it */
    int extended;               /* some deadlines are later than libcurl knows */
    struct {
        int fd;
        long port;              /* the local one; 0 until it is known */
    } *sockets;                 /* the open ones */
    int sockets_count, sockets_room;
    size_t cap;
    long max_idle;
    int http2;
    int closed;
    struct curl_slist content_type;     /* rest of every header list */
    CURLU *url;                 /* parsed once */
    char *proxy, *ca_file, *client_cert, *client_key;
};

static char content_type_line[] = "Content-Type: application/json";

static double monotonic(void)
{
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A token must not outlive its request in freed memory. */
static void wipe(char *s, size_t n)
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

#if HAVE_PREREQ

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
   the server from ever having read a whole request. */
static size_t on_read(char *to, size_t size, size_t n, void *p)
{
    slot *s = (slot *)p;
    size_t left = s->request_len - s->request_read;
    if (s->request_read == 0 && is_unclean(s))
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
#if HAVE_PREREQ
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

/* A free slot, or NULL where there is no memory. */
static slot *new_slot(engine *e)
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

static void free_slot(slot *s)
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

/* The transfer has ended; it waits to be taken. */
static void finish(slot *s, CURLcode code)
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

/* Copies the token into the header line; 0 where there is no memory. */
static int set_token(slot *s, const char *token, size_t n)
{
    const size_t prefix = sizeof AUTH_PREFIX - 1;
    if (s->auth_size < prefix + n + 1) {
        char *auth = (char *)malloc(prefix + n + 1);
        if (auth == NULL)
            return 0;
        if (s->auth != NULL)
            wipe(s->auth, s->auth_size);
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
    double left = ceil((s->deadline - monotonic()) * 1000);
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

/* Puts a filled slot into the air; NULL, or what went wrong. */
static const char *launch(slot *s)
{
    engine *e = s->owner;
    CURLcode rc = CURLE_OK;
    CURLMcode mc;
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
    s->starts = s->unclean = s->lost = 0;
    s->fault = NULL;
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

/* Takes a flying slot out of the air. */
static void ground(slot *s)
{
    /* The only failures here are handles that are none. */
    (void)curl_multi_remove_handle(s->owner->multi, s->easy);
}


/* ------------------------------------------------------------------- engine */

/*
** The first call in a forked child: the connections are the parent's. Their
** descriptors are closed here, which the peer does not see, and the handles
** are left alone, since to clean them up would say goodbye in their name.
** What was in flight may still be sent by the parent: nobody knows here.
*/
static void leave_parent(engine *e)
{
    int i;
    for (i = 0; i < e->sockets_count; i++)
        (void)close(e->sockets[i].fd);
    e->sockets_count = 0;
    e->multi = NULL;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        s->easy = NULL;
        if (s->state == FLYING) {
            s->starts = 1;
            s->lost = 1;
            finish(s, CURLE_RECV_ERROR);
        }
    }
}

/* NULL, or what keeps the engine from being used in this process. */
static const char *enter(engine *e)
{
    if (e->multi != NULL && e->forks != ksms_forks)
        leave_parent(e);
    if (e->multi == NULL) {
        if ((e->multi = curl_multi_init()) == NULL)
            return "libcurl gave no multi handle";
        e->forks = ksms_forks;
    }
    return NULL;
}

/* libcurl has lost its way: every transfer in the air ends here. */
static void fail_all(engine *e)
{
    int i;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        if (s->state == FLYING) {
            ground(s);
            s->lost = 1;
            finish(s, CURLE_RECV_ERROR);
        }
    }
}

/* One ended transfer: done, or once more where not a byte had left. */
static void land(slot *s, CURLcode code)
{
    ground(s);
    if (s->unclean && !s->fresh && s->starts == 0) {
        s->fresh = 1;
        s->owner->flying--;
        s->state = FREE;
        if (launch(s) == NULL)
            return;
        s->owner->flying++;
    }
    finish(s, code);
}

static void collect(engine *e)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
        char *p = NULL;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE
            && curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &p)
               == CURLE_OK && p != NULL)
            land((slot *)(void *)p, code);
    }
}

static void perform(engine *e)
{
    int running;
    if (curl_multi_perform(e->multi, &running) != CURLM_OK)
        fail_all(e);
    else
        collect(e);
}

/* Frees all that a process owns; works on a zeroed engine and twice. */
static void shut(engine *e)
{
    int i;
    if (e->multi != NULL && e->forks != ksms_forks)
        leave_parent(e);
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        if (s->easy != NULL) {
            if (s->state == FLYING)
                ground(s);
            curl_easy_cleanup(s->easy);
        }
        if (s->auth != NULL)
            wipe(s->auth, s->auth_size);
        free(s->auth);
        free(s->body);
        free(s);
    }
    if (e->multi != NULL)
        (void)curl_multi_cleanup(e->multi);
    free(e->slots);
    free(e->sockets);
    curl_url_cleanup(e->url);
    free(e->proxy);
    free(e->ca_file);
    free(e->client_cert);
    free(e->client_key);
    memset(e, 0, sizeof *e);
    e->closed = 1;
}


/* ---------------------------------------------------------------------- Lua */

static engine *check_engine(lua_State *L)
{
    engine *e = (engine *)luaL_checkudata(L, 1, ENGINE);
    const char *fault;
    if (e->closed)
        luaL_error(L, "this engine was closed");
    if ((fault = enter(e)) != NULL)
        luaL_error(L, "%s", fault);
    return e;
}

/* Finalizer and `close`: leaves nothing. */
static int engine_close(lua_State *L)
{
    shut((engine *)luaL_checkudata(L, 1, ENGINE));
    return 0;
}

/* Copies a string option into '*to'; nil leaves it NULL. */
static void copy_option(lua_State *L, const char *name, char **to)
{
    size_t n;
    const char *s;
    lua_getfield(L, 1, name);
    if (!lua_isnil(L, -1)) {
        s = luaL_checklstring(L, -1, &n);
        if (strlen(s) != n)
            luaL_error(L, "option '%s' has a NUL byte", name);
        if ((*to = (char *)malloc(n + 1)) == NULL)
            luaL_error(L, "not enough memory");
        memcpy(*to, s, n + 1);
    }
    lua_pop(L, 1);
}

static void set_url(lua_State *L, engine *e)
{
    lua_getfield(L, 1, "url");
    if ((e->url = curl_url()) == NULL)
        luaL_error(L, "not enough memory");
    if (curl_url_set(e->url, CURLUPART_URL, luaL_checkstring(L, -1),
                     CURLU_PATH_AS_IS) != CURLUE_OK)
        luaL_error(L, "option 'url' is no URL");
    lua_pop(L, 1);
}

/*
** engine(options): options is a table with url, cap (bytes), max_idle
** (seconds), http2 (boolean), proxy, ca_file, client_cert, client_key.
** Leaves the engine.
*/
static int l_engine(lua_State *L)
{
    engine *e;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    e = (engine *)ksms_newuserdata(L, sizeof *e);
    memset(e, 0, sizeof *e);
    ksms_setclass(L, ENGINE);
    set_url(L, e);
    copy_option(L, "proxy", &e->proxy);
    copy_option(L, "ca_file", &e->ca_file);
    copy_option(L, "client_cert", &e->client_cert);
    copy_option(L, "client_key", &e->client_key);
    lua_getfield(L, 1, "cap");
    e->cap = (size_t)luaL_checknumber(L, -1);
    lua_getfield(L, 1, "max_idle");
    e->max_idle = (long)ceil((double)luaL_checknumber(L, -1));
    lua_getfield(L, 1, "http2");
    e->http2 = lua_toboolean(L, -1);
    e->content_type.data = content_type_line;
    lua_settop(L, 2);
    return 1;
}

/*
** engine:submit(token, body, timeout, connect_timeout): starts one POST; both
** times in seconds. Leaves its ticket, a small integer, or nil and a text
** where it could not be started (nothing left then).
*/
static int engine_submit(lua_State *L)
{
    engine *e = check_engine(L);
    size_t token_len, body_len;
    const char *token = luaL_checklstring(L, 2, &token_len);
    const char *body = luaL_checklstring(L, 3, &body_len);
    double timeout = luaL_checknumber(L, 4);
    double connect = luaL_checknumber(L, 5) * 1000;
    const char *fault;
    slot *s;
    luaL_argcheck(L, ksms_is_token(token, token_len), 2,
                  "a token has visible ASCII characters only");
    luaL_argcheck(L, body_len <= REQUEST_MAX, 3, "too long for a message");
    s = new_slot(e);
    if (s == NULL || !set_token(s, token, token_len)) {
        if (s != NULL)
            free_slot(s);
        lua_pushnil(L);
        lua_pushliteral(L, "not enough memory");
        return 2;
    }
    memcpy(s->request, body, body_len);
    s->request_len = body_len;
    s->begun = monotonic();
    s->deadline = s->begun + timeout;
    s->connect_wanted = connect < 1 ? 1 : connect > 1e9 ? 1000000000L
                                                        : (long)connect;
    s->fresh = 0;
    if ((fault = launch(s)) != NULL) {
        free_slot(s);
        lua_pushnil(L);
        lua_pushstring(L, fault);
        return 2;
    }
    lua_pushinteger(L, s->number);
    return 1;
}

/*
** The caller was busy elsewhere while answers waited. What the transfers lost
** by that is given back to them, so that nothing times out which nobody read.
*/
static void make_up(engine *e)
{
    double now = monotonic();
    int i;
    if (e->flying == 0 || e->left == 0 || now - e->left < ABSENCE)
        return;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        double lost = now - (s->begun > e->left ? s->begun : e->left);
        if (s->state != FLYING || lost < ABSENCE)
            continue;
        s->deadline += lost;
        s->timeout += (long)(lost * 1000);
        s->connect_timeout += (long)(lost * 1000);
        e->extended = 1;
        /* Where libcurl refuses, the transfer keeps its old time. */
        (void)curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, s->timeout);
        (void)curl_easy_setopt(s->easy, CURLOPT_CONNECTTIMEOUT_MS,
                               s->connect_timeout);
    }
}

/* Milliseconds to wait at most: libcurl wakes at the old deadlines only. */
static double until_deadline(engine *e, double ms)
{
    double now = monotonic();
    int i;
    for (i = 0; i < e->count; i++) {
        const slot *s = e->slots[i];
        double left = ceil((s->deadline - now) * 1000) + 1;
        if (s->state == FLYING && left < ms)
            ms = left < 1 ? 1 : left;
    }
    return ms;
}

/*
** engine:step(seconds): moves every transfer on; waits up to 'seconds' where
** none has ended yet, without using the CPU. Leaves true where there is
** something to take.
*/
static int engine_step(lua_State *L)
{
    engine *e = check_engine(L);
    double ms = ceil((double)luaL_checknumber(L, 2) * 1000);
    make_up(e);
    perform(e);
    if (e->flying == 0)
        e->extended = 0;
    if (e->done == NULL && ms > 0) {
        int wait;
        if (e->extended)
            ms = until_deadline(e, ms);
        wait = ms > 1e9 ? 1000000000 : (int)ms;
        if (curl_multi_poll(e->multi, NULL, 0, wait, NULL) != CURLM_OK)
            fail_all(e);
        else if (e->flying > 0)
            perform(e);
    }
    e->left = monotonic();
    lua_pushboolean(L, e->done != NULL);
    return 1;
}

/* How far a transfer had come: "resolve", "connect", "proxy" or "tls". */
static const char *phase(const slot *s)
{
    curl_off_t resolved = 0, connected = 0, secured = 0;
    long answer = 0;
    if (s->easy == NULL
        || curl_easy_getinfo(s->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved)
           != CURLE_OK
        || curl_easy_getinfo(s->easy, CURLINFO_CONNECT_TIME_T, &connected)
           != CURLE_OK
        || curl_easy_getinfo(s->easy, CURLINFO_APPCONNECT_TIME_T, &secured)
           != CURLE_OK
        || curl_easy_getinfo(s->easy, CURLINFO_HTTP_CONNECTCODE, &answer)
           != CURLE_OK)
        return "connect";
    if (resolved == 0)
        return "resolve";
    if (connected == 0)
        return "connect";
    if (s->owner->proxy != NULL && answer / 100 != 2)
        return "proxy";
    return "tls";
}

/* What to tell people about a failed transfer. */
static const char *failure_text(const slot *s)
{
    if (s->fault != NULL)
        return s->fault;
    if (s->lost)
        return "the transfer was given up";
    if (s->starts > 0 && s->code == CURLE_ABORTED_BY_CALLBACK)
        return "the connection died without an answer";
    return s->error[0] != '\0' ? s->error : curl_easy_strerror(s->code);
}

static void push_field(lua_State *L, const char *s)
{
    if (s[0] != '\0')
        lua_pushstring(L, s);
    else
        lua_pushnil(L);
}

/*
** engine:take(likely): the next ended transfer. Leaves nil where there is
** none; ticket, 0, status, body, Retry-After or nil, Date or nil, starts for
** a reply, whose body is the string 'likely' itself where they are equal (one
** platform says the same thing over and over, and a new string costs); ticket, libcurl's code, text, starts, phase, refused (true where a
** reply was refused for what it held), late (true where the deadline has
** passed) for a failure.
*/
static int engine_take(lua_State *L)
{
    engine *e = check_engine(L);
    slot *s = e->done;
    if (s == NULL)
        return 0;
    lua_settop(L, 2);
    lua_pushinteger(L, s->number);
    lua_pushinteger(L, (lua_Integer)s->code);
    if (s->code == CURLE_OK) {
        size_t n = 0;
        const char *likely = lua_type(L, 2) == LUA_TSTRING
                           ? lua_tolstring(L, 2, &n) : NULL;
        lua_pushinteger(L, s->head.status);
        if (likely != NULL && n == s->body_len && n > 0
            && memcmp(likely, s->body, n) == 0)
            lua_pushvalue(L, 2);
        else
            lua_pushlstring(L, s->body != NULL ? s->body : "", s->body_len);
        push_field(L, s->head.retry_after);
        push_field(L, s->head.date);
        lua_pushinteger(L, s->starts);
    } else {
        lua_pushstring(L, failure_text(s));
#if !HAVE_PREREQ
        /* A write that failed half-way is not reported as one. */
        if (s->starts == 0 && s->code == CURLE_SEND_ERROR)
            s->starts = 1;
#endif
        lua_pushinteger(L, s->starts);
        lua_pushstring(L, phase(s));
        lua_pushboolean(L, s->fault != NULL);
        lua_pushboolean(L, monotonic() >= s->deadline);
    }
    e->done = s->next;
    free_slot(s);
    return lua_gettop(L) - 2;
}

/*
** engine:cancel(ticket): gives up a transfer that was not taken yet. Leaves
** the number of its starts; nil where no such transfer is in the air.
*/
static int engine_cancel(lua_State *L)
{
    engine *e = check_engine(L);
    int number = (int)luaL_checkinteger(L, 2);
    slot *s = number >= 1 && number <= e->count ? e->slots[number - 1] : NULL;
    if (s == NULL || s->state != FLYING)
        return 0;
    ground(s);
    e->flying--;
    free_slot(s);
    lua_pushinteger(L, s->starts);
    return 1;
}

/* engine:flying(): leaves the number of transfers in the air. */
static int engine_flying(lua_State *L)
{
    lua_pushinteger(L, check_engine(L)->flying);
    return 1;
}

/*
** The resolver's threads may outlive the last transfer: libcurl has to stay
** in memory even when the interpreter unloads this module.
*/
static void pin_libcurl(void)
{
    CURL *(*function)(void) = curl_easy_init;
    void *address;
    Dl_info info;
    memcpy(&address, &function, sizeof address);
    if (dladdr(address, &info) != 0 && info.dli_fname != NULL)
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
}

/* Leaves the module table. */
KSMS_EXPORT int luaopen_koresms_curl(lua_State *L);
KSMS_EXPORT int luaopen_koresms_curl(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"submit", engine_submit},
        {"step", engine_step},
        {"take", engine_take},
        {"cancel", engine_cancel},
        {"flying", engine_flying},
        {"close", engine_close},
        {NULL, NULL}
    };
    ksms_checkversion(L);
    if (!ksms_watch_forks())
        return luaL_error(L, "forks of this process cannot be watched");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return luaL_error(L, "libcurl could not be initialised");
    pin_libcurl();
    ksms_newclass(L, ENGINE, methods, engine_close);
    lua_newtable(L);
    lua_pushcfunction(L, l_engine);
    lua_setfield(L, -2, "engine");
    lua_pushstring(L, curl_version());
    lua_setfield(L, -2, "_LIBCURL");
    lua_pushboolean(L, HAVE_PREREQ);
    lua_setfield(L, -2, "guarded");
    return 1;
}
