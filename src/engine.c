/*
** engine.c - opens koresms.curl: requests in, replies out, over libcurl. It knows no policy: it
** says what came back, whether request bytes began to leave, and how far a failure got. libcurl
** never calls into Lua; what has finished waits in its request until that is asked.
*/
#define _POSIX_C_SOURCE 200809L

#include "engine.h"

#include <assert.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "descriptors.h"
#include "module.h"
#include "post.h"
#include "sigpipe.h"

#define ENGINE "koresms.engine"

void ksms_abandon(ksms_request *r, const char *text)
{
    r->connection->request = NULL;
    r->connection = NULL;
    r->state = KSMS_FINISHED;
    r->failure = r->starts > 0 ? "connection_lost" : "cancelled";
    r->text = text;
}

/*
** The first call in a forked child: the connections are the parent's. What was in flight may
** still be sent by the parent: nobody knows here.
*/
static void leave_parent(ksms_engine *e)
{
    int i;
    for (i = 0; i < e->count; i++) {
        ksms_request *r = e->connections[i]->request;
        if (r != NULL) {
            r->starts = 1;
            ksms_abandon(r, "this process was forked while the request was under way");
        }
    }
    ksms_detach_connections(e);
}

void ksms_leave_parent(ksms_engine *e)
{
    if (e->multi != NULL && e->forks != ksms_forks)
        leave_parent(e);
}

/* Makes an open engine ready for this process; 0 where there is no memory. */
static int enter(ksms_engine *e)
{
    ksms_leave_parent(e);
    if (e->multi == NULL) {
        e->multi = curl_multi_init();
        e->forks = ksms_forks;
    }
    return e->multi != NULL;
}

/* Frees a secret. A compiler may leave out what is written to memory that is freed next, but not
   through a volatile pointer. */
static void wipe(char *secret)
{
    volatile char *p = secret;
    while (p != NULL && *p != '\0')
        *p++ = '\0';
    free(secret);
}

/* Frees all that a process owns; works on a zeroed engine and twice. */
static void shut(ksms_engine *e)
{
    struct sigaction pipe;
    ksms_leave_parent(e);
    ksms_hold_sigpipe(&pipe);
    while (e->count > 0) {
        ksms_connection *c = e->connections[e->count - 1];
        if (c->request != NULL)
            ksms_abandon(c->request, "the client was closed");
        ksms_close_connection(c);
    }
    if (e->multi != NULL)
        (void)curl_multi_cleanup(e->multi);
    ksms_release_sigpipe(&pipe);
    curl_url_cleanup(e->url);
    ksms_buffer_free(&e->head);
    free(e->connections);
    free(e->sockets);
    free(e->polled);
    free(e->waited);
    free(e->ready);
    free(e->proxy);
    wipe(e->proxy_user);
    wipe(e->proxy_password);
    free(e->ca_file);
    free(e->client_cert);
    free(e->client_key);
    memset(e, 0, sizeof *e);
}

static ksms_engine *check_engine(lua_State *L)
{
    return (ksms_engine *)luaL_checkudata(L, 1, ENGINE);
}

/***
Closes the engine, and is its finalizer. What is in flight fails with "cancelled" or
"connection_lost". It may be called twice.
@function engine:close
*/
static int engine_close(lua_State *L)
{
    shut(check_engine(L));
    return 0;
}

/* Is what is connected to an address, so that no resolver is asked? */
static int is_address(const ksms_engine *e, const char *url)
{
    const char *host = strstr(e->proxy != NULL ? e->proxy : url, "://");
    host = host != NULL ? host + 3 : "";
    return *host == '[' || strspn(host, "0123456789.") == strcspn(host, ":/");
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
            ksms_no_memory(L);
        memcpy(*to, s, n + 1);
    }
    lua_pop(L, 1);
}

/***
Makes an engine; it connects to one origin. No connection is opened.
@function engine
@tparam table options `url` (the origin, as a URL without path), `head` (of every request, from
  koresms.core's `head`), `reply_max` (bytes of a reply's
  body that are taken), `max_idle` (seconds for which a connection is kept; 0: not at all),
  `max_age` (seconds after which a connection is not used again), and
  where they are wanted `proxy` (scheme, host and port) with `proxy_port`, `proxy_user` and
  `proxy_password`, `ca_file`, `client_cert`, `client_key`
@treturn engine
*/
static int l_engine(lua_State *L)
{
    ksms_engine *e;
    const char *url, *head;
    size_t head_len;
    CURLUcode rc;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    ksms_fill_standard();
    e = (ksms_engine *)ksms_newuserdata(L, sizeof *e);
    memset(e, 0, sizeof *e);
    ksms_setclass(L, ENGINE);
    lua_getfield(L, 1, "url");
    url = luaL_checkstring(L, -1);
    if ((e->url = curl_url()) == NULL)
        return ksms_no_memory(L);
    rc = curl_url_set(e->url, CURLUPART_URL, url, 0);
    if (rc == CURLUE_OUT_OF_MEMORY)
        return ksms_no_memory(L);
    if (rc != CURLUE_OK)
        return luaL_error(L, "option 'url' is not a URL");
    lua_getfield(L, 1, "head");
    head = luaL_checklstring(L, -1, &head_len);
    if (!ksms_buffer_add(&e->head, head, head_len))
        return ksms_no_memory(L);
    copy_option(L, "proxy", &e->proxy);
    copy_option(L, "proxy_user", &e->proxy_user);
    copy_option(L, "proxy_password", &e->proxy_password);
    if (e->proxy != NULL) {
        lua_getfield(L, 1, "proxy_port");
        e->proxy_port = (long)luaL_checkinteger(L, -1);
    }
    copy_option(L, "ca_file", &e->ca_file);
    copy_option(L, "client_cert", &e->client_cert);
    copy_option(L, "client_key", &e->client_key);
    e->direct = strncmp(url, "http:", 5) == 0
                && (e->proxy == NULL || strncmp(e->proxy, "https:", 6) != 0);
    /* Its socket; the file of certificates; and the pair through which a resolver answers. */
    e->descriptors = 1 + !e->direct + (is_address(e, url) ? 0 : 2);
    assert(e->descriptors <= KSMS_DESCRIPTORS_MAX);
    lua_getfield(L, 1, "reply_max");
    e->reply_max = (size_t)luaL_checknumber(L, -1);
    lua_getfield(L, 1, "max_idle");
    e->max_idle = luaL_checknumber(L, -1);
    lua_getfield(L, 1, "max_age");
    e->max_age = luaL_checknumber(L, -1);
    e->authorities = ksms_get_authorities(L);
    e->open = 1;
    lua_settop(L, 2);
    return 1;
}

/***
Starts a request; where it cannot start, it has finished at once. Raises only where there is no
memory: nothing has left then, and the request can be used again.
@function engine:start
@tparam request request one that is not in flight
@tparam string token for the header `auth`, as it is: koresms.config and koresms.client see to it that
  nothing but visible ASCII characters gets here
@tparam string body
@tparam number deadline on the clock of koresms.core: no request begins after it
@tparam number connect_timeout seconds
@tparam[opt] number start_by when its first byte leaves at the latest, where that is before the
  deadline
@treturn boolean whether it has finished already
*/
static int engine_start(lua_State *L)
{
    ksms_text head, token, body;
    double deadline = luaL_checknumber(L, 5), connect = luaL_checknumber(L, 6) * 1000;
    double start_by = luaL_optnumber(L, 7, deadline);
    ksms_request *r = (ksms_request *)luaL_checkudata(L, 2, KSMS_REQUEST);
    ksms_engine *e = check_engine(L);
    struct sigaction pipe;
    int ok;
    token.s = luaL_checklstring(L, 3, &token.n);
    body.s = luaL_checklstring(L, 4, &body.n);
    luaL_argcheck(L, r->state != KSMS_IN_FLIGHT, 2, "in flight already");
    r->state = KSMS_UNUSED;
    r->starts = r->reused = 0;
    r->sent = 0;
    r->failure = r->text = NULL;
    r->code = CURLE_OK;
    r->error[0] = '\0';
    if (!e->open) {
        r->state = KSMS_FINISHED;
        r->failure = "cancelled";
        r->text = "the client was closed";
        lua_pushboolean(L, 1);
        return 1;
    }
    r->deadline = deadline;
    r->start_by = start_by < deadline ? start_by : deadline;
    r->connect_timeout = connect < 1 ? 1 : connect > 1e9 ? 1000000000L : (long)connect;
    r->out.n = 0;
    ksms_reader_start(&r->reader, e->reply_max);
    head.s = e->head.bytes;
    head.n = e->head.n;
    if (!ksms_buffer_reserve(&r->out, ksms_post_size(&head, &token, &body)))
        return ksms_no_memory(L);
    r->out.n = ksms_write_post(r->out.bytes, &head, &token, &body);
    ksms_hold_sigpipe(&pipe);
    ok = enter(e) && ksms_begin(e, r);
    ksms_release_sigpipe(&pipe);
    if (!ok)
        return ksms_no_memory(L);
    lua_pushboolean(L, r->state == KSMS_FINISHED);
    return 1;
}

/***
Moves every request on. Where none has finished, waits until one can go on, without using the CPU.
@function engine:step
@tparam number seconds to wait at most
*/
static int engine_step(lua_State *L)
{
    double ms = ceil((double)luaL_checknumber(L, 2) * 1000);
    ksms_engine *e = check_engine(L);
    struct sigaction pipe;
    if (!e->open)
        return 0;
    ksms_hold_sigpipe(&pipe);
    if (enter(e))
        ksms_step(e, ms);
    else /* nothing is in flight */
        (void)poll(NULL, 0, ms > 1000 ? 1000 : (int)ms);
    ksms_release_sigpipe(&pipe);
    return 0;
}

/***
How many requests wait for their connection: nothing of them has left yet.
@function engine:connecting
@treturn number
*/
static int engine_connecting(lua_State *L)
{
    ksms_engine *e = check_engine(L);
    ksms_leave_parent(e);
    lua_pushinteger(L, e->connecting);
    return 1;
}

/***
How many requests are in flight, those that wait for their connection included.
@function engine:in_flight
@treturn number
*/
static int engine_in_flight(lua_State *L)
{
    ksms_engine *e = check_engine(L);
    int i, count = 0;
    ksms_leave_parent(e);
    for (i = 0; i < e->count; i++)
        count += e->connections[i]->request != NULL;
    lua_pushinteger(L, count);
    return 1;
}

static const luaL_Reg engine_methods[] = {
    {"start", engine_start},         {"step", engine_step},   {"connecting", engine_connecting},
    {"in_flight", engine_in_flight}, {"close", engine_close}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"engine", l_engine},
    {NULL, NULL},
};

/* Leaves the module table. */
KSMS_EXPORT int luaopen_koresms_curl(lua_State *L);
KSMS_EXPORT int luaopen_koresms_curl(lua_State *L)
{
    ksms_open_module(L, luaopen_koresms_curl);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return luaL_error(L, "libcurl could not be initialised");
    /* The resolver's threads may outlive the last request. */
    ksms_open_authorities(L, ksms_keep_library((void (*)(void))curl_easy_init));
    ksms_newclass(L, ENGINE, engine_methods, engine_close);
    lua_newtable(L);
    ksms_setfuncs(L, functions);
    ksms_open_request_class(L);
    lua_pushstring(L, curl_version());
    lua_setfield(L, -2, "_LIBCURL");
    return 1;
}
